// The only caller of the engines: batches whatever streams have a chunk.
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

class Scheduler {
 public:
  // `consumed` is raised after each step: producers have room again. All references must outlive it.
  // `model` is the table's, until there is another.
  Scheduler(const Config& config, LoadedModel& model, StreamTable& table, BoundedQueue<Result>& results,
            Wakeup& consumed, Metrics& metrics);
  ~Scheduler() { stop(); }
  Scheduler(const Scheduler&) = delete;

  void start();
  void stop();  // after the step that runs; streams that are left stay unfinished

  // The streams that are on the model before move to `model`, the table's by now: each at its next pause, or
  // at `deadline_ns` (clock.h), where its open segment is ended. Once none is left a ReleasedBody says so;
  // only then there may be another order. Any thread.
  void move_streams(LoadedModel& model, std::int64_t deadline_ns);

  // Empty while the engines work; then why not. No stream is let in any more, and what those that are there
  // still send is told as a gap. Any thread.
  std::string_view failure() const noexcept;
  const Pulse& pulse() const { return pulse_; }  // of its thread; StreamTable::work() wakes it

 private:
  void run();
  void adopt();                             // streams that were opened
  bool is_due(const Stream& stream) const;  // has a chunk, or a mark to reach
  // Those that everything before has reached. Whether the stream has ended with one.
  bool pass_marks(Stream& stream);
  bool save(Stream& stream, const Mark& mark);  // whether it ended there
  void take_order();
  void move_on();  // streams whose time to move has come
  void move(Stream& stream);
  int idle_ms() const;  // how long to wait when there is nothing to do
  void step_all();      // those that are due, a model after the other
  void step(std::span<Stream* const> batch, std::size_t most_samples);  // all on the same model
  // Of a step's rows; any thread of the team: a row's samples and results are its own.
  template <typename Task>
  void for_rows(std::size_t rows, Task&& task);
  void take(std::size_t row, Stream& stream, std::size_t most_samples);  // its samples, for the engine
  void listen(std::size_t row, Stream& stream);                          // what came out, to segments
  void tell(std::size_t row, Stream& stream);                            // those, to results
  // By this thread alone: what concerns other streams too.
  void conclude(std::size_t row, Stream& stream);
  std::int64_t row_accepted_ns(std::size_t row, Stream& stream) const;
  std::int64_t audio_end(Stream& stream, const StreamInput& input) const;
  // What each has to say is appended to `told`.
  void tell_finals(Stream& stream, std::vector<Segment>& ended, std::int64_t accepted_ns,
                   std::vector<Result>& told);
  void measure_level(Stream& stream, std::span<const float> samples, std::vector<Result>& told);
  void tell_partial(Stream& stream, std::int64_t accepted_ns, bool has_room, std::vector<Result>& told);
  void tell_encodings(Stream& stream, const StreamOutput& output, std::int64_t accepted_ns,
                      std::vector<Result>& told);
  void tell_lost(Stream& stream, std::int64_t model_end, std::int64_t source_end, std::int64_t accepted_ns,
                 std::vector<Result>& told);
  void watch_lag(Stream& stream, std::int64_t accepted_ns, std::vector<Result>& told);
  void close(Stream& stream, const Mark& end, std::vector<Result>& told);
  void notice_failure(const Engine& engine);  // after a step
  void trace(const Stream& stream, std::int64_t accepted_ns);
  Result result(const Stream& stream, std::int64_t model_begin, std::int64_t model_end,
                std::int64_t accepted_ns) const;

  const Config& config_;
  StreamTable& table_;
  BoundedQueue<Result>& results_;
  Wakeup& consumed_;
  Metrics& metrics_;
  LoadedModel* model_;               // that streams are to be on
  LoadedModel* retiring_ = nullptr;  // that they move from; null: all have
  std::int64_t move_by_ns_ = 0;      // written before ordered_ is
  std::atomic<LoadedModel*> ordered_{nullptr};
  const int rate_;                 // Hz, of every model
  const std::size_t max_samples_;  // of a stream in one step
  const std::size_t chunk_samples_;
  const std::int64_t level_samples_;
  std::vector<Stream*> live_;
  std::vector<Stream*> due_;
  const std::size_t max_batch_;
  std::vector<float> samples_;  // (max_batch_, chunk), or fewer rows of more
  std::vector<StreamInput> inputs_;
  std::vector<std::size_t> new_samples_;  // (max_batch_): of each row's, those not heard before
  std::vector<StreamOutput> outputs_;
  std::vector<std::vector<Segment>> ended_;  // (max_batch_): of each row, those that ended in the step
  std::vector<std::vector<Result>> told_;    // (max_batch_): of each row, what is to be published
  std::vector<Result> marked_;               // the same of a stream's marks, and of one that moves
  std::vector<Segment> moved_ended_;         // of a stream that moves
  bool crowded_ = false;           // so many results wait that partials are left out, till the next step
  ThreadTeam team_;                // for_rows(): copying samples and a beam search are for one core no trifle
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
