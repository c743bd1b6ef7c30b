// Why the daemon refuses something, for tests that ask it directly.
#pragma once

#include <string>

#include "daemon/live/protocol.h"

namespace sidewinder::live {

// The reason of the Fault that `action` throws; empty when it throws none.
template <typename Action>
std::string reason_of(Action&& action) {
  try {
    action();
  } catch (const Fault& fault) {
    return fault.reason;
  }
  return "";
}

}  // namespace sidewinder::live
