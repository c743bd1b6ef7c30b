#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "dsp/resampler.h"
#include "tests/unit/vectors.h"

namespace sidewinder::dsp {
namespace {

const test::Vectors& vectors() {
  static const auto v = test::Vectors::load("golden/dsp_vectors.safetensors");
  return v;
}

// The whole stream, in calls whose lengths `next` chooses; flushed.
template <class Next>
std::vector<float> resample(const ResamplerFilter& filter, const std::vector<float>& in, Next next,
                            ResamplerState state = {}) {
  std::vector<float> out(filter.max_outputs(in.size()) + filter.max_outputs(filter.lookahead()));
  std::size_t written = 0;
  for (std::size_t i = 0; i < in.size();) {
    const std::size_t n = std::min<std::size_t>(next(), in.size() - i);
    const std::size_t count = filter.process(state, {in.data() + i, n}, std::span(out).subspan(written));
    EXPECT_LE(count, filter.max_outputs(n));
    EXPECT_TRUE(filter.valid(state));
    written += count;
    i += n;
  }
  written += filter.flush(state, std::span(out).subspan(written));
  EXPECT_EQ(filter.flush(state, std::span(out).subspan(written)), 0u);
  out.resize(written);
  return out;
}

std::vector<float> resample(const ResamplerFilter& filter, const std::vector<float>& in) {
  return resample(filter, in, [&] { return in.size(); });
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

std::vector<float> sine(double frequency, int rate, std::size_t n) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(std::sin(2.0 * std::numbers::pi * frequency * static_cast<double>(i) / rate));
  }
  return x;
}

// Signal to error in dB, edges of `skip` samples left out.
double snr(const std::vector<float>& got, const std::vector<float>& want, std::size_t skip) {
  double signal = 0.0, error = 0.0;
  for (std::size_t i = skip; i + skip < got.size(); ++i) {
    const double w = static_cast<double>(want[i]), e = static_cast<double>(got[i]) - w;
    signal += w * w;
    error += e * e;
  }
  return 10.0 * std::log10(signal / (error + 1e-30));
}

class ResamplerRates : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(All, ResamplerRates,
                         testing::Values(8'000, 8'001, 11'025, 16'000, 22'050, 24'000, 32'000, 44'100, 44'101,
                                         48'000, 88'200, 96'000, 192'000),
                         testing::PrintToStringParamName());

TEST_P(ResamplerRates, AgreesWithScipyAndIdealSinc) {
  const std::string name = "resample." + std::to_string(GetParam());
  const auto out = resample(ResamplerFilter(GetParam()), vectors().pcm(name + ".input"));
  const auto polyphase = vectors().floats(name + ".polyphase"), ideal = vectors().floats(name + ".ideal");
  ASSERT_EQ(out.size(), polyphase.size());
  float worst = 0.0f;
  for (std::size_t i = 0; i < out.size(); ++i) worst = std::max(worst, std::abs(out[i] - polyphase[i]));
  EXPECT_LT(worst, 1e-6f);
  EXPECT_GT(snr(out, ideal, 0), 83.0);
  RecordProperty("worst_1e9", static_cast<int>(1e9f * worst));
  RecordProperty("snr_db", std::to_string(snr(out, ideal, 0)));
}

TEST_P(ResamplerRates, SinesInThePassbandKeepLevelAndTime) {
  const int rate = GetParam();
  const ResamplerFilter filter(rate);
  for (const double part : {0.01, 0.3, 0.6, 0.9}) {
    const double frequency = part * std::min(rate, 16'000) / 2;
    const auto out = resample(filter, sine(frequency, rate, static_cast<std::size_t>(rate) / 4));
    EXPECT_GT(snr(out, sine(frequency, 16'000, out.size()), 200), 80.0) << frequency << " Hz";
  }
}

// Going down, a tone above 8.8 kHz must vanish. (Going up, images would show in the test above: its error is
// all that is not the tone.)
TEST_P(ResamplerRates, AliasesAreRejected) {
  const int rate = GetParam();
  const ResamplerFilter filter(rate);
  for (double frequency = 8'800.0; frequency < 0.49 * rate; frequency *= 1.17) {
    const auto out = resample(filter, sine(frequency, rate, static_cast<std::size_t>(rate) / 4));
    double power = 0.0;
    for (std::size_t i = 200; i + 200 < out.size(); ++i) power += static_cast<double>(out[i] * out[i]);
    EXPECT_LT(10.0 * std::log10(2.0 * power / static_cast<double>(out.size() - 400)), -84.0)
        << frequency << " Hz";
  }
}

TEST_P(ResamplerRates, SameBitsForAnyChunking) {
  const ResamplerFilter filter(GetParam());
  const auto in = noise(5'003, 1);
  const auto whole = resample(filter, in);
  EXPECT_TRUE(same_bits(whole, resample(filter, in, [] { return 1; })));
  for (unsigned seed = 0; seed < 5; ++seed) {
    std::mt19937 random(seed);
    EXPECT_TRUE(
        same_bits(whole, resample(filter, in, [&] { return 1 + random() % (seed % 2 ? 17 : 2'500); })));
  }
  // Nor does the address of the samples matter.
  for (std::size_t shift = 0; shift < 16; ++shift) {
    std::vector<float> shifted(in.size() + shift), out(whole.size());
    std::copy(in.begin(), in.end(), shifted.data() + shift);
    ResamplerState state;
    const auto n = filter.process(state, {shifted.data() + shift, in.size()}, out);
    filter.flush(state, std::span(out).subspan(n));
    EXPECT_TRUE(same_bits(whole, out)) << shift;
  }
}

TEST_P(ResamplerRates, StateMovesToAnotherObject) {
  const ResamplerFilter first(GetParam()), second(GetParam());
  const auto in = noise(4'001, 2);
  const auto whole = resample(first, in);
  for (const std::size_t cut : {0u, 1u, 63u, 1'024u, 2'999u}) {
    std::vector<float> out(whole.size());
    ResamplerState a;
    const std::size_t n = first.process(a, {in.data(), cut}, out);
    alignas(ResamplerState) unsigned char capsule[sizeof(ResamplerState)];
    std::memcpy(capsule, &a, sizeof a);
    ResamplerState b;
    std::memcpy(&b, capsule, sizeof b);
    ASSERT_TRUE(second.valid(b));
    const auto rest = resample(
        second, {in.begin() + static_cast<std::ptrdiff_t>(cut), in.end()}, [] { return 480; }, b);
    std::copy(rest.begin(), rest.end(), out.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_EQ(n + rest.size(), whole.size());
    EXPECT_TRUE(same_bits(whole, out)) << cut;
    // The state's own bytes do not show how it was fed.
    ResamplerState c;
    std::vector<float> room(whole.size());
    for (std::size_t i = 0; i < cut; ++i) first.process(c, {in.data() + i, 1}, room);
    EXPECT_EQ(std::memcmp(&a, &c, sizeof a), 0) << cut;
  }
}

TEST_P(ResamplerRates, LengthIsCeilOfRatio) {
  const int rate = GetParam();
  const ResamplerFilter filter(rate);
  for (std::size_t n = 0; n < 40; ++n) {
    const std::size_t inputs = n < 20 ? n : n * 97;
    const std::size_t want =
        (inputs * 16'000 + static_cast<std::size_t>(rate) - 1) / static_cast<std::size_t>(rate);
    EXPECT_EQ(resample(filter, std::vector<float>(inputs)).size(), want) << inputs;
    EXPECT_EQ(filter.total_outputs(inputs), want);
  }
}

TEST_P(ResamplerRates, SameBitsAfterTenThousandHours) {
  const int rate = GetParam();
  const ResamplerFilter filter(rate);
  const auto in = noise(3'000, 3);
  const auto second = static_cast<std::uint64_t>(rate);
  std::vector<float> early(filter.max_outputs(in.size())), late(early.size());
  ResamplerState a, b;
  // Whole seconds repeat the phase. The history is silence.
  a.inputs = 10 * second;
  b.inputs = 36'000'000 * second;
  a.outputs = filter.ready_outputs(a.inputs);
  b.outputs = filter.ready_outputs(b.inputs);
  ASSERT_TRUE(filter.valid(b));
  EXPECT_EQ(filter.process(a, in, early), filter.process(b, in, late));
  EXPECT_TRUE(same_bits(early, late));
  EXPECT_EQ(b.outputs - 36'000'000ull * 16'000, a.outputs - 10 * 16'000);
}

TEST_P(ResamplerRates, NanStaysLocal) {
  const int rate = GetParam();
  const ResamplerFilter filter(rate);
  auto in = noise(6'000, 4);
  const auto clean = resample(filter, in);
  in[3'000] = std::numeric_limits<float>::quiet_NaN();
  const auto out = resample(filter, in);
  ASSERT_EQ(out.size(), clean.size());
  const double centre = 3'000.0 * 16'000 / rate,
               reach = static_cast<double>(filter.lookahead()) * 16'000 / rate + 1.0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::abs(static_cast<double>(i) - centre) > reach) {
      ASSERT_EQ(out[i], clean[i]) << i;
    }
  }
}

TEST(Resampler, EqualRatesPassEveryBit) {
  auto in = noise(1'000, 5);
  in[10] = std::numeric_limits<float>::quiet_NaN();
  in[11] = -0.0f;
  in[12] = std::numeric_limits<float>::denorm_min();
  EXPECT_TRUE(same_bits(in, resample(ResamplerFilter(16'000), in)));
  EXPECT_TRUE(same_bits(in, resample(ResamplerFilter(44'100, 44'100), in)));
}

TEST(Resampler, OtherOutputRates) {
  for (const auto& [from, to] :
       {std::pair{16'000, 48'000}, {48'000, 8'000}, {96'000, 8'000}, {44'100, 48'000}}) {
    const auto out =
        resample(ResamplerFilter(from, to), sine(1'000.0, from, static_cast<std::size_t>(from) / 10));
    EXPECT_GT(snr(out, sine(1'000.0, to, out.size()), static_cast<std::size_t>(to) / 50), 84.0)
        << from << " " << to;
  }
}

TEST(Resampler, GoesOnAfterFlush) {
  const ResamplerFilter filter(48'000);
  const auto in = noise(2'000, 6);
  const auto whole = resample(filter, in);
  std::vector<float> out(whole.size());
  ResamplerState state;
  std::size_t n = filter.process(state, {in.data(), 1'000}, out);
  n += filter.flush(state, std::span(out).subspan(n));
  EXPECT_EQ(n, 334u);
  EXPECT_TRUE(filter.valid(state));
  const std::size_t more = filter.process(state, {in.data() + 1'000, 1'000}, std::span(out).subspan(n));
  n += more + filter.flush(state, std::span(out).subspan(n + more));
  ASSERT_EQ(n, whole.size());
  for (std::size_t i = 334; i < n; ++i) ASSERT_EQ(out[i], whole[i]);
}

TEST(Resampler, ShortOutputLosesOnlyTheExcess) {
  const ResamplerFilter filter(8'000);
  const auto in = noise(1'000, 7);
  std::vector<float> full(2'000), cut(100);
  ResamplerState a, b;
  filter.process(a, in, full);
  EXPECT_EQ(filter.process(b, in, cut), 100u);
  EXPECT_EQ(std::memcmp(full.data(), cut.data(), 100 * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(&a, &b, sizeof a), 0);
}

TEST(Resampler, RefusesBadRates) {
  for (const int rate : {-1, 0, 7'999, 192'001, std::numeric_limits<int>::max()}) {
    EXPECT_THROW(ResamplerFilter{rate}, std::invalid_argument) << rate;
    EXPECT_THROW(ResamplerFilter(16'000, rate), std::invalid_argument) << rate;
  }
  EXPECT_THROW(ResamplerFilter(192'000, 15'999), std::invalid_argument);
  try {
    ResamplerFilter filter(7'999);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("7999"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("8000..192000"), std::string::npos);
  }
}

TEST(Resampler, RefusesForeignStates) {
  const ResamplerFilter filter(48'000);
  ResamplerState state;
  EXPECT_TRUE(filter.valid(state));
  state.inputs = 48'000;
  EXPECT_FALSE(filter.valid(state));
  state.outputs = 16'001;
  EXPECT_FALSE(filter.valid(state));
  state.outputs = 16'000;
  EXPECT_TRUE(filter.valid(state));
  state.inputs = kMaxResamplerInputs;
  EXPECT_FALSE(filter.valid(state));
}

}  // namespace
}  // namespace sidewinder::dsp
