// How a word is written: its casing, and the mark after it.
#pragma once

#include <cstdint>

namespace sidewinder {

// The order is that of the punctuation model's outputs (model/training/punctuation/spoken.py).
enum class Casing : std::uint8_t { Lower, Capitalised, Capitals };
enum class Mark : std::uint8_t { None, Comma, Period, Question, Exclamation, Colon, Semicolon };
inline constexpr int kCasings = 3, kMarks = 7;

struct WordStyle {
  Casing casing = Casing::Lower;
  Mark mark = Mark::None;  // after the word

  bool operator==(const WordStyle&) const = default;
};

inline bool ends_sentence(Mark mark) {
  return mark == Mark::Period || mark == Mark::Question || mark == Mark::Exclamation;
}

inline const char* to_text(Mark mark) {
  constexpr const char* kTexts[kMarks] = {"", ",", ".", "?", "!", ":", ";"};
  return kTexts[static_cast<int>(mark)];
}

}  // namespace sidewinder
