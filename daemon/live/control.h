// The control socket: who is there, files and devices as sources, history. Lives on the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <zmq.hpp>

#include "daemon/live/config.h"
#include "daemon/live/history.h"
#include "daemon/live/ingest.h"
#include "daemon/live/metrics.h"
#include "daemon/live/model_swap.h"
#include "daemon/live/protocol.h"
#include "daemon/live/publisher.h"
#include "daemon/live/scheduler.h"
#include "daemon/live/security.h"
#include "daemon/live/sockets.h"
#include "daemon/live/source.h"
#include "daemon/live/stream_table.h"

namespace sidewinder::live {

// Thread rule: the thread that made it.
class Control {
 public:
  static constexpr std::size_t kMostSaves = 16;  // under way at once

  // Binds; throws BindError. All references must outlive it.
  Control(zmq::context_t& context, const Config& config, ModelSwap& swap, Security& security,
          StreamTable& table, const BoundedQueue<Result>& results, BoundedQueue<SaveAnswer>& saves,
          Publisher& publisher, Ingest& ingest, Scheduler& scheduler, const History& history,
          Metrics& metrics);
  Control(const Control&) = delete;

  // Until `stop_descriptor` is readable or `tick`, which is called at least once a second, returns false.
  void serve(int stop_descriptor, const std::function<bool()>& tick);
  void close_all();    // ends every source's stream (shutdown)
  void answer_last();  // who still waits for a save or a swap, once all other threads have ended

  std::string endpoint() const { return endpoint_; }  // as bound

 private:
  // Where an answer goes.
  struct Asker {
    Peer who;
    bool delimited = false;         // a REQ socket's empty frame comes first
    std::optional<std::string> id;  // of the request
  };
  // A save that was ordered and is not answered yet.
  struct PendingSave {
    Asker asker;
    std::string stream;
  };

  // The same of a swap, while the model is loading.
  struct PendingSwap {
    Asker asker;
    std::string folder;
    std::int64_t within_ms = 0;
  };

  void take_request();
  void take_saves();
  void send(const Asker& asker, const Json& reply, std::span<const std::byte> body = {});
  void send_fault(const Asker& asker, const Fault& fault);
  // Nothing where the answer comes later. `body`: the request's second frame, or null.
  std::optional<Json> answer(const Request& request, const Asker& asker, const zmq::message_t* body);
  void save(const Request& request, const Asker& asker);
  void swap_model(const Request& request, const Asker& asker);
  void take_model();
  void refuse_swap(const PendingSwap& pending, const Refusal& refusal);
  Json restore(const Request& request, const Peer& who, const zmq::message_t* body);
  Json list(const Peer& who) const;
  Json open(const Request& request, const Peer& who, const zmq::message_t* body);
  Json devices() const;
  Json trace(const Request& request, const Peer& who);
  Json close(const Request& request, const Peer& who);
  Json drain(const Request& request, const Peer& who);
  Json stats() const;
  Json history(const Request& request, const Peer& who) const;
  Json access(const Request& request, const Peer& who) const;

  const Config& config_;
  ModelSwap& swap_;
  Security& security_;
  StreamTable& table_;
  const BoundedQueue<Result>& results_;
  BoundedQueue<SaveAnswer>& saves_;
  Publisher& publisher_;
  Ingest& ingest_;
  Scheduler& scheduler_;
  const History& history_;
  Metrics& metrics_;
  const std::int64_t start_ns_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::map<std::uint64_t, PendingSave> pending_saves_;  // by token
  std::uint64_t last_token_ = 0;
  std::optional<PendingSwap> pending_swap_;
};

}  // namespace sidewinder::live
