#include "daemon/live/scheduler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include <Eigen/Core>
#include <spdlog/spdlog.h>

#include "daemon/live/clock.h"
#include "daemon/live/thread_name.h"

namespace sidewinder::live {
namespace {

// With more streams than that, one or another is always about to have its chunk: no use in being woken for
// each.
constexpr std::size_t kManyStreams = 256;
constexpr std::size_t kRowsForTheTeam = 8;  // fewer are not worth waking threads for
constexpr int kIdleMs = 1'000;              // look around so often though nobody calls

std::size_t chunk_samples(const Config& config, int rate) {
  return static_cast<std::size_t>(config.scheduler.chunk_ms * rate / 1000);
}

}  // namespace

Scheduler::Scheduler(const Config& config, LoadedModel& model, StreamTable& table,
                     BoundedQueue<Result>& results, Wakeup& consumed, Metrics& metrics)
    : config_(config),
      table_(table),
      results_(results),
      consumed_(consumed),
      metrics_(metrics),
      model_(&model),
      rate_(model.config.sample_rate),
      max_samples_(model.engine().options().max_samples),
      chunk_samples_(chunk_samples(config, rate_)),
      level_samples_(config.results.level_ms * rate_ / 1000),
      max_batch_(most_batch(model.engine())),
      samples_(std::max(max_batch_ * chunk_samples_, max_samples_)),
      new_samples_(max_batch_),
      outputs_(max_batch_),
      ended_(max_batch_),
      told_(max_batch_),
      team_(model.engine().options().threads) {
  live_.reserve(table.slots());
  due_.reserve(table.slots());
  inputs_.reserve(max_batch_);
}

void Scheduler::start() {
  thread_ = std::thread([this] { run(); });
}

void Scheduler::stop() {
  stopping_ = true;
  table_.work().raise();
  if (thread_.joinable()) thread_.join();
}

void Scheduler::run() {
  name_thread("scheduler");
  while (!stopping_) {
    take_order();
    adopt();
    if (retiring_ != nullptr) move_on();
    due_.clear();
    std::size_t waiting = 0;  // samples
    for (Stream*& stream : live_) {
      if (pass_marks(*stream)) {
        stream = nullptr;
        continue;
      }
      if (is_due(*stream)) due_.push_back(stream);
      waiting += stream->backlog();
    }
    std::erase(live_, nullptr);
    metrics_.waiting_seconds.Set(static_cast<double>(waiting) / rate_);
    if (due_.empty()) {
      due_since_ns_ = 0;
      pulse_.beat();
      table_.work().wait(idle_ms());
      continue;
    }
    if (due_since_ns_ == 0) due_since_ns_ = now_ns();
    const std::int64_t waited_ms = (now_ns() - due_since_ns_) / 1'000'000;
    if (due_.size() < live_.size() && waited_ms < config_.scheduler.max_wait_ms) {
      const std::chrono::milliseconds left(config_.scheduler.max_wait_ms - waited_ms);
      if (live_.size() > kManyStreams)
        std::this_thread::sleep_for(left);
      else
        table_.work().wait(static_cast<int>(left.count()));
      continue;
    }
    due_since_ns_ = 0;
    step_all();
    std::erase(live_, nullptr);
    consumed_.raise();
  }
}

void Scheduler::step_all() {
  // Few streams may catch up in long steps; many take a chunk each, so that no step holds up the others.
  // So do all while some are to move, for which a long step would pass over pauses.
  const std::size_t most = retiring_ != nullptr
                               ? chunk_samples_
                               : std::clamp(max_samples_ / due_.size(), chunk_samples_, max_samples_);
  if (retiring_ != nullptr)
    std::ranges::partition(due_, [this](Stream* stream) { return &stream->model() == retiring_; });
  for (std::size_t at = 0, count = 0; at < due_.size() && !stopping_; at += count) {
    const LoadedModel* model = &due_[at]->model();
    const auto rest = std::span(due_).subspan(at, std::min(max_batch_, due_.size() - at));
    const auto same = [model](Stream* stream) { return &stream->model() == model; };
    count = static_cast<std::size_t>(std::ranges::find_if_not(rest, same) - rest.begin());
    step(rest.first(count), most);
  }
}

int Scheduler::idle_ms() const {
  if (retiring_ == nullptr) return kIdleMs;
  const std::int64_t left_ms = (move_by_ns_ - now_ns()) / 1'000'000 + 1;
  return left_ms > 0 ? static_cast<int>(std::min<std::int64_t>(left_ms, kIdleMs)) : kIdleMs;
}

void Scheduler::move_streams(LoadedModel& model, std::int64_t deadline_ns) {
  move_by_ns_ = deadline_ns;
  ordered_.store(&model, std::memory_order_release);
  table_.work().raise();
}

void Scheduler::take_order() {
  if (ordered_.load(std::memory_order_relaxed) == nullptr) return;
  LoadedModel* next = ordered_.exchange(nullptr, std::memory_order_acquire);
  retiring_ = std::exchange(model_, next);
}

// A stream that has been ended stays: it is about to be heard to its end. After a failure all stay, for no
// engine has heard what is told as lost.
void Scheduler::move_on() {
  const bool at_once = now_ns() >= move_by_ns_;
  for (Stream* stream : live_) {
    if (&stream->model() != retiring_ || stream->ending() || !failure().empty()) continue;
    if (at_once || stream->is_at_pause()) move(*stream);
  }
  const std::size_t left = retiring_->streams;  // also those that are opened and not adopted yet
  metrics_.moving.Set(static_cast<double>(left));
  if (left > 0) return;
  Result told;
  told.body = ReleasedBody{std::exchange(retiring_, nullptr)};
  results_.push(std::move(told));
}

// To the model that streams are to be on. In a pause nothing is open, so that there is no final either.
void Scheduler::move(Stream& stream) {
  Stream::Listening& listening = stream.listening();
  const std::int64_t accepted = stream.accepted_ns(stream.heard());
  const std::int64_t origin = stream.is_at_pause() ? stream.pause_position() : stream.next_frame_position();
  listening.readout->interrupt(origin, moved_ended_);
  tell_finals(stream, moved_ended_, accepted, marked_);

  const Hotwords* favoured = model_->configured_hotwords();
  std::unique_ptr<const Hotwords> owned;
  if (listening.favoured != retiring_->configured_hotwords()) {
    std::vector<std::string> left_out;
    if (listening.favoured != nullptr) owned = model_->respelled(*listening.favoured, left_out);
    favoured = owned.get();
    for (const std::string& phrase : left_out)
      spdlog::warn("stream {}: the model {} can't favour \"{}\"; it is left out", stream.info().name,
                   model_->identity.hash, phrase);
  }
  model_->engine().reset(stream.slot());
  stream.move(*model_, origin, favoured, std::move(owned));
  ++model_->streams;
  --retiring_->streams;
  marked_.emplace_back(result(stream, origin, origin, accepted)).body = MovedBody{model_};
  results_.push_all(marked_);
}

void Scheduler::adopt() {
  table_.work().clear();
  while (auto opened = table_.opened().try_pop()) {
    Stream& stream = **opened;
    std::unique_ptr<StreamCapsule> restored = stream.take_restored();
    const auto heard = static_cast<std::int64_t>(stream.heard());
    Engine& engine = stream.model().engine();
    if (restored)
      engine.load(stream.slot(), restored->engine);  // is sound: unseal() has opened it
    else
      engine.reset(stream.slot());
    StreamTold& last = stream.listening().told;
    if (heard - last.level_begin >= level_samples_)  // where it was saved levels had another length
      last.level_begin = heard, last.level_squares = 0, last.level_peak = 0;
    live_.push_back(&stream);
    Result told = result(stream, heard, heard, now_ns());
    told.body = OpenedBody{stream.info(), &stream.model(), std::move(restored)};
    results_.push(std::move(told));
    metrics_.opened.Increment();
  }
  metrics_.streams.Set(static_cast<double>(live_.size()));
}

bool Scheduler::is_due(const Stream& stream) const {
  return stream.next_mark() != nullptr || stream.waiting() >= chunk_samples_;
}

bool Scheduler::pass_marks(Stream& stream) {
  for (const Mark* mark = stream.next_mark();
       mark != nullptr && mark->kind != Mark::Kind::End && mark->position <= stream.position();
       mark = stream.next_mark()) {
    const auto heard = static_cast<std::int64_t>(stream.heard());
    Result told = result(stream, 0, heard, mark->accepted_ns);
    if (mark->kind == Mark::Kind::Hotwords) {
      stream.favour(mark->hotwords);
      stream.drop_mark();
      continue;
    }
    if (mark->kind == Mark::Kind::Save) {
      if (save(stream, *mark)) return true;
      continue;
    }
    if (mark->kind == Mark::Kind::Flush) {
      tell_partial(stream, mark->accepted_ns, true, marked_);
      tell_lost(stream, heard, stream.source_position(heard), mark->accepted_ns, marked_);
      told.body = FlushedBody{mark->token};
    } else {
      told.begin = mark->begin;
      told.end = mark->end;
      told.model_begin = mark->begin * rate_ / stream.info().rate;
      told.model_end = mark->end * rate_ / stream.info().rate;
      told.body = GapBody{mark->gap_reason};
    }
    marked_.push_back(std::move(told));
    results_.push_all(marked_);
    stream.drop_mark();
  }
  return false;
}

bool Scheduler::save(Stream& stream, const Mark& mark) {
  SavedBody body{std::unique_ptr<StreamSave>(mark.save)};
  body.save->failed = !failure().empty();
  if (!body.save->failed) {
    stream.save(body.save->capsule);
    const LoadedModel& model = stream.model();
    body.save->model = model.hash;
    body.save->decoding = model.decoding.identity();
    body.save->capsule.engine.resize(model.engine().capsule_bytes());
    model.engine().save(stream.slot(), body.save->capsule.engine);
  }
  const bool ends = body.save->end;
  Mark end{.kind = Mark::Kind::End, .accepted_ns = mark.accepted_ns};
  end.end_reason = EndReason::Saved;
  const auto heard = static_cast<std::int64_t>(stream.heard());
  Result told = result(stream, 0, heard, mark.accepted_ns);
  told.body = std::move(body);
  stream.drop_mark();
  // Before the capsule, whose `closed` then is no more the one that this life has had.
  if (ends) {
    tell_lost(stream, heard, static_cast<std::int64_t>(stream.accepted_frames()), mark.accepted_ns, marked_);
    close(stream, end, marked_);
  }
  marked_.push_back(std::move(told));
  results_.push_all(marked_);
  return ends;
}

void Scheduler::step(std::span<Stream* const> batch, std::size_t most_samples) {
  inputs_.resize(batch.size());
  for_rows(batch.size(), [&](std::size_t row) { take(row, *batch[row], most_samples); });
  step_begin_ns_ = now_ns();
  Engine& engine = batch.front()->model().engine();
  if (failure().empty()) engine.step(inputs_, outputs_);
  step_end_ns_ = now_ns();
  notice_failure(engine);
  std::size_t total = 0;
  for (std::size_t row = 0; row < batch.size(); ++row) total += new_samples_[row];
  metrics_.step_seconds.observe(static_cast<double>(step_end_ns_ - step_begin_ns_) / 1e9);
  metrics_.batch_streams.observe(static_cast<double>(batch.size()));
  metrics_.steps.Increment();
  metrics_.audio_seconds.Increment(static_cast<double>(total) / rate_);
  // Room is kept for finals, which nothing replaces.
  crowded_ = results_.size() > results_.capacity() / 2;
  for_rows(batch.size(), [&](std::size_t row) {
    listen(row, *batch[row]);
    tell(row, *batch[row]);
  });
  for (std::size_t row = 0; row < batch.size(); ++row) {
    conclude(row, *batch[row]);
    results_.push_all(told_[row]);
  }
  metrics_.queue.Set(static_cast<double>(results_.size()));
  pulse_.beat();
}

template <typename Task>
void Scheduler::for_rows(std::size_t rows, Task&& task) {
  if (rows >= kRowsForTheTeam)
    team_.deal(rows, task);
  else
    for (std::size_t row = 0; row < rows; ++row) task(row);
}

void Scheduler::take(std::size_t row, Stream& stream, std::size_t most_samples) {
  // No sample behind a mark before the mark: hotwords hold from their very place on. The backlog first: a
  // mark that comes after it stands behind all of it.
  std::size_t most = std::min(most_samples, stream.waiting());
  const Mark* mark = stream.next_mark();
  if (mark != nullptr) most = std::min<std::size_t>(most, mark->position - stream.position());
  const bool ends = mark != nullptr && mark->kind == Mark::Kind::End;
  const auto samples = std::span(samples_).subspan(row * most_samples, most);
  const std::uint64_t heard = stream.heard();
  const std::size_t taken = stream.take(samples);
  new_samples_[row] = static_cast<std::size_t>(stream.heard() - heard);
  inputs_[row] = {stream.slot(), samples.first(taken), ends && mark->position <= stream.position()};
}

// Where the audio that has been heard ends: at the stream's end the resampler may have rounded up.
std::int64_t Scheduler::audio_end(Stream& stream, const StreamInput& input) const {
  const auto heard = static_cast<std::int64_t>(stream.heard());
  if (!input.end) return heard;
  return std::min(heard, static_cast<std::int64_t>(stream.accepted_frames()) * rate_ / stream.info().rate);
}

void Scheduler::listen(std::size_t row, Stream& stream) {
  Stream::Listening& listening = stream.listening();
  const StreamInput& input = inputs_[row];
  const std::int64_t audio = audio_end(stream, input);
  if (failure().empty()) {
    listening.readout->hear(input.samples);
    listening.readout->advance(outputs_[row], audio, ended_[row]);
  } else if (listening.lost_from < 0) {
    listening.lost_from = static_cast<std::int64_t>(stream.position() - input.samples.size());
  }
  if (input.end)
    listening.readout->finish(listening.lost_from < 0 ? audio : listening.lost_from, ended_[row]);
}

void Scheduler::tell(std::size_t row, Stream& stream) {
  std::vector<Result>& told = told_[row];
  const StreamInput& input = inputs_[row];
  const std::int64_t accepted = row_accepted_ns(row, stream);
  measure_level(stream, input.samples.last(new_samples_[row]), told);
  if (failure().empty()) tell_encodings(stream, outputs_[row], accepted, told);
  tell_finals(stream, ended_[row], accepted, told);
  if (input.end)
    tell_lost(stream, audio_end(stream, input), static_cast<std::int64_t>(stream.accepted_frames()), accepted,
              told);
  else
    tell_partial(stream, accepted, !crowded_, told);
}

void Scheduler::conclude(std::size_t row, Stream& stream) {
  if (inputs_[row].end) {
    close(stream, *stream.next_mark(), told_[row]);
    *std::find(live_.begin(), live_.end(), &stream) = nullptr;
    return;
  }
  const std::int64_t accepted = row_accepted_ns(row, stream);
  watch_lag(stream, accepted, told_[row]);
  trace(stream, accepted);
}

// When the last of the row's samples was accepted.
std::int64_t Scheduler::row_accepted_ns(std::size_t row, Stream& stream) const {
  return inputs_[row].end ? stream.next_mark()->accepted_ns : stream.accepted_ns(stream.heard());
}

void Scheduler::tell_finals(Stream& stream, std::vector<Segment>& ended, std::int64_t accepted_ns,
                            std::vector<Result>& told) {
  Stream::Listening& listening = stream.listening();
  for (Segment& segment : ended) {
    Result& final = told.emplace_back(result(stream, segment.begin, segment.end, accepted_ns));
    final.segment = segment.number;
    final.body = FinalBody{std::move(segment)};
    stream.count_final();
    listening.told.partial_words = 0;
    listening.told.partial_tentative.clear();
  }
  ended.clear();
}

std::string_view Scheduler::failure() const noexcept {
  return failed_.load(std::memory_order_acquire) ? std::string_view(failure_) : std::string_view();
}

void Scheduler::notice_failure(const Engine& engine) {
  if (!failure().empty() || engine.failure().empty()) return;
  failure_ = engine.failure();
  failed_.store(true, std::memory_order_release);
  table_.set_draining(true);
}

// What the failed engine has not heard of the stream, up to here, as a gap.
void Scheduler::tell_lost(Stream& stream, std::int64_t model_end, std::int64_t source_end,
                          std::int64_t accepted_ns, std::vector<Result>& told) {
  Stream::Listening& listening = stream.listening();
  const std::int64_t from = std::max(listening.lost_from, listening.lost_told);
  if (listening.lost_from < 0 || from >= model_end) return;
  Result& gap = told.emplace_back(result(stream, from, model_end, accepted_ns));
  gap.end = source_end;
  gap.body = GapBody{GapReason::Engine};
  listening.lost_told = model_end;
}

void Scheduler::trace(const Stream& stream, std::int64_t accepted_ns) {
  Tracer& tracer = metrics_.tracer;
  if (!tracer.wants(stream.slot())) return;
  const std::int64_t end = stream.source_position(static_cast<std::int64_t>(stream.heard()));
  tracer.record(stream.slot(), {Tracer::Stage::Wait, accepted_ns, step_begin_ns_, end});
  tracer.record(stream.slot(), {Tracer::Stage::Step, step_begin_ns_, step_end_ns_, end});
  tracer.record(stream.slot(), {Tracer::Stage::Readout, step_end_ns_, now_ns(), end});
}

void Scheduler::tell_partial(Stream& stream, std::int64_t accepted_ns, bool has_room,
                             std::vector<Result>& told) {
  Stream::Listening& listening = stream.listening();
  const Segment& open = listening.readout->open();
  const std::string_view tentative = listening.readout->tentative();
  if (open.words.size() == listening.told.partial_words && tentative == listening.told.partial_tentative)
    return;
  if (!has_room) {
    metrics_.partials_skipped.Increment();  // a later one says all that this would
    return;
  }
  listening.told.partial_words = open.words.size();
  listening.told.partial_tentative = tentative;
  told.emplace_back(result(stream, open.begin, static_cast<std::int64_t>(stream.heard()), accepted_ns)).body =
      PartialBody{open, std::string(tentative)};
}

void Scheduler::tell_encodings(Stream& stream, const StreamOutput& output, std::int64_t accepted_ns,
                               std::vector<Result>& told) {
  if (stream.info().encodings == EncodingFormat::None || output.encodings == nullptr || output.frames == 0)
    return;
  const ModelConfig& model = stream.model().config;
  const std::int64_t begin = stream.listening().readout->origin() + output.first_frame * model.frame_hop();
  told.emplace_back(result(stream, begin, begin + output.frames * model.frame_hop(), accepted_ns)).body =
      EncodingsBody{output.first_frame, output.frames,
                    std::vector<float>(output.encodings,
                                       output.encodings + std::size_t{output.frames} *
                                                              static_cast<std::size_t>(model.d_model))};
}

void Scheduler::measure_level(Stream& stream, std::span<const float> samples, std::vector<Result>& told) {
  if (level_samples_ == 0) return;
  Stream::Listening& listening = stream.listening();
  std::int64_t at = static_cast<std::int64_t>(stream.heard() - samples.size());
  while (!samples.empty()) {
    const auto count = std::min<std::size_t>(
        samples.size(), static_cast<std::size_t>(listening.told.level_begin + level_samples_ - at));
    const Eigen::Map<const Eigen::ArrayXf> part(samples.data(), static_cast<Eigen::Index>(count));
    listening.told.level_squares += part.cast<double>().square().sum();
    listening.told.level_peak = std::max(listening.told.level_peak, part.abs().maxCoeff());
    samples = samples.subspan(count);
    at += static_cast<std::int64_t>(count);
    if (at - listening.told.level_begin < level_samples_) return;
    told.emplace_back(result(stream, listening.told.level_begin, at, stream.accepted_ns(stream.heard())))
        .body = LevelBody{std::sqrt(listening.told.level_squares / static_cast<double>(level_samples_)),
                          listening.told.level_peak};
    listening.told.level_begin = at;
    listening.told.level_squares = 0;
    listening.told.level_peak = 0;
  }
}

void Scheduler::watch_lag(Stream& stream, std::int64_t accepted_ns, std::vector<Result>& told) {
  Stream::Listening& listening = stream.listening();
  const double lag_ms = static_cast<double>(now_ns() - accepted_ns) / kNsPerMs;
  const double limit = static_cast<double>(config_.scheduler.behind_ms);
  const bool behind = listening.behind ? lag_ms > limit / 2 : lag_ms > limit;
  if (behind == listening.behind) return;
  listening.behind = behind;
  behind_ = behind ? behind_ + 1 : behind_ - 1;
  table_.set_behind(behind_);
  metrics_.behind.Set(static_cast<double>(behind_));
  const auto heard = static_cast<std::int64_t>(stream.heard());
  told.emplace_back(result(stream, 0, heard, accepted_ns)).body = BehindBody{behind};
}

void Scheduler::close(Stream& stream, const Mark& end, std::vector<Result>& told) {
  if (stream.listening().behind) table_.set_behind(--behind_);
  metrics_.behind.Set(static_cast<double>(behind_));
  Result& closed =
      told.emplace_back(result(stream, 0, static_cast<std::int64_t>(stream.heard()), end.accepted_ns));
  closed.end = static_cast<std::int64_t>(stream.accepted_frames());
  closed.body = ClosedBody{end.end_reason, stream.end_message()};
  metrics_.closed.Increment();
  table_.retire(stream);  // before this is published: who hears that it is closed may open it again
}

Result Scheduler::result(const Stream& stream, std::int64_t model_begin, std::int64_t model_end,
                         std::int64_t accepted_ns) const {
  Result told;
  told.slot = stream.slot();
  told.segment = stream.segments();
  told.model_begin = std::max<std::int64_t>(model_begin, 0);
  told.model_end = std::max<std::int64_t>(model_end, 0);
  told.begin = stream.source_position(model_begin);
  told.end = stream.source_position(model_end);
  told.accepted_ns = accepted_ns;
  told.step_begin_ns = step_begin_ns_;
  told.step_end_ns = step_end_ns_;
  told.queued_ns = now_ns();
  return told;
}

}  // namespace sidewinder::live
