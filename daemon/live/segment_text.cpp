#include "daemon/live/segment_text.h"

#include <span>
#include <utility>

namespace sidewinder::live {

void SegmentText::grow(const Segment& segment) {
  if (std::exchange(ended_, false)) {
    display_.clear();
    heard_ = 0;
  }
  text_.hear(std::span(segment.words).subspan(heard_), tokens_);
  heard_ = segment.words.size();
  take_tokens();
}

void SegmentText::end(const Segment& segment) {
  grow(segment);
  text_.pause(tokens_);
  take_tokens();
  ended_ = true;
}

bool SegmentText::fits(const State& state, std::size_t open_words) const noexcept {
  const bool of_segment = state.ended || (state.heard <= open_words && state.display.size() <= state.heard);
  return of_segment && text_.fits(state.text);
}

void SegmentText::set_state(State state) {
  text_.set_state(std::move(state.text));
  display_ = std::move(state.display);
  heard_ = state.heard;
  ended_ = state.ended;
}

std::string SegmentText::committed() const {
  std::string text;
  for (const std::string& each : display_) {
    if (each.empty()) continue;
    if (!text.empty()) text += ' ';
    text += each;
  }
  return text;
}

std::string SegmentText::tentative(const Segment& segment, std::string_view tentative) const {
  std::string text;
  for (std::size_t i = display_.size(); i < segment.words.size(); ++i) {
    text += segment.words[i].text;
    text += ' ';
  }
  text += tentative;
  if (text.ends_with(' ')) text.pop_back();
  return text;
}

void SegmentText::take_tokens() {
  for (TextToken& token : tokens_) {
    display_.push_back(std::move(token.text));
    display_.resize(display_.size() + token.words.size() - 1);
  }
  tokens_.clear();
}

}  // namespace sidewinder::live
