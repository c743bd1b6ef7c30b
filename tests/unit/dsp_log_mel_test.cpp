#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "dsp/log_mel.h"
#include "tests/unit/vectors.h"

namespace sidewinder::dsp {
namespace {

const test::Vectors& vectors() {
  static const auto v = test::Vectors::load("golden/dsp_vectors.safetensors");
  return v;
}

LogMelConfig config_of(const std::string& name) {
  const auto c = vectors().ints("mel." + name + ".config");
  const auto at = [&](std::size_t i) { return static_cast<int>(c[i]); };
  return {at(0), at(1), at(2), at(3), at(4), static_cast<double>(c[5]), static_cast<double>(c[6]), 1e-6};
}

// (frames, mels) of the whole stream, in calls whose lengths `next` chooses.
template <class Next>
std::vector<float> features(const LogMelConfig& config, const std::vector<float>& in, Next next) {
  const LogMel log_mel(config);
  const Framer framer(config.window_length, config.hop_length);
  FramerState state;
  LogMelScratch scratch;
  std::vector<float> out, row(static_cast<std::size_t>(config.n_mels));
  for (std::size_t i = 0; i < in.size();) {
    const std::size_t n = std::min<std::size_t>(next(), in.size() - i);
    framer.process(state, {in.data() + i, n}, [&](const float* samples) {
      log_mel.frame(samples, row.data(), scratch);
      out.insert(out.end(), row.begin(), row.end());
    });
    i += n;
  }
  EXPECT_EQ(state.samples, in.size());
  EXPECT_EQ(out.size(), framer.frames(in.size()) * row.size());
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> noise(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(static_cast<double>(random()) / 2'147'483'648.0 - 1.0);
  return x;
}

class LogMelVectors : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, LogMelVectors, testing::Values("seed", "telephone", "wide"),
                         [](const auto& which) { return which.param; });

TEST_P(LogMelVectors, AgreesWithLibrosa) {
  const auto config = config_of(GetParam());
  const auto in = vectors().pcm("mel." + GetParam() + ".input");
  const auto want = vectors().floats("mel." + GetParam() + ".log_mel");
  const auto got = features(config, in, [&] { return in.size(); });
  ASSERT_EQ(got.size(), want.size());
  ASSERT_EQ(vectors().shape("mel." + GetParam() + ".log_mel").at(1), config.n_mels);
  float worst = 0.0f;
  for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - want[i]));
  EXPECT_LT(worst, 1e-4f);
  RecordProperty("worst_1e9", static_cast<int>(1e9f * worst));
}

TEST_P(LogMelVectors, SameBitsForAnyChunking) {
  const auto config = config_of(GetParam());
  const auto in = vectors().pcm("mel." + GetParam() + ".input");
  const auto whole = features(config, in, [&] { return in.size(); });
  EXPECT_TRUE(same_bits(whole, features(config, in, [] { return 1; })));
  for (unsigned seed = 0; seed < 5; ++seed) {
    std::mt19937 random(seed);
    EXPECT_TRUE(
        same_bits(whole, features(config, in, [&] { return 1 + random() % (seed % 2 ? 31 : 3'000); })));
  }
}

TEST_P(LogMelVectors, SameBitsAtAnyAddress) {
  const auto config = config_of(GetParam());
  const LogMel log_mel(config);
  LogMelScratch scratch;
  const auto x = noise(static_cast<std::size_t>(config.window_length), 3);
  const auto mels = static_cast<std::size_t>(config.n_mels);
  std::vector<float> first(mels), in(x.size() + 16), out(mels + 16);
  log_mel.frame(x.data(), first.data(), scratch);
  for (std::size_t shift = 0; shift < 16; ++shift) {
    std::copy(x.begin(), x.end(), in.data() + shift);
    log_mel.frame(in.data() + shift, out.data() + shift, scratch);
    EXPECT_EQ(std::memcmp(first.data(), out.data() + shift, mels * sizeof(float)), 0) << shift;
  }
}

// Every allowed FFT length against a transform by the definition, through filters one bin wide or nearly so.
TEST(LogMel, EveryFftLengthAgreesWithTheDefinition) {
  for (int fft = 16; fft <= kMaxFftLength; fft *= 2) {
    const LogMelConfig config{16'000, fft, fft, fft, 12, 0.0, 8'000.0, 1e-6};
    const auto x = noise(static_cast<std::size_t>(fft), static_cast<unsigned>(fft));
    std::vector<double> energy(12, 0.0);
    const auto hz = [](int corner) {
      return 700.0 * (std::pow(10.0, std::log10(1.0 + 8'000.0 / 700.0) * corner / 13.0) - 1.0);
    };
    for (int k = 0; k <= fft / 2; ++k) {
      double re = 0.0, im = 0.0;
      for (int n = 0; n < fft; ++n) {
        const double w = 0.5 - 0.5 * std::cos(2.0 * M_PI * n / (fft - 1));
        const double angle = 2.0 * M_PI * ((n * k) % fft) / fft;
        re += w * static_cast<double>(x[static_cast<std::size_t>(n)]) * std::cos(angle);
        im -= w * static_cast<double>(x[static_cast<std::size_t>(n)]) * std::sin(angle);
      }
      const double f = 16'000.0 * k / fft;
      for (int m = 0; m < 12; ++m) {
        const double up = (f - hz(m)) / (hz(m + 1) - hz(m)), down = (hz(m + 2) - f) / (hz(m + 2) - hz(m + 1));
        energy[static_cast<std::size_t>(m)] += std::max(0.0, std::min(up, down)) * (re * re + im * im);
      }
    }
    const auto got = features(config, x, [&] { return x.size(); });
    ASSERT_EQ(got.size(), 12u);
    for (std::size_t m = 0; m < 12; ++m) {
      EXPECT_NEAR(static_cast<double>(got[m]), std::log(energy[m] + 1e-6), 1e-4) << fft << " " << m;
    }
  }
}

TEST(LogMel, SilenceIsTheFloor) {
  const LogMelConfig config;
  for (const float v : features(config, std::vector<float>(400), [] { return 400; })) {
    EXPECT_NEAR(v, std::log(1e-6f), 1e-6f);
  }
}

TEST(LogMel, NanStaysInItsFrames) {
  const LogMelConfig config;
  auto in = noise(8'000, 1);
  const auto clean = features(config, in, [] { return 999; });
  in[4'000] = std::numeric_limits<float>::quiet_NaN();
  in[4'001] = std::numeric_limits<float>::infinity();
  const auto out = features(config, in, [] { return 999; });
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t begin = i / 80 * 160;
    if (begin > 4'001 || begin + 400 <= 4'000) {
      ASSERT_EQ(out[i], clean[i]) << i;
    } else {
      ASSERT_FALSE(std::isfinite(out[i])) << i;
    }
  }
}

TEST(Framer, StateMovesAndShowsNoChunking) {
  const Framer framer(400, 160);
  const auto in = noise(5'000, 2);
  std::vector<float> whole, out;
  const auto append_to = [](std::vector<float>& to) {
    return [&to](const float* samples) { to.insert(to.end(), samples, samples + 400); };
  };
  FramerState once, a;
  framer.process(once, in, append_to(whole));
  framer.process(a, {in.data(), 777}, append_to(out));
  FramerState b;
  std::memcpy(&b, &a, sizeof a);
  EXPECT_EQ(framer.pending(b), 777u - 3 * 160);
  for (std::size_t i = 777; i < in.size(); ++i) framer.process(b, {in.data() + i, 1}, append_to(out));
  EXPECT_TRUE(same_bits(whole, out));
  EXPECT_EQ(std::memcmp(&once, &b, sizeof b), 0);
  for (std::size_t t = 0; t < framer.frames(in.size()); ++t) {
    EXPECT_EQ(std::memcmp(&whole[t * 400], &in[t * 160], 400 * sizeof(float)), 0);
  }
}

TEST(Framer, CountsFrames) {
  const Framer framer(400, 160);
  EXPECT_EQ(framer.frames(0), 0u);
  EXPECT_EQ(framer.frames(399), 0u);
  EXPECT_EQ(framer.frames(400), 1u);
  EXPECT_EQ(framer.frames(559), 1u);
  EXPECT_EQ(framer.frames(560), 2u);
  EXPECT_EQ(framer.frames(400 + 160 * 360'000'000'000ull), 360'000'000'001ull);
}

TEST(LogMel, RefusesBadConfigs) {
  const auto refused = [](auto change) {
    LogMelConfig config;
    change(config);
    EXPECT_THROW(LogMel{config}, std::invalid_argument);
  };
  refused([](auto& c) { c.sample_rate = 0; });
  refused([](auto& c) { c.fft_length = 500; });
  refused([](auto& c) { c.fft_length = 2'048; });
  refused([](auto& c) { c.fft_length = 8; });
  refused([](auto& c) { c.window_length = 513; });
  refused([](auto& c) { c.window_length = 1; });
  refused([](auto& c) { c.hop_length = 0; });
  refused([](auto& c) { c.hop_length = 401; });
  refused([](auto& c) { c.n_mels = 0; });
  refused([](auto& c) { c.n_mels = kMaxMels + 1; });
  refused([](auto& c) { c.f_min = -1.0; });
  refused([](auto& c) { c.f_min = c.f_max; });
  refused([](auto& c) { c.f_max = 8'001.0; });
  refused([](auto& c) { c.f_max = std::nan(""); });
  refused([](auto& c) { c.log_floor = 0.0; });
  EXPECT_THROW(Framer(0, 1), std::invalid_argument);
  EXPECT_THROW(Framer(-1, 1), std::invalid_argument);
  EXPECT_THROW(Framer(1'025, 1), std::invalid_argument);
  EXPECT_THROW(Framer(400, 0), std::invalid_argument);
  EXPECT_THROW(Framer(400, 401), std::invalid_argument);
}

}  // namespace
}  // namespace sidewinder::dsp
