// One thread of the load generator: the client of many streams, and the subscriber that hears them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <queue>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <zmq.hpp>

#include "tests/load/pcm.h"

namespace sidewinder::load {

// What one worker saw since measure().
struct Seen {
  std::vector<float> lag_ms;    // one a measured chunk, see Worker
  std::vector<float> delay_ms;  // one a chunk: from when it was due to when it was handed to the socket
  std::uint64_t results = 0;    // messages received, of all types
  std::uint64_t result_bytes = 0;
  std::uint64_t held = 0;  // chunks that waited for credit: the daemon's buffer was full
};

// What one worker saw since its start.
struct Totals {
  std::uint64_t open = 0;     // streams that are
  std::uint64_t refused = 0;  // opens
  std::uint64_t ended = 0;    // streams that the daemon ended unasked
  std::uint64_t errors = 0;   // answers `error`
  std::uint64_t holes = 0;    // partials and finals missing by seq
  std::uint64_t behind = 0;   // `behind` events
  std::string trouble;        // the first refusal, unasked end or error, as the daemon said it
};

// Sends chunks in real time: a stream starts at a random moment of a chunk and at a random place of the
// recording, and is then due every chunk's length, whatever happened before. Lag of a chunk: from when it was
// handed to the socket to when the first result arrived that ends in it: a `partial`, or a `level` that ends
// exactly with it. A chunk that changed no text has no partial; with the daemon's results.level_ms equal to
// the chunk, every chunk has a level, also when the daemon hears several at once.
//
// Thread rule: made, started and destroyed by one thread; the other methods from any.
class Worker {
 public:
  struct Options {
    std::string ingest, results;  // the daemon's endpoints
    std::string prefix;           // of its streams' names, for it alone
    std::uint64_t seed = 0;
  };

  // Connects. `recording` must outlive it. Throws zmq::error_t for an endpoint that is none.
  Worker(Options options, const Recording& recording);
  ~Worker();
  Worker(const Worker&) = delete;

  void start();
  void want(std::size_t streams);                       // to be open in all; none is closed for it
  void close_all();                                     // ends what is open
  std::size_t unsettled() const { return unsettled_; }  // streams not yet as they were last wanted

  void measure();    // forgets what was seen so far
  Seen take_seen();  // what was seen since
  Totals totals() const;

 private:
  static constexpr std::size_t kRemembered = 128;  // chunks; more than any credit covers
  enum class State { Asked, Open, Held, Closing, Gone };
  struct Stream {
    State state = State::Asked;
    std::uint64_t start = 0;                        // frames: where in the recording
    std::uint64_t chunks = 0;                       // sent
    std::uint64_t credit = 0;                       // frames
    std::uint64_t measured = 0;                     // chunks before this one have their lag, or never will
    std::int64_t due_ns = 0;                        // when the next chunk is
    std::int64_t next_partial = 0, next_final = 0;  // seq
    std::array<std::int64_t, kRemembered> handed_ns{};  // by chunk modulo kRemembered
  };
  using Due = std::pair<std::int64_t, std::size_t>;  // nanoseconds, index of the stream

  void run();
  void open_more();
  void ask_close();
  void send_due();
  void send_chunk(std::size_t index, std::int64_t now);
  void take_answers();
  void take_results();
  void hear(std::string_view topic, std::string_view header, std::int64_t now);
  Stream* find(std::string_view name);
  std::string name(std::size_t index) const { return options_.prefix + std::to_string(index); }

  const Options options_;
  const Recording& recording_;
  const std::int64_t chunk_ns_;
  zmq::context_t context_;
  zmq::socket_t ingest_;
  zmq::socket_t results_;
  std::mt19937_64 random_;
  std::vector<Stream> streams_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;  // soonest first
  std::size_t waiting_ = 0;                                         // for an answer to open or close
  std::atomic<std::size_t> wanted_{0};
  std::atomic<std::size_t> unsettled_{0};
  std::atomic<bool> closing_{false};
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;  // of the two below
  Seen seen_;
  Totals totals_;
  std::thread thread_;
};

}  // namespace sidewinder::load
