// One live stream: from the producer's samples to the scheduler's row.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/live/loaded_model.h"
#include "daemon/live/readout.h"
#include "daemon/live/result.h"
#include "daemon/live/sample_ring.h"
#include "daemon/live/stream_capsule.h"
#include "daemon/live/wakeup.h"
#include "dsp/resampler.h"
#include "model/hotwords.h"
#include "model/slot_pool.h"

namespace sidewinder::live {

// What happens at a position of a stream.
struct Mark {
  enum class Kind { Flush, Gap, Hotwords, Save, End } kind = Kind::Flush;
  std::uint64_t position = 0;  // model samples before it
  std::int64_t accepted_ns = 0;
  std::uint64_t token = 0;                   // Flush: whose
  std::int64_t begin = 0, end = 0;           // Gap: at the source's rate
  EndReason end_reason = EndReason::Client;  // End
  GapReason gap_reason = GapReason::Client;  // Gap
  const Hotwords* hotwords = nullptr;        // Hotwords: owned by the mark; null: none from here on
  StreamSave* save = nullptr;                // Save: owned by the mark
};

// Allocated once for its slot and used for one stream after another. Three parties:
// the table opens and retires it; one producer writes (until its end(), which is its last touch); the
// scheduler reads. Only the rings and the atomics are seen from both sides.
class Stream {
 public:
  // The last `kept_samples` that were heard stay there to be heard once more, by another model.
  Stream(std::uint32_t slot, std::size_t ring_samples, std::size_t kept_samples, std::size_t chunk_samples,
         LoadedModel& model, Wakeup& scheduler);
  ~Stream();
  Stream(const Stream&) = delete;

  std::uint32_t slot() const noexcept { return slot_; }
  const StreamInfo& info() const noexcept { return info_; }  // constant from opening to retirement

  // ---- table, while neither other party knows the stream
  // `filter` converts info.rate to the model's rate and outlives the stream, as does `model`, until the
  // stream moves.
  void prepare(StreamInfo info, const dsp::ResamplerFilter& filter, LoadedModel& model);

  // The same for one that goes on from `capsule`, as capsule->info, with `hotwords` made of those in it. Its
  // resampler is valid for `filter`.
  void restore(std::unique_ptr<StreamCapsule> capsule, const dsp::ResamplerFilter& filter, LoadedModel& model,
               std::unique_ptr<const Hotwords> hotwords);

  // ---- producer
  // Frames that may have been written in all; only grows.
  std::uint64_t credit() const noexcept;
  std::uint64_t capacity_frames() const noexcept;  // credit of an empty stream
  std::uint64_t accepted_frames() const noexcept { return accepted_.load(std::memory_order_relaxed); }

  // `interleaved` (frames, channels), finite. False, and nothing taken, past the credit.
  bool write(std::span<const float> interleaved) noexcept;

  // Frames that the source lost: silence, and a gap result. False past the credit or when too many marks
  // wait.
  bool write_gap(std::uint64_t frames, GapReason reason) noexcept;

  // A FlushedBody with `token` once everything written before has been through the engine. False when too
  // many marks wait.
  bool flush(std::uint64_t token) noexcept;

  // These are favoured, instead of those before, in what comes out after everything written so far; null:
  // none. False, and `hotwords` stay the caller's, when too many marks wait.
  bool set_hotwords(std::unique_ptr<const Hotwords>& hotwords) noexcept;

  // A SavedBody with `save` once everything written before has been through the engine, which then is the
  // position of its capsule; this fills in the producer's part but next_seq. With save->end the stream ends
  // there, its text unfinished, and the producer must not touch it afterwards. False, and `save` stays the
  // caller's, when too many marks wait.
  bool save(std::unique_ptr<StreamSave>& save) noexcept;

  // Everything written is still heard; then a ClosedBody. The producer must not touch the stream afterwards.
  void end(EndReason reason, std::string message) noexcept;

  // Asked for from outside; the producer obeys with end().
  bool end_requested() const noexcept { return end_requested_.load(std::memory_order_acquire); }

  // ---- any thread
  void request_end() noexcept { end_requested_.store(true, std::memory_order_release); }
  bool ending() const noexcept { return ending_.load(std::memory_order_relaxed); }
  std::uint64_t heard() const noexcept { return ring_.read(); }  // model samples that went to an engine
  std::size_t backlog() const noexcept { return ring_.size(); }  // model samples that wait
  std::int64_t segments() const noexcept {
    return segments_.load(std::memory_order_relaxed);
  }  // finals so far

