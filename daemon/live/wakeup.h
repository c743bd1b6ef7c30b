// A flag that one thread raises and another waits for beside its sockets.
#pragma once

#include <atomic>

namespace sidewinder::live {

// An eventfd. raise() from any thread, async-signal-safe and without blocking; the rest from the waiting
// thread, which clears it first and then looks at what it was raised for. Raised already, it costs no system
// call.
class Wakeup {
 public:
  Wakeup();  // throws std::system_error
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;

  void raise() noexcept;
  void clear() noexcept;
  bool wait(int milliseconds) noexcept;  // whether it was raised in time; clears it

  int descriptor() const noexcept { return descriptor_; }  // readable while raised

 private:
  int descriptor_;
  std::atomic<bool> raised_{false};
};

}  // namespace sidewinder::live
