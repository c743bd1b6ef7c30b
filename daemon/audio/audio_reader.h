// Where recorded audio comes from: a sound file, or PCM on a descriptor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "daemon/audio/pcm.h"

namespace sidewinder {

// An input that can't be read (on). what() says what is wrong and what to do; the caller names the input.
struct AudioError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Thread rule: one thread at a time.
class AudioReader {
 public:
  virtual ~AudioReader() = default;

  int rate() const noexcept { return rate_; }          // Hz, 8,000 to 192,000
  int channels() const noexcept { return channels_; }  // at least 1

  // What the header promises, if it says and can be believed: frames (one sample of every channel).
  std::optional<std::int64_t> expected_frames() const noexcept { return expected_frames_; }

  // Fills `interleaved` (frames, channels) with samples, full scale at -1 and 1; returns frames, 0 only at
  // the end. The frames before a sample that is not finite or over kLoudest are given out first, so that what
  // is heard of a damaged input does not depend on how it was cut into calls; the next call throws
  // AudioError.
  std::size_t read(std::span<float> interleaved);

  std::int64_t frames_read() const noexcept { return frames_read_; }

  // 60 dB over full scale. Float files may go over full scale; one that goes this far is not scaled to it.
  static constexpr float kLoudest = 1000.0f;

  // Once read() has returned 0: what is wrong with the whole, though it could be read (cut short, say).
  virtual std::optional<std::string> defect() const { return std::nullopt; }

 protected:
  // Checks the format and keeps it. Throws AudioError.
  void set_format(int rate, int channels, std::optional<std::int64_t> expected_frames);

  virtual std::size_t read_frames(std::span<float> interleaved) = 0;

 private:
  int rate_ = 0;
  int channels_ = 0;
  std::optional<std::int64_t> expected_frames_;
  std::int64_t frames_read_ = 0;
  std::optional<std::string> bad_sample_;  // what is wrong with the next one
};

// Any format that libsndfile reads. Throws AudioError.
std::unique_ptr<AudioReader> open_sound_file(const std::filesystem::path& file);

// Samples without a header, or a WAV stream where `raw` is not given, from a descriptor that need not be
// seekable. It ends where the descriptor does, or as soon as `stop`, another descriptor (-1: none), becomes
// readable. Both stay the caller's. Throws AudioError.
std::unique_ptr<AudioReader> open_pcm_stream(int descriptor, std::optional<PcmFormat> raw, int stop = -1);

}  // namespace sidewinder
