// Streaming sample-rate conversion: rational polyphase windowed sinc (Kaiser window).
//
// Output i is the band-limited input at input time i * M / L, where M / L is input rate / output rate in
// lowest terms: no delay, as seen by indices. Every output is one dot product in a fixed order whose phase
// comes from integer counters, so the bits depend on the samples only, never on how they were cut into calls.
//
//   y[i] = sum over n of x[n] h(i M / L - n)
//   h(t) = c sinc(c t) kaiser(t / W), c = min(1, output rate / input rate)
//
// W and the window's beta: J. F. Kaiser's formulas (1974; Oppenheim and Schafer, Discrete-Time Signal
// Processing, 7.5.3) for 90 dB and a transition from 0.9 to 1.1 of the lower of the two Nyquist frequencies
// (7.2 to 8.8 kHz when going down to 16 kHz).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <Eigen/Core>

namespace sidewinder::dsp {

inline constexpr int kMinSampleRate = 8'000;       // Hz
inline constexpr int kMaxSampleRate = 192'000;     // Hz
inline constexpr int kMaxDecimation = 12;          // input rate / output rate
inline constexpr int kMaxResamplerTaps = 704;      // input samples; enough for kMaxDecimation
inline constexpr int kMaxResamplerPhases = 1'024;  // above this, phases are interpolated
inline constexpr std::uint64_t kMaxResamplerInputs = std::uint64_t{1} << 45;  // 5.8 years at 192 kHz

// What one stream carries from call to call. Plain and trivially copyable: copy it out, and any filter of the
// same rates continues it with the same bits. Its bytes too are independent of the chunking.
struct ResamplerState {
  std::uint64_t inputs = 0;                        // input samples taken in
  std::uint64_t outputs = 0;                       // output samples given out
  std::array<float, kMaxResamplerTaps> history{};  // (taps) last inputs, oldest first; zeros before the start
};

// The rates and the table of taps. Built once, then immutable: any number of threads may share one, each call
// with a state of its own. No call allocates or throws after construction.
class ResamplerFilter {
 public:
  // Rates in Hz, both kMinSampleRate..kMaxSampleRate, input at most kMaxDecimation times output.
  // Throws std::invalid_argument otherwise.
  explicit ResamplerFilter(int input_rate, int output_rate = 16'000);

  // Takes in all of `in`, writes the outputs that are now complete and returns how many. `out` needs room for
  // max_outputs(in.size()) and must not overlap `in`; with less room the outputs that do not fit are lost,
  // and those after them keep their place. Equal rates: an exact copy.
  std::size_t process(ResamplerState& state, std::span<const float> in, std::span<float> out) const noexcept;

  // Ends the stream: writes the outputs that wait for later samples, taking zeros for those, so that
  // ceil(inputs L / M) have been written in all. `out` needs room for max_outputs(lookahead()). The state
  // stays usable: a second flush writes nothing, and process() goes on with the samples that follow.
  std::size_t flush(ResamplerState& state, std::span<float> out) const noexcept;

  // Most outputs one call can write for n inputs: ceil(n L / M).
  std::size_t max_outputs(std::size_t n) const noexcept { return static_cast<std::size_t>(total_outputs(n)); }

  // Output samples a stream of `inputs` samples has given, before and after flush().
  std::uint64_t ready_outputs(std::uint64_t inputs) const noexcept {
    return inputs <= lookahead() ? 0 : total_outputs(inputs - lookahead());
  }
  std::uint64_t total_outputs(std::uint64_t inputs) const noexcept { return (inputs * l_ + m_ - 1) / m_; }

  // Whether a state that came from outside (a capsule) can be continued with this filter. process() and
  // flush() trust the counters; a state made by them is always valid below kMaxResamplerInputs.
  bool valid(const ResamplerState& state) const noexcept;

  int input_rate() const noexcept { return input_rate_; }    // Hz
  int output_rate() const noexcept { return output_rate_; }  // Hz
  std::uint64_t lookahead() const noexcept {
    return half_;
  }  // input samples past its own time an output waits for
  std::size_t taps() const noexcept { return 2 * half_; }  // input samples an output sees; 0 for equal rates

 private:
  using Table = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  float output(const float* window, std::uint64_t phase) const noexcept;
  std::size_t run(ResamplerState& state, const float* buffer, std::uint64_t end,
                  std::span<float> out) const noexcept;

  int input_rate_;
  int output_rate_;
  std::uint64_t l_;           // outputs ...
  std::uint64_t m_;           // ... for so many inputs, lowest terms
  std::uint64_t half_ = 0;    // W; a multiple of 16, so that a row of taps is whole lanes
  bool interpolate_ = false;  // l_ > kMaxResamplerPhases
  Table table_;               // (phases, taps), or (kMaxResamplerPhases + 1, taps) when interpolating
};

}  // namespace sidewinder::dsp
