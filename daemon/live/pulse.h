// How the watchdog knows that a thread still gets round its loop.
#pragma once

#include <atomic>
#include <cstdint>

namespace sidewinder::live {

// The watched thread beats when it has done a piece of work, and when it finds that there is none. Who
// watches wakes it, and looks a while later whether it has beaten since: so an idle thread that is stuck
// shows too.
class Pulse {
 public:
  void beat() noexcept { beats_.fetch_add(1, std::memory_order_relaxed); }  // the watched thread
  std::uint64_t beats() const noexcept { return beats_.load(std::memory_order_relaxed); }  // any thread

 private:
  std::atomic<std::uint64_t> beats_{0};
};

}  // namespace sidewinder::live