  // ---- scheduler, ingest
  // That it is on: the ingest thread may use it until it is told that the model is not in use any more.
  LoadedModel& model() const noexcept { return *model_.load(std::memory_order_acquire); }

  // ---- scheduler
  // Model samples that went to the model that it is on: fewer than heard() after it has moved, until take()
  // has given again what came behind where that model began.
  std::uint64_t position() const noexcept { return heard() - again_; }
  std::size_t waiting() const noexcept { return backlog() + again_; }  // model samples that take() has
  // Where the frames end that its model has given of it: the next one's hop begins there. Model samples.
  std::int64_t next_frame_position() const noexcept;
  // Whether nothing is being said, so that another model may go on.
  bool is_at_pause() const noexcept;
  // Where it then goes on: before next_frame_position(), by what may be the beginning of a word.
  std::int64_t pause_position() const noexcept;
  // It is heard by `model` from `origin` on, one of the two positions above, with these hotwords.
  void move(LoadedModel& model, std::int64_t origin, const Hotwords* favoured,
            std::unique_ptr<const Hotwords> owned);
  const Mark* next_mark() const noexcept { return marks_.front(); }
  void drop_mark() noexcept;
  std::size_t take(std::span<float> samples) noexcept;
  const std::string& end_message() const noexcept { return end_message_; }  // valid once the End mark is seen
  // When the sample before `position` was accepted; positions may only grow.
  std::int64_t accepted_ns(std::uint64_t position) noexcept;
  std::int64_t source_position(std::int64_t model_position) const noexcept;
  // Takes over what a Hotwords mark brought; frees those before.
  void favour(const Hotwords* hotwords) noexcept;
  // Fills in the scheduler's part of a capsule but the engine's; nothing waits to be heard again.
  void save(StreamCapsule& capsule) const;
  // What the stream goes on from, once; null where it began.
  std::unique_ptr<StreamCapsule> take_restored() noexcept { return std::move(restored_); }
  void count_final() noexcept { segments_.fetch_add(1, std::memory_order_relaxed); }

  // The scheduler's own; nobody else looks.
  struct Listening {
    Readout* readout = nullptr;                // the model's for this slot
    const Hotwords* favoured = nullptr;        // in force; null: none
    std::unique_ptr<const Hotwords> hotwords;  // the same, where a producer brought them
    StreamTold told;
    bool behind = false;
    std::int64_t lost_from =
        -1;  // model samples: nothing from here on was heard, for the engine failed; -1: it works
    std::int64_t lost_told = 0;  // model samples: told as a gap up to here
    void reset(LoadedModel& model, std::uint32_t slot);
  };
  Listening& listening() noexcept { return listening_; }

  // ---- table again: the lease of the engine's slot, while open
  std::optional<SlotLease> lease;

 private:
  struct Stamp {
    std::uint64_t position = 0;  // model samples up to here ...
    std::int64_t ns = 0;         // ... were accepted then
  };
  static constexpr std::size_t kBlockFrames = 1'024;
  static constexpr std::size_t kMarks = 64;

  void resample(std::span<const float> mono) noexcept;  // at most kBlockFrames, into the ring
  void announce(std::uint64_t frames) noexcept;  // before they are in the ring, so that who reads them knows
  bool mark(const Mark& mark) noexcept;

  const std::uint32_t slot_;
  const std::size_t chunk_samples_;
  const int model_rate_;
  Wakeup& scheduler_;
  StreamInfo info_;
  const dsp::ResamplerFilter* filter_ = nullptr;

  SampleRing ring_;
  SpscRing<Mark> marks_{kMarks};
  SpscRing<Stamp> stamps_{512};
  std::atomic<std::uint64_t> accepted_{0};  // frames, by the producer
  std::atomic<std::int64_t> segments_{0};   // by the scheduler
  std::atomic<bool> ending_{false};
  std::atomic<bool> end_requested_{false};

  dsp::ResamplerState resampler_;                    // producer's
  std::array<float, kBlockFrames> mono_{};           // producer's
  std::array<float, 2 * kBlockFrames> resampled_{};  // producer's; 8 kHz doubles
  std::string end_message_;                          // producer's until the End mark, then the scheduler's

  std::unique_ptr<StreamCapsule> restored_;  // the table's until the scheduler takes it
  std::atomic<LoadedModel*> model_;          // the table's until it is opened, then the scheduler's
  std::size_t again_ = 0;                    // scheduler's: so many of the samples heard last are taken again
  std::uint64_t oldest_ = 0;                 // scheduler's: samples before this position are not in the ring
  Stamp stamp_;                              // scheduler's: the last one taken
  Listening listening_;
};

}  // namespace sidewinder::live
