#include "daemon/live/stream_table.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "daemon/live/protocol.h"

namespace sidewinder::live {
namespace {

// Their filters are shared. Others, of which a client could ask for any number, belong to one stream each.
constexpr int kUsualRates[] = {8'000,  11'025, 12'000, 16'000, 22'050, 24'000,
                               32'000, 44'100, 48'000, 88'200, 96'000};

}  // namespace

std::int64_t most_heard_again(const ModelConfig& model) noexcept {
  return model.most_unread_samples() + Readout::most_onset_samples(model);
}

StreamTable::StreamTable(const Config& config, LoadedModel& model)
    : model_rate_(model.config.sample_rate),
      model_(&model),
      endpoint_(endpoint_of(config)),
      opened_(static_cast<std::size_t>(config.limits.streams)),
      pool_(static_cast<std::uint32_t>(config.limits.streams), model.engine().devices()),
      unusual_filters_(static_cast<std::size_t>(config.limits.streams)) {
  const auto kept = static_cast<std::size_t>(most_heard_again(model.config));
  const auto samples = [&](std::int64_t ms) { return static_cast<std::size_t>(ms * model_rate_ / 1000); };
  for (std::uint32_t slot = 0; slot < config.limits.streams; ++slot)
    // A buffer has room for two chunks, or the scheduler would wait for one that can't fit.
    streams_.push_back(std::make_unique<Stream>(
        slot, samples(std::max(config.limits.buffer_ms, 2 * config.scheduler.chunk_ms)), kept,
        samples(config.scheduler.chunk_ms), model, work()));
  for (int rate : kUsualRates) usual_filters_.try_emplace(rate, rate, model_rate_);
}

std::variant<Stream*, Refusal> StreamTable::open(StreamInfo wanted, std::int64_t owner_streams,
                                                 FirstHotwords hotwords) {
  return open(std::move(wanted), owner_streams,
              [&](Stream& stream, StreamInfo&& info, const dsp::ResamplerFilter& filter) {
                stream.prepare(std::move(info), filter, *model_);
                stream.listening().readout->set_endpoint(endpoint_);
                if (hotwords) stream.set_hotwords(*hotwords);  // a new stream has room for them
                return std::optional<Refusal>();
              });
}

std::variant<Stream*, Refusal> StreamTable::restore(std::unique_ptr<StreamCapsule> capsule,
                                                    std::unique_ptr<const Hotwords> hotwords,
                                                    std::int64_t owner_streams) {
  return open(
      StreamInfo(capsule->info), owner_streams,
      [&](Stream& stream, StreamInfo&& info, const dsp::ResamplerFilter& filter) {
        if (!filter.valid(capsule->resampler))
          return std::optional(Refusal{"bad_capsule", "its resampler's position is one that none can have"});
        capsule->info = std::move(info);
        stream.restore(std::move(capsule), filter, *model_, std::move(hotwords));
        return std::optional<Refusal>();
      });
}

std::variant<Stream*, Refusal> StreamTable::open(StreamInfo&& wanted, std::int64_t owner_streams,
                                                 const Prepare& prepare) {
  Stream* stream = nullptr;
  {
    std::lock_guard lock(mutex_);
    auto claimed = claim(std::move(wanted), owner_streams, prepare);
    if (std::holds_alternative<Refusal>(claimed)) return claimed;
    ++counts_.opened;
    stream = std::get<Stream*>(claimed);
  }
  opened_.push(std::move(stream));  // has a place for every slot
  return stream;
}

std::variant<Stream*, Refusal> StreamTable::claim(StreamInfo&& wanted, std::int64_t owner_streams,
                                                  const Prepare& prepare) {
  if (!wanted.name.empty() && !valid_name(wanted.name))
    return Refusal{"bad_name", "a stream's name is 1 to 64 characters out of A-Z a-z 0-9 . _ -"};
  if (by_name_.contains(wanted.name))
    return Refusal{"in_use",
                   "a stream of that name is open, or still finishing; choose another or wait for its "
                   "closed event"};
  if (owner_streams > 0 && by_owner_.contains(wanted.owner) && by_owner_[wanted.owner] >= owner_streams)
    return Refusal{"over_quota", "key " + wanted.owner + " may have " + std::to_string(owner_streams) +
                                     " streams at a time; end one, and wait for its closed event"};
  if (auto refusal = refusing_locked()) return *refusal;
  std::optional<SlotLease> lease = pool_.acquire();
  Stream& stream = *streams_[lease->index()];
  try {
    const dsp::ResamplerFilter& converter = filter(wanted.rate, stream.slot());
    if (wanted.name.empty()) wanted.name = free_name();
    const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
    if (wanted.epoch == 0) wanted.epoch = std::max<std::int64_t>(last_epoch_ + 1, now);
    last_epoch_ = std::max(last_epoch_, wanted.epoch);
    if (auto refusal = prepare(stream, std::move(wanted), converter)) return *refusal;
  } catch (const std::invalid_argument& error) {  // the rate
    return Refusal{"bad_format", error.what()};
  }
  stream.lease.emplace(std::move(*lease));
  ++model_->streams;
  by_name_.emplace(stream.info().name, &stream);
  ++by_owner_[stream.info().owner];
  return &stream;
}

std::optional<Refusal> StreamTable::refusing_locked() const {
  if (draining_) return Refusal{"draining", "the daemon takes no new streams at the moment"};
  if (behind_ > 0)
    return Refusal{"full", "the engine is behind with " + std::to_string(behind_) + " of " +
                               std::to_string(by_name_.size()) + " streams; try again later"};
  if (const std::size_t capacity = model_->capacity; capacity > 0 && by_name_.size() >= capacity)
    return Refusal{"full", "the engine was measured to carry " + std::to_string(capacity) + " streams at " +
                               "limits.load_percent, and has " + std::to_string(by_name_.size()) +
                               "; try again later, or elsewhere"};
  if (pool_.available() == 0)
    return Refusal{"full", "all " + std::to_string(streams_.size()) +
                               " streams are in use; try again later, or raise limits.streams"};
  return std::nullopt;
}

std::optional<Refusal> StreamTable::refusing() const {
  std::lock_guard lock(mutex_);
  return refusing_locked();
}

std::string StreamTable::free_name() {
  std::string name;
  do name = "s" + std::to_string(++last_name_);
  while (by_name_.contains(name));
  return name;
}

const dsp::ResamplerFilter& StreamTable::filter(int rate, std::uint32_t slot) {
  if (auto usual = usual_filters_.find(rate); usual != usual_filters_.end()) return usual->second;
  unusual_filters_[slot] = std::make_unique<dsp::ResamplerFilter>(rate, model_rate_);
  return *unusual_filters_[slot];
}

void StreamTable::retire(Stream& stream) {
  std::lock_guard lock(mutex_);
  by_name_.erase(stream.info().name);
  const auto owner = by_owner_.find(stream.info().owner);
  if (--owner->second == 0) by_owner_.erase(owner);
  unusual_filters_[stream.slot()].reset();
  stream.lease.reset();
  --stream.model().streams;
  ++counts_.closed;
  if (by_name_.empty()) emptied_.notify_all();
}

std::optional<std::int64_t> StreamTable::request_end(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  found->second->request_end();
  return found->second->info().epoch;
}

std::vector<StreamStatus> StreamTable::list() const {
  std::lock_guard lock(mutex_);
  std::vector<StreamStatus> all;
  all.reserve(by_name_.size());
  for (const auto& [name, stream] : by_name_) all.push_back(status(*stream));
  return all;
}

std::optional<StreamStatus> StreamTable::find(const std::string& name) const {
  std::lock_guard lock(mutex_);
  auto found = by_name_.find(name);
  return found == by_name_.end() ? std::nullopt : std::optional(status(*found->second));
}

StreamStatus StreamTable::status(const Stream& stream) {
  return {.info = stream.info(),
          .ending = stream.ending(),
          .accepted_frames = stream.accepted_frames(),
          .heard = stream.heard(),
          .backlog = stream.backlog(),
          .finals = stream.segments(),
          .slot = stream.slot()};
}

std::size_t StreamTable::live() const {
  std::lock_guard lock(mutex_);
  return by_name_.size();
}

void StreamTable::set_endpoint(const Endpoint& endpoint) {
  std::lock_guard lock(mutex_);
  endpoint_ = endpoint;
}

void StreamTable::set_draining(bool on) {
  std::lock_guard lock(mutex_);
  draining_ = on;
}

bool StreamTable::draining() const {
  std::lock_guard lock(mutex_);
  return draining_;
}

void StreamTable::set_behind(std::size_t streams) {
  std::lock_guard lock(mutex_);
  behind_ = streams;
}

std::size_t StreamTable::capacity() const {
  return model().capacity;
}

void StreamTable::set_model(LoadedModel& model) {
  std::lock_guard lock(mutex_);
  model_ = &model;
}

LoadedModel& StreamTable::model() const {
  std::lock_guard lock(mutex_);
  return *model_;
}

bool StreamTable::wait_until_empty(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return emptied_.wait_until(lock, deadline, [this] { return by_name_.empty(); });
}

StreamTable::Counts StreamTable::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace sidewinder::live
