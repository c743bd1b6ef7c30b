// What a process has used, from /proc (Linux).
#pragma once

#include <sys/types.h>

namespace sidewinder::load {

struct Usage {
  double cpu_s = 0;         // user and system
  double resident_mib = 0;  // now
};

// Throws std::runtime_error when there is no such process, or it is another user's.
Usage usage_of(pid_t process);

}  // namespace sidewinder::load
