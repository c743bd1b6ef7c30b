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

Readout::Readout(const ModelConfig& config, const Tokenizer& tokenizer, const Endpoint& endpoint)
    : tokenizer_(tokenizer),
      decoder_(make_best_path_decoder(config, tokenizer)),
      fresh_(decoder_->state_bytes()),
      blank_(config.blank),
      hop_(config.frame_hop()),
      rate_(config.sample_rate),
      offset_((config.first_frame_samples() - config.frame_hop()) / 2) {
  set_endpoint(endpoint);
  decoder_->save(fresh_);
}

void Readout::set_endpoint(const Endpoint& endpoint) noexcept {
  silence_frames_ = std::max<std::int64_t>(1, endpoint.silence_ms * rate_ / 1000 / hop_);
  max_samples_ = endpoint.max_segment_ms * rate_ / 1000;
}

void Readout::reset() {
  decoder_->load(fresh_);
  open_ = {};
  last_end_ = 0;
  blanks_ = 0;
  speaking_ = false;
  token_open_ = false;
}

void Readout::advance(const StreamOutput& frames, std::int64_t heard, std::vector<Segment>& ended) {
  for (std::uint32_t i = 0; i < frames.frames; ++i) {
    const StreamOutput frame{.first_frame = frames.first_frame + i,
                             .frames = 1,
                             .tokens = frames.tokens + i,
                             .scores = frames.scores + i};
    const Tokenizer::Piece& piece = tokenizer_.piece(*frame.tokens);
    const std::int64_t begin = std::min(frame.first_frame * hop_ + offset_, heard);
    const bool silent = *frame.tokens == blank_ || piece.is_special;
    blanks_ = silent ? blanks_ + 1 : 0;
    if (!silent && !speaking_) {
      speaking_ = true;
      open_.begin = begin;
      open_.continues = open_.number > 0 && !piece.starts_word && !token_open_;
    }
    token_open_ |= !silent;

    decoder_->advance(frame, settled_);
    const bool new_word = !settled_.empty();
    settle(heard);
    if (new_word && begin - open_.begin >= max_samples_) {
      close(SegmentEnd::Length, open_.words.back().end, ended);
      // This frame's token has begun the next segment.
      speaking_ = true;
      open_.begin = begin;
    } else if (blanks_ >= silence_frames_ && (!open_.words.empty() || !tentative().empty())) {
      if (!tentative().empty()) {
        decoder_->finish(settled_);
        token_open_ = false;
        settle(heard);
      }
      close(SegmentEnd::Pause, std::min(begin + hop_, heard), ended);
    }
  }
}

void Readout::finish(std::int64_t heard, std::vector<Segment>& ended) {
  decoder_->finish(settled_);
  settle(heard);
  if (!open_.words.empty()) close(SegmentEnd::End, heard, ended);
}

void Readout::settle(std::int64_t heard) {
  for (Word& word : settled_) {
    word.begin = std::min(word.begin, heard);
    word.end = std::min(word.end, heard);
    // Its first tokens may have had no text and lie before the segment.
    if (open_.words.empty()) open_.begin = std::max(word.begin, last_end_);
    open_.words.push_back(std::move(word));
  }
  settled_.clear();
}

void Readout::close(SegmentEnd reason, std::int64_t end, std::vector<Segment>& ended) {
  open_.reason = reason;
  open_.end = end;
  last_end_ = end;
  const std::int64_t next = open_.number + 1;
  ended.push_back(std::exchange(open_, {}));
  open_.number = next;
  speaking_ = false;
}

}  // namespace sidewinder::live
