// What the parts of the daemon that meet clients share about who they are.
#pragma once

#include "daemon/live/access.h"
#include "daemon/live/audit.h"

namespace sidewinder::live {

struct Security {
  Security(const Config& config, Metrics& metrics)
      : access(!config.security.server_key.empty(), config.keys), audit(config, metrics) {}

  Access access;
  Audit audit;
};

}  // namespace sidewinder::live
