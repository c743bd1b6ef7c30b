#include "daemon/live/wakeup.h"

#include <cerrno>
#include <cstdint>
#include <system_error>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace sidewinder::live {

Wakeup::Wakeup() : descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Wakeup::~Wakeup() {
  ::close(descriptor_);
}

void Wakeup::raise() noexcept {
  if (raised_.exchange(true)) return;
  // It fails only when the count is at its limit, and then it is raised already.
  [[maybe_unused]] auto written = ::eventfd_write(descriptor_, 1);
}

void Wakeup::clear() noexcept {
  eventfd_t count;
  ::eventfd_read(descriptor_, &count);
  // After the read, or it could take away what was written since. Who raises it from here on writes again;
  // who found it raised before did so with what the caller is going to see now.
  raised_.exchange(false);
}

bool Wakeup::wait(int milliseconds) noexcept {
  pollfd item{descriptor_, POLLIN, 0};
  const bool raised = ::poll(&item, 1, milliseconds) > 0;
  clear();
  return raised;
}

}  // namespace sidewinder::live
