// Results to the results socket. Owns it, on a thread of its own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <Eigen/Core>
#include <zmq.hpp>

#include "daemon/live/bounded_queue.h"
#include "daemon/live/config.h"
#include "daemon/live/history.h"
#include "daemon/live/json_writer.h"
#include "daemon/live/loaded_model.h"
#include "daemon/live/metrics.h"
#include "daemon/live/protocol.h"
#include "daemon/live/pulse.h"
#include "daemon/live/result.h"
#include "daemon/live/security.h"
#include "daemon/live/segment_text.h"

namespace sidewinder::live {

// To the ingest thread, for the client that feeds a stream: everything before this has been published. Or, of
// no stream: no result of the model will be published any more.
struct IngestReply {
  enum class Kind { Flushed, Closed, Released } kind = Kind::Flushed;
  std::string stream;
  std::int64_t epoch = 0;
  std::uint64_t token = 0;   // Flushed
  std::int64_t samples = 0;  // heard, at the source's rate
  std::int64_t finals = 0;   // published so far
  std::int64_t partials = 0;
  EndReason reason = EndReason::Client;  // Closed
  std::string message{};                 // Closed
  LoadedModel* model = nullptr;          // Released
};

// To control, for who asked for a save: the stream's capsule, or why there is none.
struct SaveAnswer {
  std::uint64_t token = 0;
  std::unique_ptr<StreamSave> save{};
  std::string reason{}, message{};  // of clients/PROTOCOL.md
};

// Whether results have that type (clients/PROTOCOL.md).
bool is_result_kind(std::string_view kind) noexcept;

class Publisher {
 public:
  // Binds; throws zmq::error_t. All references must outlive it.
  Publisher(zmq::context_t& context, const Config& config, Security& security, BoundedQueue<Result>& results,
            BoundedQueue<IngestReply>& replies, BoundedQueue<SaveAnswer>& saves, History& history,
            Metrics& metrics);
  ~Publisher() { stop(); }
  Publisher(const Publisher&) = delete;

  void start();
  // Any thread: every subscriber's connection is dropped and its subscriptions are checked again when it
  // comes back, which ZeroMQ's sockets do by themselves. There is no other way to take one back.
  void drop_subscribers();
  // Any thread: whether a stream can go on, on that model, with the readable text of its capsule.
  bool fits(const StreamCapsule& capsule, const LoadedModel& model) const;
  void stop();  // publishes what is queued, then ends the thread

  std::string endpoint() const { return endpoint_; }  // as bound
  std::uint64_t published() const { return published_.load(std::memory_order_relaxed); }
  const Pulse& pulse() const { return pulse_; }  // of its thread; the result queue's filled() wakes it

 private:
  enum Kind { Opened, Partial, Final, Gap, Level, Behind, Closed, Encodings, kKinds };
  static_assert(kKinds == kResultKinds);
  // A stream as its subscribers have seen it.
  struct Published {
    StreamInfo info;
    LoadedModel* model = nullptr;  // whose results these are
    std::array<std::int64_t, kResultKinds> next_seq{};
    // Headers, for late subscribers.
    std::string last_opened{}, last_partial{}, last_final{};
    std::optional<SegmentText> text{};  // where text is to be readable
    bool live = false;
  };

  void run();
  void publish(Result& result);
  void measure(const Result& result, std::int64_t taken_ns);
  void open(Published& stream, OpenedBody& body);
  void move(Published& stream, LoadedModel& model);
  void release(LoadedModel& model);
  void answer(Published& stream, const Result& result);
  void send(const Published& stream, Kind kind, std::span<const std::byte> body = {});  // json_ is its header
  void send_frames(const std::string& topic, const std::string& header, std::span<const std::byte> body);
  void prepare();
  void bind_again();
  void take_subscriptions();
  void subscribe(const std::string& topic, const Peer& who);
  void replay(const Published& stream, std::string_view prefix);
  // What every header has, into json_; the caller adds the rest and closes it.
  JsonWriter header(Published& stream, Kind kind, const Result& result, double lag_ms);
  void write_text(JsonWriter& json, const Published& stream, const Segment& segment,
                  std::string_view tentative);

  Security& security_;
  BoundedQueue<Result>& results_;
  BoundedQueue<IngestReply>& replies_;
  BoundedQueue<SaveAnswer>& saves_;
  History& history_;
  Metrics& metrics_;
  zmq::context_t& context_;
  const Config& config_;
  const bool text_;  // streams have readable text
  zmq::socket_t socket_;
  std::string endpoint_;
  std::vector<Published> streams_;   // by slot
  std::string json_;                 // the header being written
  std::vector<Eigen::half> halves_;  // encodings being converted
  std::atomic<std::uint64_t> published_{0};
  Pulse pulse_;
  std::atomic<bool> dropping_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sidewinder::live
