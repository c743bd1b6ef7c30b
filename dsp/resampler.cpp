#include "dsp/resampler.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace sidewinder::dsp {
namespace {

static_assert(std::is_trivially_copyable_v<ResamplerState>);

constexpr double kAttenuation = 90.0;  // dB
constexpr double kBeta = 0.1102 * (kAttenuation - 8.7);
constexpr double kTransition = 0.2;    // of the lower Nyquist frequency, centred on it
constexpr std::size_t kBlock = 1'024;  // input samples a pass
constexpr int kLanes = 32;  // partial sums a dot product (hides the adder's latency); taps are a multiple
using Lanes = Eigen::Array<float, kLanes, 1>;

void check_rate(const char* name, int rate) {
  if (rate >= kMinSampleRate && rate <= kMaxSampleRate) return;
  throw std::invalid_argument(std::string("resampler: ") + name + " rate " + std::to_string(rate) +
                              " Hz is outside " + std::to_string(kMinSampleRate) + ".." +
                              std::to_string(kMaxSampleRate) +
                              " Hz; open the source at a rate in that range (48000 and 16000 always work)");
}

// Modified Bessel function of order 0 by its power series (all terms positive: no cancellation).
double bessel_i0(double x) {
  double sum = 1.0, term = 1.0;
  for (int k = 1; term > sum * 1e-17; ++k) {
    term *= (x / (2 * k)) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

// h(t) of the header; t in input samples, zero from |t| = half on.
double kernel(double t, double half, double cutoff) {
  static const double peak = bessel_i0(kBeta);
  if (std::abs(t) >= half) return 0.0;
  const double r = t / half;
  const double angle = std::numbers::pi * cutoff * t;
  const double sinc = t == 0.0 ? 1.0 : std::sin(angle) / angle;
  return cutoff * sinc * bessel_i0(kBeta * std::sqrt(1.0 - r * r)) / peak;
}

// The order of the additions is fixed by kLanes; unaligned loads, so alignment cannot change it.
float dot(const float* x, const float* taps, std::size_t n) noexcept {
  Lanes sum = Lanes::Zero();
  for (std::size_t i = 0; i < n; i += kLanes) {
    sum += Eigen::Map<const Lanes>(x + i) * Eigen::Map<const Lanes>(taps + i);
  }
  return sum.sum();
}

}  // namespace

ResamplerFilter::ResamplerFilter(int input_rate, int output_rate)
    : input_rate_(input_rate), output_rate_(output_rate) {
  check_rate("input", input_rate);
  check_rate("output", output_rate);
  if (input_rate > kMaxDecimation * output_rate) {
    throw std::invalid_argument("resampler: " + std::to_string(input_rate) + " Hz is more than " +
                                std::to_string(kMaxDecimation) + " times the output rate of " +
                                std::to_string(output_rate) + " Hz; go through a rate between the two");
  }
  const int divisor = std::gcd(input_rate, output_rate);
  l_ = static_cast<std::uint64_t>(output_rate / divisor);
  m_ = static_cast<std::uint64_t>(input_rate / divisor);
  if (l_ == m_) return;

  const double cutoff = std::min(1.0, static_cast<double>(output_rate) / input_rate);
  const double wanted = (kAttenuation - 7.95) / (2.285 * std::numbers::pi * kTransition * cutoff) + 1.0;
  half_ = static_cast<std::uint64_t>(std::ceil(wanted / kLanes)) * (kLanes / 2);
  interpolate_ = l_ > kMaxResamplerPhases;
  const auto phases = static_cast<Eigen::Index>(interpolate_ ? kMaxResamplerPhases : l_);
  table_.resize(phases + (interpolate_ ? 1 : 0), static_cast<Eigen::Index>(taps()));
  const double half = static_cast<double>(half_);
  for (Eigen::Index p = 0; p < table_.rows(); ++p) {
    const double fraction = static_cast<double>(p) / static_cast<double>(phases);
    for (Eigen::Index j = 0; j < table_.cols(); ++j) {
      // Tap j meets sample floor(time) - W + 1 + j.
      table_(p, j) = static_cast<float>(kernel(fraction + half - 1.0 - static_cast<double>(j), half, cutoff));
    }
  }
}

float ResamplerFilter::output(const float* window, std::uint64_t phase) const noexcept {
  const auto row = [this](std::uint64_t p) { return table_.data() + p * taps(); };
  if (!interpolate_) return dot(window, row(phase), taps());
  const std::uint64_t scaled = phase * kMaxResamplerPhases;
  const std::uint64_t p = scaled / l_;
  const float weight = static_cast<float>(scaled % l_) / static_cast<float>(l_);
  const float a = dot(window, row(p), taps());
  const float b = dot(window, row(p + 1), taps());
  return a + weight * (b - a);
}

// Writes outputs up to number `end`. buffer[taps()] is input number state.inputs.
std::size_t ResamplerFilter::run(ResamplerState& state, const float* buffer, std::uint64_t end,
                                 std::span<float> out) const noexcept {
  std::size_t written = 0;
  const std::uint64_t position = state.outputs * m_;
  std::uint64_t phase = position % l_;
  // An output still to come needs a sample not yet taken in: position / l_ + half_ >= state.inputs.
  const float* window = buffer + (position / l_ + half_ + 1 - state.inputs);
  for (; state.outputs < end; ++state.outputs) {
    const float y = output(window, phase);
    if (written < out.size()) out[written++] = y;
    window += m_ / l_;
    phase += m_ % l_;
    if (phase >= l_) {
      phase -= l_;
      ++window;
    }
  }
  return written;
}

std::size_t ResamplerFilter::process(ResamplerState& state, std::span<const float> in,
                                     std::span<float> out) const noexcept {
  if (l_ == m_) {
    const std::size_t n = std::min(in.size(), out.size());
    std::copy_n(in.data(), n, out.data());
    state.inputs += in.size();
    state.outputs += in.size();
    return n;
  }
  std::array<float, kMaxResamplerTaps + kBlock> buffer;  // (taps + block): history, then new samples
  std::size_t written = 0;
  while (!in.empty()) {
    const std::size_t n = std::min(in.size(), kBlock);
    std::copy_n(state.history.data(), taps(), buffer.data());
    std::copy_n(in.data(), n, buffer.data() + taps());
    written += run(state, buffer.data(), ready_outputs(state.inputs + n), out.subspan(written));
    std::copy_n(buffer.data() + n, taps(), state.history.data());
    state.inputs += n;
    in = in.subspan(n);
  }
  return written;
}

std::size_t ResamplerFilter::flush(ResamplerState& state, std::span<float> out) const noexcept {
  std::array<float, kMaxResamplerTaps + kMaxResamplerTaps / 2> buffer;  // (taps + half): history, then zeros
  std::copy_n(state.history.data(), taps(), buffer.data());
  std::fill_n(buffer.data() + taps(), half_, 0.0f);
  return run(state, buffer.data(), total_outputs(state.inputs), out);
}

bool ResamplerFilter::valid(const ResamplerState& state) const noexcept {
  return state.inputs < kMaxResamplerInputs && state.outputs >= ready_outputs(state.inputs) &&
         state.outputs <= total_outputs(state.inputs);
}

}  // namespace sidewinder::dsp
