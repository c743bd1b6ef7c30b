// Where the time of one stream's chunks goes: every stage's begin and end, on demand.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "daemon/live/clock.h"

namespace sidewinder::live {

// One trace at a time; any thread. While none is on, record() costs one relaxed load. Memory is taken at
// construction; what comes when it is full is counted.
class Tracer {
 public:
  // In the order in which a chunk passes them; each ends where the next begins, but for Accept, which is a
  // message's and not a chunk's.
  enum class Stage {
    Accept,   // ingest: a message decoded, resampled, in the stream's ring
    Wait,     // in the ring, until the step that hears it
    Step,     // the engine, for all streams of the batch
    Readout,  // tokens to words and results
    Queue,    // a result, until the publisher takes it
    Publish,  // written as JSON and given to the socket
  };
  static constexpr int kStages = 6;
  struct Event {
    Stage stage = Stage::Accept;
    std::int64_t begin_ns = 0, end_ns = 0;  // clock.h
    std::int64_t end_sample = 0;  // of the stream, at its source's rate: what this was about ends there
  };
  struct Trace {
    std::int64_t begin_ns = 0;
    std::vector<Event> events;
    std::uint64_t dropped = 0;
  };

  Tracer() { trace_.events.reserve(kMostEvents); }

  // False while another trace is on, unless that one was forgotten a minute ago.
  bool start(std::uint32_t slot);
  // Nothing when no trace of that slot is on.
  std::optional<Trace> stop(std::uint32_t slot);

  bool wants(std::uint32_t slot) const noexcept { return slot_.load(std::memory_order_relaxed) == slot; }
  void record(std::uint32_t slot, const Event& event) noexcept;

 private:
  static constexpr std::size_t kMostEvents = 16'384;
  static constexpr std::int64_t kForgottenNs = 60'000'000'000;

  std::atomic<std::int64_t> slot_{-1};  // -1: no trace is on
  std::mutex mutex_;
  Trace trace_;
};

const char* to_string(Tracer::Stage stage) noexcept;

}  // namespace sidewinder::live
