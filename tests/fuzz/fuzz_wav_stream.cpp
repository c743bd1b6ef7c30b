// Any bytes on standard input: refused with an AudioError, or read to the end in samples that an engine can
// take. The first byte chooses the header or a raw format.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "daemon/audio/audio_reader.h"

namespace {

// A file in memory with the bytes, read from its start.
struct MemoryFile {
  MemoryFile(const std::uint8_t* data, std::size_t size) : descriptor(::memfd_create("fuzz", 0)) {
    if (::write(descriptor, data, size) != static_cast<ssize_t>(size)) std::abort();
    ::lseek(descriptor, 0, SEEK_SET);
  }
  ~MemoryFile() { ::close(descriptor); }
  int descriptor;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sidewinder;
  if (size == 0) return 0;
  std::optional<PcmFormat> raw;
  if (data[0] < 6) raw = PcmFormat{static_cast<SampleFormat>(data[0]), 16000, 1 + data[0] % 3};
  MemoryFile file(data + 1, size - 1);
  try {
    auto reader = open_pcm_stream(file.descriptor, raw);
    std::vector<float> block(static_cast<std::size_t>(reader->channels()) * 7);
    std::int64_t frames = 0;
    while (std::size_t count = reader->read(block)) {
      frames += static_cast<std::int64_t>(count);
      for (std::size_t i = 0; i < count * static_cast<std::size_t>(reader->channels()); ++i)
        if (!(std::abs(block[i]) <= AudioReader::kLoudest)) std::abort();
    }
    if (frames != reader->frames_read()) std::abort();
    if (frames > static_cast<std::int64_t>(size)) std::abort();
    if (reader->expected_frames() && frames > *reader->expected_frames()) std::abort();
    if (frames == 0 && !reader->defect()) std::abort();
  } catch (const AudioError&) {
  }
  return 0;
}
