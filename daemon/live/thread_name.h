// Names for the daemon's threads, as top, perf and gdb show them.
#pragma once

#include <pthread.h>

namespace sidewinder::live {

// The calling thread's; at most 15 characters.
inline void name_thread(const char* name) noexcept {
  pthread_setname_np(pthread_self(), name);
}

}  // namespace sidewinder::live
