// The control socket: who is there, files and devices as sources, history. Lives on the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <zmq.hpp>

#include "daemon/live/config.h"
#include "daemon/live/history.h"
#include "daemon/live/ingest.h"
#include "daemon/live/metrics.h"
#include "daemon/live/protocol.h"
#include "daemon/live/publisher.h"
#include "daemon/live/security.h"
#include "daemon/live/sockets.h"
#include "daemon/live/source.h"
#include "daemon/live/stream_table.h"

namespace sidewinder::live {

// Thread rule: the thread that made it.
class Control {
 public:
  // What `stats` tells beyond what the others count.
  struct Facts {
    std::string version;
    std::string engine;  // "cpu" or "cuda"
  };

  // Binds; throws BindError. All references must outlive it.
  Control(zmq::context_t& context, const Config& config, const ModelIdentity& model, Facts facts,
          Security& security, StreamTable& table, const BoundedQueue<Result>& results, Publisher& publisher,
          Ingest& ingest, const History& history, Metrics& metrics);
  Control(const Control&) = delete;

  // Until `stop_descriptor` is readable or `tick`, which is called at least once a second, returns false.
  void serve(int stop_descriptor, const std::function<bool()>& tick);
  void close_all();  // ends every source's stream (shutdown)

  std::string endpoint() const { return endpoint_; }  // as bound

 private:
  void take_request();
  Json answer(const Request& request, const Peer& who);
  Json list(const Peer& who) const;
  Json open(const Request& request, const Peer& who);
  Json devices() const;
  Json trace(const Request& request, const Peer& who);
  Json close(const Request& request, const Peer& who);
  Json drain(const Request& request, const Peer& who);
  Json stats() const;
  Json history(const Request& request, const Peer& who) const;
  Json access(const Request& request, const Peer& who) const;

  const Config& config_;
  const ModelIdentity& model_;
  const Facts facts_;
  Security& security_;
  StreamTable& table_;
  const BoundedQueue<Result>& results_;
  Publisher& publisher_;
  Ingest& ingest_;
  const History& history_;
  Metrics& metrics_;
  const std::int64_t start_ns_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::vector<std::unique_ptr<Source>> sources_;
};

}  // namespace sidewinder::live
