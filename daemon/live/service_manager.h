// What systemd is told (sd_notify), where it started the daemon; elsewhere nothing happens.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace sidewinder::live {

// Thread rule: one thread.
class ServiceManager {
 public:
  ServiceManager();

  void ready() const;
  void reloading() const;
  void stopping() const;

  // Call it often. At half of WatchdogSec, asks whether the daemon gets on, and says so if it does.
  void keep_alive(const std::function<bool()>& gets_on);

 private:
  std::chrono::microseconds interval_{0};  // 0: there is no watchdog
  std::chrono::steady_clock::time_point due_;
};

}  // namespace sidewinder::live
