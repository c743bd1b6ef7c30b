#include "tests/load/pcm.h"

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace sidewinder::load {

Recording::Recording(const std::filesystem::path& file, int rate, std::size_t chunk_frames)
    : rate_(rate), chunk_frames_(chunk_frames) {
  std::ifstream in(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (!in)
    throw std::runtime_error(file.string() +
                             ": can't be read; make it with: sox SPEECH -t raw -e signed "
                             "-b 16 -c 1 -r 16000 FILE.pcm");
  frames_ = bytes.size() / sizeof(std::int16_t);
  if (frames_ < chunk_frames)
    throw std::runtime_error(file.string() + ": " + std::to_string(frames_) +
                             " samples are less than one chunk of " + std::to_string(chunk_frames));
  samples_.reserve(frames_ + chunk_frames);
  const auto* byte = reinterpret_cast<const unsigned char*>(bytes.data());
  for (std::size_t i = 0; i < frames_ + chunk_frames; ++i) {
    const std::size_t at = 2 * (i % frames_);
    samples_.push_back(static_cast<std::int16_t>(byte[at] | byte[at + 1] << 8));
  }
}

}  // namespace sidewinder::load
