// The daemon's clock for durations: it never steps.
#pragma once

#include <chrono>
#include <cstdint>

namespace sidewinder::live {

// Nanoseconds since some point before the start; any thread.
inline std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline constexpr double kNsPerMs = 1e6;

}  // namespace sidewinder::live
