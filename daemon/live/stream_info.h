// What a stream is from its opening to its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace sidewinder::live {

enum class SourceKind { Ingest, File, Device };
enum class EncodingFormat { None, Float32, Float16 };

// Kinds of results, in the order of clients/PROTOCOL.md.
inline constexpr std::size_t kResultKinds = 8;

struct StreamInfo {
  std::string name;
  std::int64_t epoch = 0;
  SourceKind source = SourceKind::Ingest;
  std::string file;    // of a file source; the name of a device
  std::string format;  // "s16le", ...; "file" for a file, "device" for a device
  int rate = 0;        // Hz, the source's
  int channels = 1;
  int channel = 0;  // from 1, or 0 for the mix
  EncodingFormat encodings = EncodingFormat::None;
  std::string owner{};  // name of the key that opened it; empty without keys

  bool operator==(const StreamInfo&) const = default;
};

}  // namespace sidewinder::live
