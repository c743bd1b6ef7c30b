#include "model/text/numbers.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace sidewinder {
namespace {

using Words = std::span<const std::string_view>;

struct Named {
  std::string_view name;
  std::int64_t value;
};

constexpr Named kDigits[] = {{"zero", 0}, {"one", 1}, {"two", 2},   {"three", 3}, {"four", 4},
                             {"five", 5}, {"six", 6}, {"seven", 7}, {"eight", 8}, {"nine", 9}};
constexpr Named kTeens[] = {{"ten", 10},      {"eleven", 11},  {"twelve", 12},  {"thirteen", 13},
                            {"fourteen", 14}, {"fifteen", 15}, {"sixteen", 16}, {"seventeen", 17},
                            {"eighteen", 18}, {"nineteen", 19}};
constexpr Named kTens[] = {{"twenty", 20}, {"thirty", 30},  {"forty", 40},  {"fifty", 50},
                           {"sixty", 60},  {"seventy", 70}, {"eighty", 80}, {"ninety", 90}};
constexpr Named kDecades[] = {{"twenties", 20}, {"thirties", 30},  {"forties", 40},  {"fifties", 50},
                              {"sixties", 60},  {"seventies", 70}, {"eighties", 80}, {"nineties", 90}};
constexpr Named kScales[] = {
    {"thousand", 1'000}, {"million", 1'000'000}, {"billion", 1'000'000'000}, {"trillion", 1'000'000'000'000}};
constexpr Named kSmallOrdinals[] = {{"first", 1}, {"second", 2},  {"third", 3},  {"fourth", 4}, {"fifth", 5},
                                    {"sixth", 6}, {"seventh", 7}, {"eighth", 8}, {"ninth", 9}};
constexpr Named kOrdinals[] = {{"tenth", 10},      {"eleventh", 11},   {"twelfth", 12},   {"thirteenth", 13},
                               {"fourteenth", 14}, {"fifteenth", 15},  {"sixteenth", 16}, {"seventeenth", 17},
                               {"eighteenth", 18}, {"nineteenth", 19}, {"twentieth", 20}, {"thirtieth", 30},
                               {"fortieth", 40},   {"fiftieth", 50},   {"sixtieth", 60},  {"seventieth", 70},
                               {"eightieth", 80},  {"ninetieth", 90}};

// Words that go on with a number, or stand beside it.
constexpr std::string_view kLinks[] = {"hundred", "hundredth", "thousandth", "millionth", "and",    "point",
                                       "oh",      "o",         "dollar",     "dollars",   "euro",   "euros",
                                       "cent",    "cents",     "percent",    "per",       "a",      "p",
                                       "m",       "am",        "pm",         "o'clock",   "double", "triple"};
constexpr std::string_view kMonths[] = {"january",   "february", "march",    "april",
                                        "may",       "june",     "july",     "august",
                                        "september", "october",  "november", "december"};
// After these a time may stand, or a year.
constexpr std::string_view kBeforeTimes[] = {"at",     "by",    "until",  "till",
                                             "around", "about", "before", "after"};
constexpr std::string_view kBeforeYears[] = {"in",   "since",  "of",     "by",     "until",
                                             "till", "from",   "year",   "before", "after",
                                             "to",   "during", "around", "early",  "late"};
// After these a number is a name.
constexpr std::string_view kBeforeNames[] = {
    "page",    "chapter", "room",     "line",    "version", "step",      "part",      "volume",
    "act",     "scene",   "level",    "grade",   "phase",   "channel",   "gate",      "number",
    "route",   "flight",  "track",    "highway", "code",    "extension", "apartment", "unit",
    "section", "article", "platform", "figure",  "table",   "episode"};

template <std::size_t N>
std::optional<std::int64_t> value_in(const Named (&names)[N], std::string_view word) {
  for (const Named& named : names)
    if (named.name == word) return named.value;
  return std::nullopt;
}

template <std::size_t N>
bool one_of(const std::string_view (&names)[N], std::string_view word) {
  return std::find(names, names + N, word) != names + N;
}

std::string_view word_at(Words words, std::size_t i) {
  return i < words.size() ? words[i] : std::string_view();
}

std::optional<std::int64_t> digit(std::string_view word) {
  return word == "oh" || word == "o" ? 0 : value_in(kDigits, word);
}

// A number of one or two spoken parts: five, fifteen, fifty five. `words` is 0 where there is none.
struct Spoken {
  std::int64_t value = 0;
  std::size_t words = 0;
};

Spoken below_hundred(Words words, std::size_t at) {
  const std::string_view first = word_at(words, at);
  if (auto value = value_in(kDigits, first)) return {*value, 1};
  if (auto value = value_in(kTeens, first)) return {*value, 1};
  auto tens = value_in(kTens, first);
  if (!tens) return {};
  auto unit = value_in(kDigits, word_at(words, at + 1));
  return unit && *unit > 0 ? Spoken{*tens + *unit, 2} : Spoken{*tens, 1};
}

// [fifteen] hundred [and] five
Spoken below_thousand(Words words, std::size_t at) {
  Spoken number = below_hundred(words, at);
  if (number.words == 0 || number.value == 0 || word_at(words, at + number.words) != "hundred") return number;
  number = {number.value * 100, number.words + 1};
  const std::size_t link = word_at(words, at + number.words) == "and" ? 1 : 0;
  const Spoken rest = below_hundred(words, at + number.words + link);
  return rest.words > 0 && rest.value > 0
             ? Spoken{number.value + rest.value, number.words + link + rest.words}
             : number;
}

struct Cardinal : Spoken {
  std::int64_t scale = 1;  // the largest that was named
};

// Parts with falling scales: five million two hundred thousand and six.
Cardinal cardinal(Words words, std::size_t at) {
  Cardinal number;
  std::int64_t last = INT64_MAX;
  for (;;) {
    const std::size_t here = at + number.words;
    const std::size_t link = number.words > 0 && word_at(words, here) == "and" ? 1 : 0;
    const Spoken part = below_thousand(words, here + link);
    if (part.words == 0 || (number.words > 0 && part.value == 0)) return number;
    const auto scale = value_in(kScales, word_at(words, here + link + part.words));
    const std::int64_t size = scale.value_or(1);
    if (size >= last || (number.words > 0 && part.value >= 1000)) return number;
    if (number.words == 0) number.scale = size;
    number.value += part.value * size;
    number.words += link + part.words + (scale ? 1 : 0);
    last = size;
    if (!scale) return number;
  }
}

std::string with_commas(std::int64_t value) {
  std::string text = std::to_string(value);
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

std::string two_digits(std::int64_t value) {
  return (value < 10 ? "0" : "") + std::to_string(value);
}

// A quantity as it is written before a unit, and what it is.
struct Quantity {
  std::string text;
  std::size_t words = 0;
  std::int64_t value = 0;
  bool plain = true;  // a whole number in digits alone, without a scale's name
};

// minus two point five million
Quantity quantity(Words words, std::size_t at) {
  const bool minus = word_at(words, at) == "minus" || word_at(words, at) == "negative";
  const std::size_t sign = minus ? 1 : 0;
  const Cardinal number = cardinal(words, at + sign);
  if (number.words == 0) return {};
  Quantity result{with_commas(number.value), sign + number.words, number.value, true};
  // Four digits that were not said in thousands are said like a year: fifteen hundred.
  if (number.scale == 1 && number.value >= 1000 && number.value < 2000)
    result.text = std::to_string(number.value);
  std::string decimals;
  std::size_t next = at + result.words;
  if (word_at(words, next) == "point")
    for (std::size_t i = next + 1; auto d = digit(word_at(words, i)); ++i) decimals += std::to_string(*d);
  if (!decimals.empty()) {
    result.text += "." + decimals;
    result.words += 1 + decimals.size();
    result.plain = false;
    next = at + result.words;
    const auto scale = value_in(kScales, word_at(words, next));
    if (scale) {
      result.text += " " + std::string(words[next]);
      result.words += 1;
    }
  } else if (number.scale >= 1'000'000 && number.value % number.scale == 0) {
    result.text = std::to_string(number.value / number.scale) + " " + std::string(words[next - 1]);
    result.plain = false;
  }
  if (minus) {
    result.text.insert(0, "-");
    result.plain = false;
  }
  return result;
}

std::optional<WrittenNumber> money(Words words) {
  const Quantity amount = quantity(words, 0);
  if (amount.words == 0) return std::nullopt;
  const std::string_view unit = word_at(words, amount.words);
  if (unit == "cent" || unit == "cents")
    return WrittenNumber{amount.text + " " + std::string(unit), amount.words + 1};
  const bool dollars = unit == "dollar" || unit == "dollars", euros = unit == "euro" || unit == "euros";
  if (!dollars && !euros) return std::nullopt;
  const bool minus = amount.text.starts_with('-');
  WrittenNumber written{
      (minus ? "-" : "") + std::string(dollars ? "$" : "€") + amount.text.substr(minus ? 1 : 0),
      amount.words + 1};
  const std::size_t link = word_at(words, written.words) == "and" ? 1 : 0;
  const Spoken cents = below_hundred(words, written.words + link);
  const std::string_view small = word_at(words, written.words + link + cents.words);
  if (amount.plain && cents.words > 0 && (small == "cent" || small == "cents")) {
    written.text += "." + two_digits(cents.value);
    written.words += link + cents.words + 1;
  }
  return written;
}

std::optional<WrittenNumber> percentage(Words words) {
  const Quantity amount = quantity(words, 0);
  if (amount.words == 0) return std::nullopt;
  if (word_at(words, amount.words) == "percent") return WrittenNumber{amount.text + "%", amount.words + 1};
  if (word_at(words, amount.words) == "per" && word_at(words, amount.words + 1) == "cent")
    return WrittenNumber{amount.text + "%", amount.words + 2};
  return std::nullopt;
}

// Words that make the ones before them a quantity: "about twelve fifty dollars" is no time.
bool belongs_to_number(std::string_view word) {
  constexpr std::string_view kUnits[] = {"hundred", "point",   "dollar", "dollars", "euro",
                                         "euros",   "percent", "cent",   "cents",   "per"};
  return is_scale(word) || one_of(kUnits, word);
}

std::optional<WrittenNumber> time_of_day(Words words, std::string_view before) {
  auto hour = value_in(kDigits, word_at(words, 0));
  if (!hour) hour = value_in(kTeens, word_at(words, 0));
  if (!hour || *hour < 1 || *hour > 12) return std::nullopt;
  // Minutes are two figures: oh five, fifteen, thirty five.
  Spoken minutes = below_hundred(words, 1);
  if (digit(word_at(words, 1)) == 0 && value_in(kDigits, word_at(words, 2)).value_or(0) > 0)
    minutes = {*value_in(kDigits, words[2]), 2};
  else if (minutes.value < 10 || minutes.value > 59)
    minutes = {};
  std::size_t next = 1 + minutes.words;
  std::string half;
  for (auto [letter, name] : {std::pair{"a", " AM"}, {"p", " PM"}}) {
    const std::string_view first = word_at(words, next);
    if (first == std::string(letter) + "m") half = name, next += 1;
    if (first == letter && word_at(words, next + 1) == "m") half = name, next += 2;
    if (!half.empty()) break;
  }
  const std::string clock =
      std::to_string(*hour) + (minutes.words > 0 ? ":" + two_digits(minutes.value) : std::string());
  if (!half.empty()) return WrittenNumber{clock + half, next};
  if (minutes.words == 0)
    return word_at(words, 1) == "o'clock" ? std::optional(WrittenNumber{clock + " o'clock", 2})
                                          : std::nullopt;
  if (one_of(kBeforeTimes, before) && !belongs_to_number(word_at(words, next)))
    return WrittenNumber{clock, next};
  return std::nullopt;
}

// Figures one by one: telephone numbers, codes, rooms.
std::optional<WrittenNumber> digit_string(Words words, std::string_view before) {
  std::string figures;
  std::size_t count = 0;
  while (count < words.size()) {
    const std::size_t times = words[count] == "double" ? 2 : words[count] == "triple" ? 3 : 1;
    const std::size_t at = count + (times > 1 ? 1 : 0);
    const auto figure = digit(word_at(words, at));
    if (!figure || (figures.empty() && times == 1 && *figure == 0 && words[at] != "zero")) break;
    figures.append(times, static_cast<char>('0' + *figure));
    count = at + 1;
  }
  // A tens or scale word behind would make the last figure part of another number; leave such mixtures alone.
  const bool ends_whole = below_hundred(words, count).words == 0 && !belongs_to_number(word_at(words, count));
  const bool has_zero = figures.find('0') != std::string::npos;
  if (!ends_whole || figures.size() < ((has_zero || one_of(kBeforeNames, before)) ? 3u : 4u))
    return std::nullopt;
  if (figures.size() == 7) figures.insert(3, "-");
  if (figures.size() == 10) figures.insert(6, "-").insert(3, "-");
  if (figures.size() == 11 && figures[0] == '1') figures.insert(7, "-").insert(4, "-").insert(1, "-");
  return WrittenNumber{figures, count};
}

std::optional<WrittenNumber> year(Words words, std::string_view before) {
  const bool expected = one_of(kBeforeYears, before) || one_of(kMonths, before);
  // two thousand [and] six
  if (word_at(words, 0) == "two" && word_at(words, 1) == "thousand") {
    const std::size_t link = word_at(words, 2) == "and" ? 1 : 0;
    const Spoken rest = below_hundred(words, 2 + link);
    const std::size_t end = rest.words > 0 ? 2 + link + rest.words : 2;
    if (belongs_to_number(word_at(words, end)) || (rest.words == 0 && !expected)) return std::nullopt;
    return WrittenNumber{std::to_string(2000 + rest.value), end};
  }
  const Spoken century = below_hundred(words, 0);
  if (century.words != 1 || century.value < 10 || century.value > 20) return std::nullopt;
  const std::string head = std::to_string(century.value);
  if (auto decade = value_in(kDecades, word_at(words, 1)))
    return WrittenNumber{head + std::to_string(*decade) + "s", 2};
  if (digit(word_at(words, 1)) == 0 && value_in(kDigits, word_at(words, 2)).value_or(0) > 0 &&
      (century.value > 12 || expected))
    return WrittenNumber{head + "0" + std::to_string(*value_in(kDigits, words[2])), 3};
  const Spoken tail = below_hundred(words, 1);
  if (tail.words == 0 || tail.value < 10) return std::nullopt;
  if (belongs_to_number(word_at(words, 1 + tail.words))) return std::nullopt;
  // "fifteen twenty" alone may be two numbers, and "ten thirty" a time; "ten sixty six" is neither.
  if (century.value < 16 && tail.value < 60 && !expected) return std::nullopt;
  return WrittenNumber{head + std::to_string(tail.value), 1 + tail.words};
}

const char* ordinal_ending(std::int64_t value) {
  if (value / 10 % 10 == 1) return "th";
  return value % 10 == 1 ? "st" : value % 10 == 2 ? "nd" : value % 10 == 3 ? "rd" : "th";
}

std::optional<WrittenNumber> ordinal(Words words, std::string_view before) {
  const Cardinal head = cardinal(words, 0);
  // Where the cardinal has a last part of its own, the ordinal can't follow: twenty one first.
  const std::string_view last = word_at(words, head.words);
  const std::int64_t below = head.words == 0 ? 0 : head.value;
  auto written = [&](std::int64_t value, std::size_t count) {
    return WrittenNumber{with_commas(value) + ordinal_ending(value), count};
  };
  if (head.words > 0) {
    for (auto [name, size] : {Named{"hundredth", 100}, {"thousandth", 1'000}, {"millionth", 1'000'000}})
      if (last == name && below < size) return written(below * size, head.words + 1);
    const std::size_t link = last == "and" ? 1 : 0;
    const std::string_view end = word_at(words, head.words + link);
    if (auto small = value_in(kSmallOrdinals, end);
        small && below % 10 == 0 && (below % 100 != 10) && (link == 0 || below % 100 == 0))
      return written(below + *small, head.words + link + 1);
    if (auto large = value_in(kOrdinals, end); large && below % 100 == 0)
      return written(below + *large, head.words + link + 1);
    return std::nullopt;
  }
  if (auto value = value_in(kOrdinals, last)) return written(*value, 1);
  if (auto value = value_in(kSmallOrdinals, last); value && one_of(kMonths, before))
    return written(*value, 1);
  return std::nullopt;
}

std::optional<WrittenNumber> plain(Words words, std::string_view before) {
  const Quantity amount = quantity(words, 0);
  if (amount.words == 0) return std::nullopt;
  const bool is_name = one_of(kBeforeNames, before) && !(before == "number" && amount.value == 1);
  if (amount.plain && amount.value < 10 && !is_name) return std::nullopt;
  return WrittenNumber{amount.text, amount.words};
}

}  // namespace

bool is_scale(std::string_view word) {
  return value_in(kScales, word).has_value();
}

bool may_begin_number(std::string_view word) {
  return value_in(kDigits, word) || value_in(kTeens, word) || value_in(kTens, word) ||
         value_in(kOrdinals, word) || value_in(kSmallOrdinals, word) || word == "minus" ||
         word == "negative" || word == "double" || word == "triple";
}

bool may_continue_number(std::string_view word) {
  return may_begin_number(word) || is_scale(word) || value_in(kDecades, word) || one_of(kLinks, word);
}

std::optional<WrittenNumber> read_number(Words words, std::string_view before) {
  if (auto found = money(words)) return found;
  if (auto found = percentage(words)) return found;
  if (auto found = time_of_day(words, before)) return found;
  if (auto found = digit_string(words, before)) return found;
  if (auto found = year(words, before)) return found;
  if (auto found = ordinal(words, before)) return found;
  return plain(words, before);
}

}  // namespace sidewinder
