// All streams there can be, and who has them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/live/bounded_queue.h"
#include "daemon/live/config.h"
#include "daemon/live/loaded_model.h"
#include "daemon/live/stream.h"
#include "model/slot_pool.h"

namespace sidewinder::live {

// Why something was not done: a reason of clients/PROTOCOL.md, and a sentence that says what to do.
struct Refusal {
  std::string reason;
  std::string message;
};

// Of a stream that moves from such a model to another: the most of its last samples that the other hears once
// more.
std::int64_t most_heard_again(const ModelConfig& model) noexcept;

// What a stream favours from its start: null, nothing; without a value, what the daemon's settings say.
using FirstHotwords = std::optional<std::unique_ptr<const Hotwords>>;

// A stream seen from outside, at one moment.
struct StreamStatus {
  StreamInfo info;
  bool ending = false;
  std::uint64_t accepted_frames = 0;  // at the source's rate
  std::uint64_t heard = 0;            // model samples
  std::size_t backlog = 0;            // model samples
  std::int64_t finals = 0;
  std::uint32_t slot = 0;
};

// Owns the streams; any thread. Everything is allocated at construction but the filters of unusual rates.
class StreamTable {
 public:
  // `model` must outlive the streams that are opened until there is another.
  StreamTable(const Config& config, LoadedModel& model);

  // Streams that are opened from now on are on this one. Preconditions: its sample rate is that of the first,
  // and most_heard_again() of it at most what it was there.
  void set_model(LoadedModel& model);
  LoadedModel& model() const;

  // Claims a slot for `wanted` (its epoch is chosen here, and its name when empty). The caller becomes the
  // stream's producer. Its owner has at most `owner_streams` at a time, if not 0.
  std::variant<Stream*, Refusal> open(StreamInfo wanted, std::int64_t owner_streams = 0,
                                      FirstHotwords hotwords = {});

  // The same for a stream that goes on from `capsule`, as capsule->info: with its epoch, or with a new one
  // where that is 0. `hotwords` are made of those in it.
  std::variant<Stream*, Refusal> restore(std::unique_ptr<StreamCapsule> capsule,
                                         std::unique_ptr<const Hotwords> hotwords,
                                         std::int64_t owner_streams = 0);

  // By the scheduler, which must not touch the stream afterwards.
  void retire(Stream& stream);

  // Asks the producer of `name` to end it. Its epoch, or nothing when there is no such stream.
  std::optional<std::int64_t> request_end(const std::string& name);

  // Those opened and not yet seen by the scheduler.
  BoundedQueue<Stream*>& opened() { return opened_; }
  // Raised when the scheduler has something to do.
  Wakeup& work() { return opened_.filled(); }

  std::vector<StreamStatus> list() const;
  std::optional<StreamStatus> find(const std::string& name) const;
  std::size_t live() const;
  std::size_t slots() const { return streams_.size(); }

  void set_endpoint(const Endpoint& endpoint);  // of the streams that are opened from now on
  void set_draining(bool on);                   // refuse new streams
  bool draining() const;
  void set_behind(std::size_t streams);  // how many lag too far: while there are any, no more come in

  // How many live streams the model's engine carries; more are refused. 0: not known.
  std::size_t capacity() const;

  // Why no stream would be let in now, if so.
  std::optional<Refusal> refusing() const;

  // Waits until no stream is left; false when `deadline` came first.
  bool wait_until_empty(std::chrono::steady_clock::time_point deadline);

  struct Counts {
    std::uint64_t opened = 0, closed = 0;
  };
  Counts counts() const;

 private:
  // Gives the stream what it begins with; refuses what does not fit the filter of its rate.
  using Prepare = std::function<std::optional<Refusal>(Stream&, StreamInfo&&, const dsp::ResamplerFilter&)>;
  std::variant<Stream*, Refusal> open(StreamInfo&& wanted, std::int64_t owner_streams,
                                      const Prepare& prepare);
  std::variant<Stream*, Refusal> claim(StreamInfo&& wanted, std::int64_t owner_streams,
                                       const Prepare& prepare);  // under the lock
  std::optional<Refusal> refusing_locked() const;
  static StreamStatus status(const Stream& stream);
  std::string free_name();
  const dsp::ResamplerFilter& filter(int rate, std::uint32_t slot);

  const int model_rate_;
  mutable std::mutex mutex_;
  LoadedModel* model_;
  Endpoint endpoint_;
  std::condition_variable emptied_;
  BoundedQueue<Stream*> opened_;
  SlotPool pool_;                                 // before the streams, which hold leases of it
  std::vector<std::unique_ptr<Stream>> streams_;  // by slot
  std::map<std::string, Stream*> by_name_;
  std::map<std::string, std::int64_t> by_owner_;                        // streams of each key that has some
  std::map<int, dsp::ResamplerFilter> usual_filters_;                   // by rate
  std::vector<std::unique_ptr<dsp::ResamplerFilter>> unusual_filters_;  // by slot
  std::int64_t last_epoch_ = 0;
  std::uint64_t last_name_ = 0;
  bool draining_ = false;
  std::size_t behind_ = 0;
  Counts counts_;
};

}  // namespace sidewinder::live
