#include "daemon/live/stream.h"

#include <algorithm>
#include <utility>

#include "daemon/live/clock.h"

namespace sidewinder::live {

void Stream::Listening::reset(LoadedModel& model, std::uint32_t slot) {
  readout = &model.readouts[slot];
  readout->reset();
  favoured = nullptr;
  hotwords.reset();
  told = {};
  behind = false;
  lost_from = -1;
  lost_told = 0;
}

Stream::Stream(std::uint32_t slot, std::size_t ring_samples, std::size_t kept_samples,
               std::size_t chunk_samples, LoadedModel& model, Wakeup& scheduler)
    : slot_(slot),
      chunk_samples_(chunk_samples),
      model_rate_(model.config.sample_rate),
      scheduler_(scheduler),
      ring_(ring_samples, kept_samples),
      model_(&model) {}

Stream::~Stream() {
  for (; next_mark() != nullptr; drop_mark()) {
    if (next_mark()->kind == Mark::Kind::Hotwords) delete next_mark()->hotwords;
    if (next_mark()->kind == Mark::Kind::Save) delete next_mark()->save;
  }
}

void Stream::prepare(StreamInfo info, const dsp::ResamplerFilter& filter, LoadedModel& model) {
  info_ = std::move(info);
  filter_ = &filter;
  ring_.reset();
  marks_.reset();
  stamps_.reset();
  accepted_ = 0;
  segments_ = 0;
  ending_ = false;
  end_requested_ = false;
  resampler_ = {};
  end_message_.clear();
  stamp_ = {};
  restored_.reset();
  model_ = &model;
  again_ = 0;
  oldest_ = 0;
  listening_.reset(model, slot_);
  listening_.favoured = model.configured_hotwords();
  listening_.readout->set_hotwords(listening_.favoured);
}

void Stream::restore(std::unique_ptr<StreamCapsule> capsule, const dsp::ResamplerFilter& filter,
                     LoadedModel& model, std::unique_ptr<const Hotwords> hotwords) {
  prepare(capsule->info, filter, model);
  resampler_ = capsule->resampler;
  accepted_ = resampler_.inputs;
  segments_ = capsule->finals();
  ring_.reset(resampler_.outputs, capsule->unread);
  oldest_ = resampler_.outputs - capsule->unread.size();
  stamp_ = {resampler_.outputs, now_ns()};
  favour(hotwords.release());
  listening_.readout->set_state(std::move(capsule->readout));
  listening_.told = std::move(capsule->told);
  restored_ = std::move(capsule);
}

void Stream::save(StreamCapsule& capsule) const {
  capsule.unread.resize(heard() - static_cast<std::uint64_t>(next_frame_position()));
  ring_.recall(heard() - capsule.unread.size(), capsule.unread);
  capsule.readout = listening_.readout->state();
  capsule.told = listening_.told;
  if (listening_.favoured != nullptr) capsule.hotwords = listening_.favoured->list();
}

std::uint64_t Stream::credit() const noexcept {
  // total_outputs() rounds up, so one sample of the ring stays free.
  return (ring_.read() + ring_.capacity() - 1) * static_cast<std::uint64_t>(info_.rate) /
         static_cast<std::uint64_t>(model_rate_);
}

std::uint64_t Stream::capacity_frames() const noexcept {
  return (ring_.capacity() - 1) * static_cast<std::uint64_t>(info_.rate) /
         static_cast<std::uint64_t>(model_rate_);
}

bool Stream::write(std::span<const float> interleaved) noexcept {
  const std::size_t channels = static_cast<std::size_t>(info_.channels);
  const std::size_t frames = interleaved.size() / channels;
  if (accepted_frames() + frames > credit()) return false;
  announce(frames);
  for (std::size_t at = 0; at < frames; at += kBlockFrames) {
    const std::size_t count = std::min(kBlockFrames, frames - at);
    if (channels == 1) {
      resample(interleaved.subspan(at, count));
      continue;
    }
    for (std::size_t i = 0; i < count; ++i) {
      const float* frame = interleaved.data() + (at + i) * channels;
      if (info_.channel > 0) {
        mono_[i] = frame[info_.channel - 1];
        continue;
      }
      float sum = 0;
      for (std::size_t c = 0; c < channels; ++c) sum += frame[c];
      mono_[i] = sum / static_cast<float>(channels);
    }
    resample(std::span(mono_).first(count));
  }
  if (ring_.size() >= chunk_samples_) scheduler_.raise();
  return true;
}

bool Stream::write_gap(std::uint64_t frames, GapReason reason) noexcept {
  const std::uint64_t begin = accepted_frames();
  if (frames > credit() - begin || marks_.size() + 2 > kMarks) return false;
  announce(frames);
  mono_.fill(0);
  for (std::uint64_t left = frames; left > 0;) {
    const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(left, kBlockFrames));
    resample(std::span(mono_).first(count));
    left -= count;
  }
  Mark gap{.kind = Mark::Kind::Gap, .position = ring_.written(), .accepted_ns = now_ns()};
  gap.begin = static_cast<std::int64_t>(begin);
  gap.end = static_cast<std::int64_t>(begin + frames);
  gap.gap_reason = reason;
  return mark(gap);
}

