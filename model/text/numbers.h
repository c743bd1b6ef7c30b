// Inverse text normalisation: spoken numbers to digits (American English).
//
//   cardinals    twelve thousand and five -> 12,005; two point five million -> 2.5 million; minus twenty ->
//   -20 ordinals     twenty first -> 21st; may fifth -> may 5th years        nineteen eighty four -> 1984;
//   twenty twenty six -> 2026; two thousand and six -> 2006 money        five dollars and ten cents -> $5.10;
//   two million euros -> €2 million; ten cents -> 10 cents percentages  two point five percent -> 2.5% times
//   three thirty p m -> 3:30 PM; at ten fifteen -> at 10:15; five o'clock -> 5 o'clock digits       five five
//   five one two three four -> 555-1234; room two oh one -> room 201
//
// Numbers under ten stay words unless one of these gives them a unit, or the word before them asks for digits
// (page five -> page 5); so "one of them" is left alone.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sidewinder {

// Whether a word (lower case) may begin a number, and whether it may go on with one.
bool may_begin_number(std::string_view word);
bool may_continue_number(std::string_view word);

// After this word a comma may stand within a number: "two thousand, five hundred".
bool is_scale(std::string_view word);

struct WrittenNumber {
  std::string text;
  std::size_t words = 0;  // that it stands for
};

// The number that begins `words`, or nothing where these are better left as words. `before` is the word
// before them, empty where there is none.
std::optional<WrittenNumber> read_number(std::span<const std::string_view> words, std::string_view before);

}  // namespace sidewinder
