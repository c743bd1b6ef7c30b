// What sidewinder-capture writes to its standard output, and Capture reads: records of one machine's bytes.
#pragma once

#include <cstdint>

namespace sidewinder {

struct CaptureRecord {
  enum Kind : std::uint32_t {
    Error,    // then text: what is wrong; the last record
    Devices,  // then text: a line a device, fields by tabs: index, channels, rate, default (0, 1), host, name
    Opened,   // `rate` and `channels`, then the device's name
    Audio,    // then float32 samples (frames, channels), which come after `lost` frames that never will
  };
  Kind kind = Error;
  std::uint32_t bytes = 0;  // that follow; at most kMostBytes
  std::int32_t rate = 0;    // Hz
  std::int32_t channels = 0;
  std::uint64_t lost = 0;      // frames
  std::uint64_t overruns = 0;  // so far

  static constexpr std::uint32_t kMostBytes = 1 << 20;
};

}  // namespace sidewinder