bool Stream::flush(std::uint64_t token) noexcept {
  if (marks_.size() + 2 > kMarks) return false;  // the last place is the end's
  Mark flush{.kind = Mark::Kind::Flush, .position = ring_.written(), .accepted_ns = now_ns()};
  flush.token = token;
  return mark(flush);
}

bool Stream::set_hotwords(std::unique_ptr<const Hotwords>& hotwords) noexcept {
  if (marks_.size() + 2 > kMarks) return false;
  Mark change{.kind = Mark::Kind::Hotwords, .position = ring_.written(), .accepted_ns = now_ns()};
  change.hotwords = hotwords.release();
  return mark(change);
}

bool Stream::save(std::unique_ptr<StreamSave>& save) noexcept {
  if (marks_.size() + 2 > kMarks) return false;
  save->capsule.info = info_;
  save->capsule.resampler = resampler_;
  if (save->end) {
    end_message_ = "saved through the control socket, to go on where it is restored";
    ending_.store(true, std::memory_order_relaxed);
  }
  Mark here{.kind = Mark::Kind::Save, .position = ring_.written(), .accepted_ns = now_ns()};
  here.save = save.release();
  return mark(here);
}

void Stream::end(EndReason reason, std::string message) noexcept {
  const std::size_t last = filter_->flush(resampler_, resampled_);
  ring_.push(std::span<const float>(resampled_).first(last));
  end_message_ = std::move(message);
  ending_.store(true, std::memory_order_relaxed);
  Mark end{.kind = Mark::Kind::End, .position = ring_.written(), .accepted_ns = now_ns()};
  end.end_reason = reason;
  mark(end);
}

std::int64_t Stream::next_frame_position() const noexcept {
  const ModelConfig& config = model().config;
  const std::int64_t origin = listening_.readout->origin();
  return origin + config.frames_given(static_cast<std::int64_t>(position()) - origin) * config.frame_hop();
}

bool Stream::is_at_pause() const noexcept {
  return listening_.readout->is_idle() || next_frame_position() == listening_.readout->origin();
}

std::int64_t Stream::pause_position() const noexcept {
  const std::int64_t oldest = std::max(static_cast<std::int64_t>(oldest_), listening_.readout->origin());
  return std::max(next_frame_position() - listening_.readout->onset_samples(), oldest);
}

void Stream::move(LoadedModel& model, std::int64_t origin, const Hotwords* favoured,
                  std::unique_ptr<const Hotwords> owned) {
  Readout& readout = model.readouts[slot_];
  readout.go_on_from(*listening_.readout, origin);
  readout.set_hotwords(favoured);
  listening_.readout = &readout;
  listening_.favoured = favoured;
  listening_.hotwords = std::move(owned);
  again_ = heard() - static_cast<std::uint64_t>(origin);
  model_.store(&model, std::memory_order_release);  // what is in it is seen with it
}

std::size_t Stream::take(std::span<float> samples) noexcept {
  const auto first = samples.first(std::min(again_, samples.size()));
  ring_.recall(position(), first);
  again_ -= first.size();
  return first.size() + ring_.pop(samples.subspan(first.size()));
}

void Stream::drop_mark() noexcept {
  Mark taken;
  marks_.pop(std::span(&taken, 1));
}

void Stream::favour(const Hotwords* hotwords) noexcept {
  listening_.readout->set_hotwords(hotwords);
  listening_.favoured = hotwords;
  listening_.hotwords.reset(hotwords);
}

std::int64_t Stream::accepted_ns(std::uint64_t position) noexcept {
  while (stamp_.position < position && stamps_.pop(std::span(&stamp_, 1)) == 1) {
  }
  return stamp_.ns;
}

std::int64_t Stream::source_position(std::int64_t model_position) const noexcept {
  const std::int64_t position = std::max<std::int64_t>(model_position, 0) * info_.rate / model_rate_;
  return std::min(position, static_cast<std::int64_t>(accepted_frames()));
}

void Stream::resample(std::span<const float> mono) noexcept {
  const std::size_t made = filter_->process(resampler_, mono, resampled_);
  ring_.push(std::span<const float>(resampled_).first(made));  // the credit has seen to its room
}

void Stream::announce(std::uint64_t frames) noexcept {
  const std::uint64_t total = accepted_frames() + frames;
  accepted_.store(total, std::memory_order_relaxed);
  // With no room for a stamp the next one stands for these samples too, and their lag reads low.
  stamps_.push(Stamp{filter_->ready_outputs(total), now_ns()});
}

bool Stream::mark(const Mark& mark) noexcept {
  const bool taken = marks_.push(mark);
  scheduler_.raise();
  return taken;
}

}  // namespace sidewinder::live
