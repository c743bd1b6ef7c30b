// What systemd is told (sd_notify), where it started the daemon; elsewhere nothing happens.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace sidewinder::live {

// Thread rule: one thread.
class ServiceManager {
 public:
  ServiceManager();

  void ready() const;
  void reloading() const;
  void stopping() const;

  // Call it at least once a second. At half of WatchdogSec, asks what is stuck (names; empty: nothing), and
  // says that all is well if nothing is. WatchdogSec must be 4 s or more, for that may be said a second late.
  void keep_alive(const std::function<std::string()>& stuck);

 private:
  std::chrono::microseconds interval_{0};  // 0: there is no watchdog
  std::chrono::steady_clock::time_point due_;
};

}  // namespace sidewinder::live
