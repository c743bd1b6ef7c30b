// The daemon, put together: owns every part, in the order in which they may be destroyed backwards.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>

#include <zmq.hpp>

#include "daemon/live/authenticator.h"
#include "daemon/live/bounded_queue.h"
#include "daemon/live/config.h"
#include "daemon/live/control.h"
#include "daemon/live/history.h"
#include "daemon/live/http_server.h"
#include "daemon/live/ingest.h"
#include "daemon/live/metrics.h"
#include "daemon/live/model_swap.h"
#include "daemon/live/publisher.h"
#include "daemon/live/pulse.h"
#include "daemon/live/scheduler.h"
#include "daemon/live/security.h"
#include "daemon/live/stream_table.h"

namespace sidewinder::live {

// Thread rule: the thread that made it.
class Daemon {
 public:
  // Loads the model in the folder, allocates every stream, binds every socket. Throws ModelError,
  // HotwordError, EngineUnavailable, BindError.
  Daemon(const Config& config, const std::filesystem::path& model);

  // {"ready":true,"results":ENDPOINT,...}: what was bound, in one line.
  std::string ready_line() const;

  // Serves until `descriptor` is readable or the engine has failed, calling `tick` at least once a second.
  void serve(int descriptor, const std::function<void()>& tick);

  // Empty while the engine works; then why not.
  std::string_view failure() const noexcept { return scheduler_.failure(); }

  // Ends every stream, transcribes and publishes what was accepted. False when that took longer than
  // shutdown.timeout_ms.
  bool stop();

  // Takes over what can change while streams run, and says in the log what can't; opens the audit log again.
  void reload(const Config& config);

  // The threads that did nothing, not even find that there is nothing to do, since the last call, which asked
  // them to: their names with commas between; empty: all get on. The first call only asks.
  std::string stuck();

 private:
  struct Watched {
    const char* name;
    const Pulse& pulse;
    Wakeup& wakeup;
    std::uint64_t seen = std::numeric_limits<std::uint64_t>::max();  // beats at the last look; at first none
  };

  const Config& config_;  // as it was at the start
  std::chrono::milliseconds stop_timeout_;
  ModelSwap swap_;  // the models: before all that uses them
  Metrics metrics_;
  StreamTable table_;
  BoundedQueue<Result> results_;       // scheduler to publisher
  BoundedQueue<IngestReply> replies_;  // publisher to ingest
  BoundedQueue<SaveAnswer> saves_;     // publisher and ingest to control
  History history_;
  zmq::context_t context_;
  Security security_;
  Authenticator authenticator_;
  Publisher publisher_;
  Ingest ingest_;
  Scheduler scheduler_;
  Control control_;
  HttpServer http_;
  std::array<Watched, 3> watched_;
};

}  // namespace sidewinder::live
