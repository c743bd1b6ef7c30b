// Words as heard to text as read: casing, marks, numbers in digits. One stream's; live and offline share it.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/decoder.h"
#include "model/text/punctuator.h"
#include "model/text/word_style.h"

namespace sidewinder {

// A stretch of text without a space: one word, or several that make a number.
struct TextToken {
  std::string text;         // as written, the mark with it; tokens are joined by one space
  Mark mark = Mark::None;   // at the end of `text`
  std::vector<Word> words;  // as heard, at least one

  std::int64_t begin() const { return words.front().begin; }  // samples at the model's rate
  std::int64_t end() const { return words.back().end; }       // exclusive
};

// How much is done to the words.
enum class TextStyle {
  Words,       // nothing
  Numbers,     // numbers in digits
  Punctuated,  // casing and marks
  Readable,    // the same, numbers in digits, Mr. and Mrs. before names
};

// So many milliseconds of blanks between two words are a pause: as many as end a segment unless told
// otherwise.
inline constexpr int kTextPauseMs = 800;

// A token that says its word as it was heard.
TextToken plain_token(const Word& word);

struct TextOptions {
  bool numbers = true;             // spoken numbers become digits; titles before a name are abbreviated
  std::int64_t pause_samples = 0;  // silence between two words that counts as a pause; at the model's rate
};

// Of the default pause, kTextPauseMs.
TextOptions text_options(TextStyle style, const ModelConfig& config);

// That of the recogniser's folder, in its punctuation/; null where the style needs none. Throws ModelError.
std::unique_ptr<Punctuator> make_punctuator(TextStyle style, const std::filesystem::path& model);

// Thread rule: one thread at a time, together with its punctuator. Tokens are appended in order, each word is
// in exactly one, and none changes once it is out: it is held back until words_ahead() words more, a pause or
// the number's end settle it. The tokens depend on the words alone, not on how they were cut into calls.
class ReadableText {
 public:
  // `punctuator` may be null: then words keep their lower case and no mark is set. It must outlive this.
  ReadableText(Punctuator* punctuator, const TextOptions& options);

  // A stream that has heard nothing.
  void reset();

  void hear(std::span<const Word> words, std::vector<TextToken>& decided);

  // A pause or the end: everything heard is decided.
  void pause(std::vector<TextToken>& decided);

  struct Styled {
    Word word;
    WordStyle style;
  };
  // All there is to it. Plain values, for the state capsule.
  struct State {
    PunctuatorState punctuation;
    std::deque<Word> undecided;   // heard by the punctuator, style not known yet
    std::vector<Styled> number;   // words that may be a number; at most kLongestNumber
    std::string before;           // the word before `number`, if it may give it a meaning
    std::int64_t last_end = 0;    // of the last word
    bool paused = true;           // nothing was heard since the last pause
    bool sentence_begins = true;  // the next token is its first
  };
  const State& state() const noexcept { return state_; }
  bool fits(
      const State& state) const noexcept;  // whether it can be set: made with such a punctuator. Any thread
  void set_state(State state) { state_ = std::move(state); }

 private:
  void hear_together(std::span<const Word> words, std::vector<TextToken>& decided);
  void take_styles(std::vector<TextToken>& decided);
  void take(Styled styled, std::vector<TextToken>& decided);
  void close_number(std::vector<TextToken>& decided);
  void write(std::span<Styled> styled, std::string text, std::vector<TextToken>& decided);

  Punctuator* punctuator_;
  TextOptions options_;
  State state_;
  std::vector<WordStyle> styles_;  // decided in this call
};

}  // namespace sidewinder
