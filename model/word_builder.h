// Tokens to words: the last part of every decoder.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/tokenizer.h"

namespace sidewinder {

struct Word {
  std::string text;
  std::int64_t begin = 0;  // samples at the model's rate, from the stream's start
  std::int64_t end = 0;    // exclusive
  float confidence = 0;    // 0 to 1: geometric mean of its tokens' probabilities, calibrated (WordFit)
  bool continues = false;  // goes on where the word before was cut off by finish(): no space between them
};

// One token of the text, and the frames (from the stream's start) in which it was heard.
struct HeardToken {
  std::int64_t first_frame = 0;
  std::int64_t last_frame = 0;
  float score = 0;  // natural log of its probability in its best frame
  std::int32_t id = 0;
};

// Thread rule: one thread at a time. `tokenizer` must outlive it.
class WordBuilder {
 public:
  WordBuilder(const ModelConfig& config, const Tokenizer& tokenizer);

  // A token with text (not special). Settles the open word first if this one begins another.
  void take(const HeardToken& token, std::vector<Word>& settled);

  // The last token taken goes on in this frame.
  void repeat(std::int64_t frame, float score) noexcept;

  // The open word is complete; the next one begins in frame `next`, where that is known. Words do not
  // overlap.
  void close(std::int64_t next, std::vector<Word>& settled);
  static constexpr std::int64_t kUnknown = INT64_MAX / (1 << 20);

  // As close(), from outside: what comes next may go on the word that this one cut off.
  void finish(std::vector<Word>& settled);

  bool is_open() const noexcept { return word_.tokens > 0; }
  std::string_view text() const noexcept {
    return {word_.text.data(), static_cast<std::size_t>(word_.bytes)};
  }
  std::int64_t begin() const noexcept { return begin_of(word_.first_frame); }

  // Whether a word that begins with this token would go on the one before.
  bool would_continue(std::int32_t token) const noexcept;
  // Whether the open word does.
  bool continues() const noexcept { return word_.continues != 0; }

  // Where a word begins that is heard from this frame on (WordFit), no earlier than the word before ended.
  std::int64_t begin_of(std::int64_t frame) const noexcept {
    return std::max(frame * hop_ + offset_ + fit_.begin_shift, word_.previous_end);
  }

  // Plain bytes, so that they can go into a capsule.
  // A word longer than this is cut and goes on as the next one; real ones end long before.
  static constexpr std::size_t kMostWordBytes = 256;
  struct State {
    std::int64_t first_frame = 0;
    std::int64_t last_frame = 0;
    std::int64_t previous_end = 0;  // of the word before, samples
    double log_probability = 0;     // sum over the tokens
    float token_score = 0;          // of the last token
    std::int32_t tokens = 0;        // 0: no word is open
    std::int32_t bytes = 0;         // of text
    std::int16_t continues = 0;     // Word::continues of the open word
    std::int16_t cut = 0;           // a word was cut off by finish() and none has begun since
    std::array<char, kMostWordBytes> text{};
  };
  const State& state() const noexcept { return word_; }
  static constexpr std::int64_t kMostFrames = std::int64_t{1} << 40;  // of a stream
  bool valid(const State& state) const noexcept;  // whether it can be set: a word builder made it
  void set_state(const State& state) noexcept { word_ = state; }

 private:
  const Tokenizer& tokenizer_;
  std::int64_t hop_;     // samples a frame
  std::int64_t offset_;  // samples: where frame 0 begins
  WordFit fit_;
  State word_;
};

}  // namespace sidewinder
