// The recording that every stream sends: headerless 16-bit little-endian mono PCM, repeated for ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace sidewinder::load {

class Recording {
 public:
  // Reads the whole file, at `rate` Hz. Throws std::runtime_error: can't be read, or shorter than a chunk of
  // `chunk_frames`.
  Recording(const std::filesystem::path& file, int rate, std::size_t chunk_frames);

  // `chunk_frames` samples from frame `position` (modulo the length) on; valid as long as the recording is.
  const void* chunk(std::uint64_t position) const noexcept {
    return samples_.data() + position % static_cast<std::uint64_t>(frames_);
  }

  int rate() const noexcept { return rate_; }                          // Hz
  std::size_t chunk_frames() const noexcept { return chunk_frames_; }  // frames a message
  std::size_t chunk_bytes() const noexcept { return chunk_frames_ * sizeof(std::int16_t); }
  std::size_t frames() const noexcept { return frames_; }  // before it repeats

 private:
  int rate_;
  std::size_t chunk_frames_;
  std::size_t frames_ = 0;
  std::vector<std::int16_t> samples_;  // (frames_ + chunk_frames_): its beginning again, so no chunk is split
};

}  // namespace sidewinder::load
