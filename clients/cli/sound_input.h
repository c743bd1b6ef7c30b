// PCM from a WAV file, a pipe or raw samples, as it is: the daemon converts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace sidewinder::clients {

struct SoundFormat {
  std::string samples;  // "s16le", ... as the protocol names them
  int rate = 0;         // Hz
  int channels = 1;

  std::size_t frame_bytes() const;
};

bool is_sample_format(const std::string& name);

class SoundInput {
 public:
  // `name` is a file, or - for standard input. Reads the WAV header unless `raw` says what comes.
  // Throws ClientError.
  SoundInput(const std::string& name, std::optional<SoundFormat> raw);
  ~SoundInput();
  SoundInput(const SoundInput&) = delete;
  SoundInput& operator=(const SoundInput&) = delete;

  const SoundFormat& format() const { return format_; }
  int descriptor() const { return descriptor_; }

  // One read: waits if nothing is there (poll descriptor() first). Returns bytes, 0 only at the end.
  // Throws ClientError.
  std::size_t read(std::span<std::byte> bytes);

 private:
  void read_header();
  void read_all(std::span<std::byte> bytes);
  void skip(std::uint64_t bytes);

  std::string name_;
  int descriptor_;
  SoundFormat format_;
  std::optional<std::uint64_t> left_;  // bytes of samples, if the header knows
};

}  // namespace sidewinder::clients
