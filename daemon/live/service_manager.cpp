#include "daemon/live/service_manager.h"

#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

namespace sidewinder::live {

ServiceManager::ServiceManager() : due_(std::chrono::steady_clock::now()) {
  std::uint64_t microseconds = 0;
  if (::sd_watchdog_enabled(0, &microseconds) > 0) interval_ = std::chrono::microseconds(microseconds / 2);
}

void ServiceManager::ready() const {
  ::sd_notify(0, "READY=1");
}

void ServiceManager::reloading() const {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now().time_since_epoch());  // CLOCK_MONOTONIC
  ::sd_notify(0, ("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now.count())).c_str());
}

void ServiceManager::stopping() const {
  ::sd_notify(0, "STOPPING=1");
}

void ServiceManager::keep_alive(const std::function<std::string()>& stuck) {
  const auto now = std::chrono::steady_clock::now();
  if (interval_.count() == 0 || now < due_) return;
  due_ = now + interval_;
  if (const std::string names = stuck(); names.empty())
    ::sd_notify(0, "WATCHDOG=1");
  else
    spdlog::error("stuck: {}; the watchdog is not told that all is well", names);
}

}  // namespace sidewinder::live
