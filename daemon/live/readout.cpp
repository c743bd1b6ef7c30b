#include "daemon/live/readout.h"

#include <algorithm>
#include <utility>

namespace sidewinder::live {

std::string committed_text(const Segment& segment) {
  std::string text;
  for (const Word& word : segment.words) {
    if (!text.empty()) text += ' ';
    text += word.text;
  }
  return text;
}

Readout::Readout(const ModelConfig& config, const Decoding& decoding, const Endpoint& endpoint)
    : tokenizer_(decoding.tokenizer()),
      decoder_(decoding.make()),
      fresh_(decoder_->state_bytes()),
      blank_(config.blank),
      hop_(config.frame_hop()),
      rate_(config.sample_rate),
      offset_((config.first_frame_samples() - config.frame_hop()) / 2),
      vocab_(config.vocab_size),
      voice_(config) {
  set_endpoint(endpoint);
  decoder_->save(fresh_);
}

void Readout::set_endpoint(const Endpoint& endpoint) noexcept {
  silence_frames_ =
      std::max<std::int64_t>(decoder_->pause_frames(), endpoint.silence_ms * rate_ / 1000 / hop_);
  max_samples_ = endpoint.max_segment_ms * rate_ / 1000;
  endpoint_ = endpoint;
}

void Readout::reset() {
  decoder_->set_hotwords(nullptr);
  decoder_->load(fresh_);
  origin_ = 0;
  open_ = {};
  last_end_ = 0;
  blanks_ = 0;
  quiet_ = 0;
  voice_.reset();
}

void Readout::go_on_from(const Readout& before, std::int64_t origin) {
  reset();
  set_endpoint(before.endpoint_);
  origin_ = origin;
  open_.number = before.open_.number;
  last_end_ = before.last_end_;
}

Readout::State Readout::state() const {
  State state{.endpoint = endpoint_,
              .origin = origin_,
              .decoder = std::vector<std::byte>(decoder_->state_bytes()),
              .open = open_,
              .last_end = last_end_,
              .blanks = blanks_,
              .quiet = quiet_,
              .voice = voice_.state()};
  decoder_->save(state.decoder);
  return state;
}

bool Readout::fits(const State& state) const noexcept {
  return decoder_->valid(state.decoder) && voice_.fits(state.voice) && state.blanks >= 0 && state.quiet >= 0;
}

void Readout::set_state(State state) {
  set_endpoint(state.endpoint);
  origin_ = state.origin;
  decoder_->load(state.decoder);
  open_ = std::move(state.open);
  last_end_ = state.last_end;
  blanks_ = state.blanks;
  quiet_ = state.quiet;
  voice_.set_state(state.voice);
}

void Readout::hear(std::span<const float> samples) noexcept {
  if (endpoint_.detector != SilenceDetector::Blanks) voice_.hear(samples);
}

void Readout::advance(const StreamOutput& frames, std::int64_t heard, std::vector<Segment>& ended) {
  for (std::uint32_t i = 0; i < frames.frames; ++i) {
    const StreamOutput frame{.first_frame = frames.first_frame + i,
                             .frames = 1,
                             .tokens = frames.tokens + i,
                             .scores = frames.scores + i,
                             .log_probs = frames.log_probs ? frames.log_probs + i * vocab_ : nullptr};
    const std::int64_t begin = place(frame.first_frame * hop_ + offset_, heard);
    const bool silent = *frame.tokens == blank_ || tokenizer_.piece(*frame.tokens).is_special;
    blanks_ = silent ? blanks_ + 1 : 0;
    quiet_ = voice_.is_voice(frame.first_frame) ? 0 : quiet_ + 1;

    decoder_->advance(frame, settled_);
    const bool new_word = !settled_.empty();
    settle(heard);
    if (new_word && begin - open_.begin >= max_samples_) {
      close(SegmentEnd::Length, open_.words.back().end, ended);
    } else if (is_pause() && (!open_.words.empty() || !tentative().empty())) {
      if (!tentative().empty()) {
        decoder_->finish(settled_);
        settle(heard);
      }
      close(SegmentEnd::Pause, std::min(begin + hop_, heard), ended);
    }
    follow_tentative(heard);
  }
}

void Readout::finish(std::int64_t heard, std::vector<Segment>& ended) {
  decoder_->finish(settled_);
  settle(heard);
  if (!open_.words.empty()) close(SegmentEnd::End, heard, ended);
}

void Readout::interrupt(std::int64_t position, std::vector<Segment>& ended) {
  decoder_->finish(settled_);
  settle(position);
  if (open_.words.empty()) return;
  for (Word& word : open_.words) {  // settled when more had been heard
    word.begin = std::min(word.begin, position);
    word.end = std::min(word.end, position);
  }
  open_.begin = std::min(open_.begin, position);
  close(SegmentEnd::Model, position, ended);
}

bool Readout::is_idle() const noexcept {
  return open_.words.empty() && tentative().empty() &&
         blanks_ >= std::max<std::int64_t>(decoder_->pause_frames(), kOnsetMs * rate_ / 1000 / hop_);
}

std::int64_t Readout::onset_samples() const noexcept {
  // No more than half of the pause: before it lies the word that this readout has given.
  return std::min(blanks_ / 2 * hop_, kOnsetMs * rate_ / 1000 / hop_ * hop_);
}

bool Readout::is_pause() const noexcept {
  switch (endpoint_.detector) {
    case SilenceDetector::Blanks:
      return blanks_ >= silence_frames_;
    case SilenceDetector::Voice:
      return (quiet_ >= silence_frames_ && blanks_ >= decoder_->pause_frames()) ||
             blanks_ >= Endpoint::kMostSilences * silence_frames_;
    default:
      return blanks_ >= silence_frames_ &&
             (quiet_ >= silence_frames_ || blanks_ >= Endpoint::kMostSilences * silence_frames_);
  }
}

// What came out late may be placed before what it was heard in.
std::int64_t Readout::place(std::int64_t position, std::int64_t heard) const noexcept {
  return std::min(std::max(position, std::int64_t{0}) + origin_, heard);
}

void Readout::settle(std::int64_t heard) {
  for (Word& word : settled_) {
    word.begin = place(word.begin, heard);
    word.end = place(word.end, heard);
    if (open_.words.empty()) begin_segment(word.begin, word.continues);
    open_.words.push_back(std::move(word));
  }
  settled_.clear();
}

// A segment without a settled word begins with the tentative ones.
void Readout::follow_tentative(std::int64_t heard) {
  if (!open_.words.empty()) return;
  const Tentative tentative = decoder_->tentative();
  if (!tentative.text.empty()) begin_segment(place(tentative.begin, heard), tentative.continues);
}

void Readout::begin_segment(std::int64_t begin, bool continues) {
  // The first tokens may have had no text and lie before the segment.
  open_.begin = std::max(begin, last_end_);
  open_.continues = open_.number > 0 && continues;
}

void Readout::close(SegmentEnd reason, std::int64_t end, std::vector<Segment>& ended) {
  open_.reason = reason;
  open_.end = end;
  last_end_ = end;
  const std::int64_t next = open_.number + 1;
  ended.push_back(std::exchange(open_, {}));
  open_.number = next;
}

}  // namespace sidewinder::live
