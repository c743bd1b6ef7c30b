#include "dsp/log_mel.h"

#include <bit>
#include <cmath>
#include <complex>
#include <numbers>
#include <stdexcept>
#include <string>
#include <type_traits>

#include <Eigen/Core>

namespace sidewinder::dsp {
namespace {

static_assert(std::is_trivially_copyable_v<FramerState>);

void require(bool ok, const std::string& rule, const std::string& got) {
  if (!ok) throw std::invalid_argument("log_mel: " + rule + ", got " + got + "; correct the model's config");
}

std::complex<float> unit_root(int k, int n) {  // exp(-2 pi i k / n)
  const double angle = -2.0 * std::numbers::pi * k / n;
  return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
}

double hz_to_mel(double f) {
  return 2595.0 * std::log10(1.0 + f / 700.0);
}
double mel_to_hz(double m) {
  return 700.0 * (std::pow(10.0, m / 2595.0) - 1.0);
}

// One radix-4 pass of Stockham's autosort FFT (decimation in frequency; C. Van Loan, Computational Frameworks
// for the FFT, 1.7 and 2.4) over split complex arrays. Input i = q + s p (q < s) meets its three fellows
// `quarter` apart; results 4 p + k leave s apart. `lanes` butterflies at a time; lanes divides s.
//   w: (quarter / s, 8) real and imaginary parts of 1, r^p, r^2p, r^3p with r = exp(-2 pi i s / (4 quarter))
template <int lanes>
void radix4(const float* xr, const float* xi, float* yr, float* yi, const float* w, std::size_t quarter,
            std::size_t s) noexcept {
  using Vector = Eigen::Array<float, lanes, 1>;
  for (std::size_t i = 0; i < quarter; i += lanes) {
    const auto get = [=](const float* x, std::size_t k) {
      return Eigen::Map<const Vector>(x + i + k * quarter);
    };
    const Vector sum02r = get(xr, 0) + get(xr, 2), sum02i = get(xi, 0) + get(xi, 2);
    const Vector dif02r = get(xr, 0) - get(xr, 2), dif02i = get(xi, 0) - get(xi, 2);
    const Vector sum13r = get(xr, 1) + get(xr, 3), sum13i = get(xi, 1) + get(xi, 3);
    const Vector dif13r = get(xr, 1) - get(xr, 3), dif13i = get(xi, 1) - get(xi, 3);
    const std::size_t q = i % s, p = i / s;
    const auto put = [=](std::size_t k, const Vector& re, const Vector& im) {
      const float wr = w[8 * p + 2 * k], wi = w[8 * p + 2 * k + 1];
      Eigen::Map<Vector>(yr + q + s * (4 * p + k)) = re * wr - im * wi;
      Eigen::Map<Vector>(yi + q + s * (4 * p + k)) = re * wi + im * wr;
    };
    put(0, sum02r + sum13r, sum02i + sum13i);
    put(1, dif02r + dif13i, dif02i - dif13r);
    put(2, sum02r - sum13r, sum02i - sum13i);
    put(3, dif02r - dif13i, dif02i + dif13r);
  }
}

}  // namespace

LogMel::LogMel(const LogMelConfig& config) : config_(config) {
  const auto& c = config_;
  const int fft = c.fft_length;
  require(c.sample_rate > 0, "sample_rate must be above 0 Hz", std::to_string(c.sample_rate));
  require(fft >= 16 && fft <= kMaxFftLength && std::has_single_bit(static_cast<unsigned>(fft)),
          "fft_length must be a power of two in 16.." + std::to_string(kMaxFftLength), std::to_string(fft));
  require(c.window_length >= 2 && c.window_length <= fft, "window_length must be 2..fft_length",
          std::to_string(c.window_length));
  require(c.hop_length >= 1 && c.hop_length <= c.window_length, "hop_length must be 1..window_length",
          std::to_string(c.hop_length));
  require(c.n_mels >= 1 && c.n_mels <= kMaxMels, "n_mels must be 1.." + std::to_string(kMaxMels),
          std::to_string(c.n_mels));
  require(c.f_min >= 0.0 && c.f_min < c.f_max && c.f_max <= 0.5 * c.sample_rate,
          "0 <= f_min < f_max <= sample_rate / 2 must hold",
          std::to_string(c.f_min) + " and " + std::to_string(c.f_max) + " Hz");
  require(static_cast<float>(c.log_floor) > 0.0f && std::isfinite(static_cast<float>(c.log_floor)),
          "log_floor must be a finite float above 0", std::to_string(c.log_floor));

  for (int n = 0; n < c.window_length; ++n) {
    const double phase = 2.0 * std::numbers::pi * n / (c.window_length - 1);
    window_.push_back(static_cast<float>(0.5 - 0.5 * std::cos(phase)));
  }

  const int half = fft / 2;  // a real FFT of fft samples is a complex one of half as many
  for (int s = 1; 4 * s <= half; s *= 4) {
    for (int p = 0; p < half / 4 / s; ++p) {
      for (int k = 0; k <= 3; ++k) {
        const auto w = unit_root(k * p * s, half);
        twiddles_.insert(twiddles_.end(), {w.real(), w.imag()});
      }
    }
  }
  for (int k = 0; k < half; ++k) {
    split_re_.push_back(unit_root(k, fft).real());
    split_im_.push_back(unit_root(k, fft).imag());
  }

  const double mel_min = hz_to_mel(c.f_min), mel_max = hz_to_mel(c.f_max);
  const auto corner = [&](int i) { return mel_to_hz(mel_min + (mel_max - mel_min) * i / (c.n_mels + 1)); };
  for (int m = 0; m < c.n_mels; ++m) {
    const double low = corner(m), peak = corner(m + 1), high = corner(m + 2);
    Filter filter{0, filter_weights_.size(), 0};
    for (int k = 0; k <= half; ++k) {
      const double f = static_cast<double>(k) * c.sample_rate / fft;
      const double weight = std::min((f - low) / (peak - low), (high - f) / (high - peak));
      if (weight <= 0.0) continue;
      if (filter.count++ == 0) filter.bin = static_cast<std::size_t>(k);
      filter_weights_.push_back(static_cast<float>(weight));
    }
    filters_.push_back(filter);
  }
}

void LogMel::power_spectrum(const float* samples, LogMelScratch& scratch) const noexcept {
  const auto half = static_cast<std::size_t>(config_.fft_length) / 2;
  const auto window = static_cast<std::size_t>(config_.window_length);
  // Even samples as real parts, odd ones as imaginary parts.
  float *re = scratch.re[0].data(), *im = scratch.im[0].data();
  float *re2 = scratch.re[1].data(), *im2 = scratch.im[1].data();
  const std::size_t pairs = window / 2;
  for (std::size_t n = 0; n < pairs; ++n) {
    re[n] = samples[2 * n] * window_[2 * n];
    im[n] = samples[2 * n + 1] * window_[2 * n + 1];
  }
  std::fill(re + pairs, re + half, 0.0f);
  std::fill(im + pairs, im + half, 0.0f);
  if (window % 2 != 0) re[pairs] = samples[window - 1] * window_[window - 1];

  const float* w = twiddles_.data();
  std::size_t s = 1;
  for (; 4 * s <= half; s *= 4) {
    const auto pass = s == 1 ? radix4<1> : s == 4 ? radix4<4> : radix4<8>;
    pass(re, im, re2, im2, w, half / 4, s);
    w += 8 * (half / 4 / s);
    std::swap(re, re2);
    std::swap(im, im2);
  }
  if (s < half) {  // half is twice a power of four: one pass of pairs is left
    for (std::size_t q = 0; q < s; ++q) {
      re2[q] = re[q] + re[q + s];
      im2[q] = im[q] + im[q + s];
      re2[q + s] = re[q] - re[q + s];
      im2[q + s] = im[q] - im[q + s];
    }
    std::swap(re, re2);
    std::swap(im, im2);
  }

  // With E, O the transforms of even and odd samples, Z = E + i O and X[k] = E[k] + r^k O[k].
  const float* __restrict zr = re, * __restrict zi = im;
  const float* __restrict wr = split_re_.data(), * __restrict wi = split_im_.data();
  float* __restrict power = scratch.power.data();
  for (std::size_t k = 1; k < half; ++k) {
    const float even_r = 0.5f * (zr[k] + zr[half - k]), even_i = 0.5f * (zi[k] - zi[half - k]);
    const float odd_r = 0.5f * (zi[k] + zi[half - k]), odd_i = 0.5f * (zr[half - k] - zr[k]);
    const float xr = even_r + odd_r * wr[k] - odd_i * wi[k];
    const float xi = even_i + odd_r * wi[k] + odd_i * wr[k];
    power[k] = xr * xr + xi * xi;
  }
  power[0] = (re[0] + im[0]) * (re[0] + im[0]);
  power[half] = (re[0] - im[0]) * (re[0] - im[0]);
}

void LogMel::frame(const float* samples, float* mel, LogMelScratch& scratch) const noexcept {
  power_spectrum(samples, scratch);
  const float floor = static_cast<float>(config_.log_floor);
  for (std::size_t m = 0; m < filters_.size(); ++m) {
    const float* power = scratch.power.data() + filters_[m].bin;
    const float* weights = filter_weights_.data() + filters_[m].weight;
    float energy = 0.0f;
    for (std::size_t i = 0; i < filters_[m].count; ++i) energy += weights[i] * power[i];
    scratch.energy[m] = energy + floor;
  }
  // Whole lanes of a fixed size: over a run of any length Eigen takes std::log for the ends, whose bits
  // differ from its vector log's, and where they are depends on the address of `mel`.
  using Lanes = Eigen::Map<Eigen::Array<float, 8, 1>, Eigen::Aligned32>;
  std::fill(scratch.energy.begin() + config_.n_mels, scratch.energy.begin() + (config_.n_mels + 7) / 8 * 8,
            1.0f);
  for (int m = 0; m < config_.n_mels; m += 8) {
    Lanes lanes(scratch.energy.data() + m);
    lanes = lanes.log();
  }
  std::copy_n(scratch.energy.data(), config_.n_mels, mel);
}

Framer::Framer(int window_length, int hop_length)
    : window_(static_cast<std::size_t>(window_length)), hop_(static_cast<std::size_t>(hop_length)) {
  require(window_length >= 1 && window_length <= kMaxFftLength,
          "window_length must be 1.." + std::to_string(kMaxFftLength), std::to_string(window_length));
  require(hop_length >= 1 && hop_length <= window_length, "hop_length must be 1..window_length",
          std::to_string(hop_length));
}

}  // namespace sidewinder::dsp
