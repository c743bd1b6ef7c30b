// One stream's segments as readable text, as they grow.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/live/readout.h"
#include "model/text/readable_text.h"

namespace sidewinder::live {

// Thread rule: one thread at a time, together with the text's punctuator.
class SegmentText {
 public:
  SegmentText(Punctuator* punctuator, const TextOptions& options) : text_(punctuator, options) {}

  // The open segment has grown: its words from the first that has not been heard on are new.
  void grow(const Segment& segment);

  // The segment has ended, which counts as a pause, so that all of it is decided; until the next call of
  // grow().
  void end(const Segment& segment);

  // For each word of the segment that is decided, what is written: empty where it is part of the one before.
  const std::vector<std::string>& display() const { return display_; }

  // The decided text, and the rest of the segment's words with `tentative` behind, as they were heard.
  std::string committed() const;
  std::string tentative(const Segment& segment, std::string_view tentative) const;

  // All there is to it, for the state capsule.
  struct State {
    ReadableText::State text;
    std::vector<std::string> display;
    std::size_t heard = 0;  // words of the segment
    bool ended = false;
  };
  State state() const { return {text_.state(), display_, heard_, ended_}; }
  // Whether it can be set, with so many words in the open segment. Any thread.
  bool fits(const State& state, std::size_t open_words) const noexcept;
  void set_state(State state);

 private:
  void take_tokens();

  ReadableText text_;
  std::vector<TextToken> tokens_;
  std::vector<std::string> display_;
  std::size_t heard_ = 0;  // words of the segment
  bool ended_ = false;
};

}  // namespace sidewinder::live
