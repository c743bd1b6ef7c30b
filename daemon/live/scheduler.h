// The engine's only caller: batches whatever streams have a chunk.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "daemon/live/bounded_queue.h"
#include "daemon/live/config.h"
#include "daemon/live/metrics.h"
#include "daemon/live/pulse.h"
#include "daemon/live/result.h"
#include "daemon/live/stream_table.h"
#include "model/engine.h"
#include "model/thread_team.h"

namespace sidewinder::live {

// The engine's options that the scheduler needs; log_probs: the decoders do.
EngineOptions scheduler_engine_options(const Config& config, const ModelConfig& model, bool log_probs);

class Scheduler {
 public:
  // `consumed` is raised after each step: producers have room again. All references must outlive it.
  Scheduler(const Config& config, Engine& engine, StreamTable& table, BoundedQueue<Result>& results,
            Wakeup& consumed, Metrics& metrics);
  ~Scheduler() { stop(); }
  Scheduler(const Scheduler&) = delete;

  void start();
  void stop();  // after the step that runs; streams that are left stay unfinished

  // Empty while the engine works; then why not. No stream is let in any more, and what those that are there
  // still send is told as a gap. Any thread.
  std::string_view failure() const noexcept;
  const Pulse& pulse() const { return pulse_; }  // of its thread; StreamTable::work() wakes it

 private:
  void measure_capacity();
  void run();
  void adopt();                             // streams that were opened
  bool is_due(const Stream& stream) const;  // has a chunk, or a mark to reach
  // Those that everything before has reached. Whether the stream has ended with one.
  bool pass_marks(Stream& stream);
  bool save(Stream& stream, const Mark& mark);  // whether it ended there
  void step(std::span<Stream* const> batch, std::size_t most_samples);
  void listen_to_all(std::span<Stream* const> batch);
  void listen(std::size_t row, Stream& stream);  // a step's row, to segments; any thread of the team
  void tell(std::size_t row, Stream& stream);    // what came of it
  std::int64_t audio_end(Stream& stream, const StreamInput& input) const;
  void measure_level(Stream& stream, std::span<const float> samples);
  void tell_partial(Stream& stream, std::int64_t accepted_ns, bool must);
  void tell_encodings(Stream& stream, const StreamOutput& output, std::int64_t accepted_ns);
  void notice_failure();  // of the engine, after a step
  void tell_lost(Stream& stream, std::int64_t model_end, std::int64_t source_end, std::int64_t accepted_ns);
  void watch_lag(Stream& stream, std::int64_t accepted_ns);
  void trace(const Stream& stream, std::int64_t accepted_ns);
  void close(Stream& stream, const Mark& end);
  Result result(const Stream& stream, std::int64_t model_begin, std::int64_t model_end,
                std::int64_t accepted_ns) const;

  const Config& config_;
  Engine& engine_;
  StreamTable& table_;
  BoundedQueue<Result>& results_;
  Wakeup& consumed_;
  Metrics& metrics_;
  const std::size_t chunk_samples_;
  const std::int64_t level_samples_;
  std::vector<Stream*> live_;
  std::vector<Stream*> due_;
  const std::size_t max_batch_;
  std::vector<float> samples_;  // (max_batch_, chunk), or fewer rows of more
  std::vector<StreamInput> inputs_;
  std::vector<StreamOutput> outputs_;
  std::vector<std::vector<Segment>> ended_;  // (max_batch_): of each row, those that ended in the step
  ThreadTeam team_;                // decodes the rows of a step: a beam search is for one core no trifle
  std::int64_t due_since_ns_ = 0;  // 0: nothing is
  std::int64_t step_begin_ns_ = 0, step_end_ns_ = 0;  // the last one
  std::size_t behind_ = 0;
  std::string failure_;  // constant once failed_ is set
  std::atomic<bool> failed_{false};
  Pulse pulse_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sidewinder::live
