// Audio from clients: the ingest socket. Owns it, on a thread of its own; where much comes at once, a team
// helps that thread to read it.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include <zmq.hpp>

#include "daemon/live/bounded_queue.h"
#include "daemon/live/config.h"
#include "daemon/live/metrics.h"
#include "daemon/live/model_swap.h"
#include "daemon/live/protocol.h"
#include "daemon/live/publisher.h"
#include "daemon/live/pulse.h"
#include "daemon/live/security.h"
#include "daemon/live/sockets.h"
#include "daemon/live/stream_table.h"
#include "model/thread_team.h"

namespace sidewinder::live {

// From control: a stream to be saved, or one that was restored and goes on with its client, once that comes.
struct SaveOrder {
  std::string stream;
  std::unique_ptr<StreamSave> save;
};
struct AdoptOrder {
  Stream* stream = nullptr;
  std::int64_t next_seq = 0;
};
using IngestOrder = std::variant<SaveOrder, AdoptOrder>;

// The producer of every ingest stream. Whatever clients send, it answers and goes on.
class Ingest {
 public:
  // Binds; throws BindError. All references must outlive it.
  Ingest(zmq::context_t& context, const Config& config, Security& security, StreamTable& table,
         BoundedQueue<IngestReply>& replies, BoundedQueue<SaveAnswer>& saves, ModelSwap& swap,
         Metrics& metrics);
  ~Ingest() { stop(); }
  Ingest(const Ingest&) = delete;

  void start();
  void set_idle_ms(std::int64_t idle_ms) { idle_ms_ = idle_ms; }  // any thread
  void close_all();  // any thread: takes what has arrived, then ends every stream (shutdown)
  // Any thread: waits for room, of which there always will be. What a client sends after this returns finds
  // it done.
  void order(IngestOrder&& order) { orders_.push(std::move(order)); }
  void stop();  // sends what is to be answered, then ends the thread

  // Raised by others when rings have room again or a stream is to end.
  Wakeup& look() { return look_; }
  std::string endpoint() const { return endpoint_; }  // as bound
  const Pulse& pulse() const { return pulse_; }       // of its thread; look() wakes it

 private:
  // One client's stream. Once ended it waits here for its ClosedBody to come back.
  struct Session {
    Peer peer;                 // the client
    Stream* stream = nullptr;  // null once ended
    StreamInfo info;
    std::int64_t next_seq = 0;
    std::uint64_t told_credit = 0;  // frames
    std::int64_t heard_ns = 0;      // when the client last said something
    std::uint64_t next_token = 0;
    std::deque<std::optional<std::string>> flush_ids;  // of the flushes that wait, oldest first
    std::optional<std::string> close_id;
  };

  // A message on its way through take_messages().
  struct Arrived {
    std::array<zmq::message_t, 3> parts;  // routing id, header, PCM or hotwords
    std::size_t count = 0;                // parts that came
    Peer peer;
    std::optional<Request> request;
    Session* session = nullptr;  // of audio that is yet to be taken
    bool resent = false;         // it was taken before
    std::optional<Fault> fault;

    const zmq::message_t* body() const { return count == 3 ? &parts[2] : nullptr; }
  };

  void run();
  bool take_messages();  // whether there may be more
  bool receive(Arrived& message);
  static void read(Arrived& message);  // any thread
  void handle(const Peer& peer, const Request& request, const zmq::message_t* body);
  void hear(std::span<Arrived> messages);                      // the audio among them; then answers them all
  void hear(Arrived& message, std::span<float> pcm) noexcept;  // any thread, one for each stream
  void open(const Peer& peer, const Request& request, const zmq::message_t* body);
  void resume(const Peer& peer, const Request& request, Session& session, const StreamInfo& wanted,
              std::int64_t epoch);
  bool audio(Session& session, const Request& request, const zmq::message_t* body, std::span<float> pcm);
  void gap(Session& session, const Request& request);
  void hotwords(Session& session, const Request& request, const zmq::message_t* body);
  bool is_next(const Session& session, const Request& request);
  static void require_all(const Session& session, const Request& request);
  void check_credit(Session& session, std::uint64_t frames);
  // So little is left of what its client was told of that it may well be silent until it is told of more.
  static bool waits_for_credit(const Session& session);
  void ping(const Peer& peer, const Request& request);
  void end(Session& session, EndReason reason, const std::string& message);
  void audit_end(const Session& session, EndReason reason, const std::string& message, std::uint64_t frames);
  void take_orders();
  void save(SaveOrder& order);
  void adopt(const AdoptOrder& order);
  void look_after_sessions();
  void take_replies();
  void answer(const IngestReply& reply);
  void grant(Session& session, bool always);

  Session& session(const Peer& peer, const Request& request);
  void say_opened(Session& session, const Request& request);
  void refuse(const Peer& peer, const Request& request, const Refusal& refusal);
  void send(const Peer& peer, const Json& message);

  const Config& config_;
  Security& security_;
  StreamTable& table_;
  BoundedQueue<IngestReply>& replies_;
  BoundedQueue<SaveAnswer>& saves_;
  BoundedQueue<IngestOrder> orders_;
  ModelSwap& swap_;
  Metrics& metrics_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::unordered_map<std::string, Session> sessions_;  // by stream
  ThreadTeam team_;               // parses headers and decodes PCM: of one stream, one member at a time
  std::vector<Arrived> arrived_;  // a batch
  std::vector<std::vector<float>> pcm_;  // of each member: (frames, channels) of one message
  Wakeup look_;
  std::atomic<std::int64_t> idle_ms_;  // a stream whose client is silent for so long is ended
  Pulse pulse_;
  std::atomic<bool> closing_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sidewinder::live
