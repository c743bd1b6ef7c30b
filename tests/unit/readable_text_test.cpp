// Words to readable text: numbers by tables, casing and marks by the shipped model, and both streaming.
#include "model/text/readable_text.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/error.h"
#include "model/text/mamba_punctuator.h"
#include "model/text/numbers.h"
#include "model/text/rule_punctuator.h"

namespace sidewinder {
namespace {

constexpr std::int64_t kPause = 12'800;  // samples: 800 ms

// "/" stands for a pause of a second; each word takes 300 ms, and 100 ms lie between two.
std::vector<Word> spoken(const std::string& text) {
  std::vector<Word> words;
  std::int64_t at = 0;
  std::istringstream in(text);
  for (std::string word; in >> word;) {
    if (word == "/") {
      at += 16'000;
      continue;
    }
    words.push_back({word, at, at + 4'800, 0.5f});
    at += 6'400;
  }
  return words;
}

std::string joined(const std::vector<TextToken>& tokens) {
  std::string text;
  for (const TextToken& token : tokens) text += (text.empty() ? "" : " ") + token.text;
  return text;
}

std::string numbers_of(const std::string& text) {
  ReadableText readable(nullptr, {.numbers = true, .pause_samples = kPause});
  std::vector<TextToken> tokens;
  readable.hear(spoken(text), tokens);
  readable.pause(tokens);
  return joined(tokens);
}

struct Case {
  const char* said;
  const char* written;
};

class Numbers : public testing::TestWithParam<Case> {};

TEST_P(Numbers, AreWrittenInDigits) {
  EXPECT_EQ(numbers_of(GetParam().said), GetParam().written) << GetParam().said;
  const std::string said = GetParam().said, written = GetParam().written;
  if (said.find("at ") == 0 || said.find("in ") == 0) return;
  EXPECT_EQ(numbers_of("x " + said + " y"), "x " + written + " y") << "within a sentence";
}

constexpr Case kCardinals[] = {
    {"ten", "10"},
    {"twelve people", "12 people"},
    {"twenty one", "21"},
    {"ninety nine", "99"},
    {"one hundred", "100"},
    {"one hundred and one", "101"},
    {"two hundred fifty six", "256"},
    {"nine hundred ninety nine", "999"},
    {"one thousand", "1,000"},
    {"two thousand five hundred", "2,500"},
    {"three thousand and four", "3,004"},
    {"twelve thousand and five", "12,005"},
    {"one hundred twenty three thousand four hundred fifty six", "123,456"},
    {"two hundred thousand", "200,000"},
    {"one million", "1 million"},
    {"five hundred million", "500 million"},
    {"five million two hundred thousand and six", "5,200,006"},
    {"one billion two million three thousand four", "1,002,003,004"},
    {"fifteen hundred", "1500"},
    {"twenty five hundred", "2,500"},
    {"minus twenty", "-20"},
    {"minus one", "-1"},
    {"negative forty two", "-42"},
    {"nine or ten", "nine or 10"},
    {"ten and eleven", "10 and 11"},
    {"a hundred", "a hundred"},
    {"a thousand times", "a thousand times"},
    {"hundreds of thousands", "hundreds of thousands"},
    {"twelve and a half", "12 and a half"},
};
constexpr Case kWords[] = {
    {"one of them", "one of them"},
    {"no one", "no one"},
    {"one or two", "one or two"},
    {"two and a half", "two and a half"},
    {"for a second", "for a second"},
    {"the first and the third", "the first and the third"},
    {"you may first go", "you may first go"},
    {"i am five", "i am five"},
    {"oh no", "oh no"},
    {"at one point", "at one point"},
    {"double the price", "double the price"},
    {"minus the fee", "minus the fee"},
    {"point taken", "point taken"},
    {"one two three", "one two three"},
    {"a and b", "a and b"},
    {"per cent", "per cent"},
    {"the eighties", "the eighties"},
    {"zero", "zero"},
};
constexpr Case kOrdinals[] = {
    {"tenth", "10th"},
    {"twelfth night", "12th night"},
    {"twenty first century", "21st century"},
    {"twenty second", "22nd"},
    {"thirty third", "33rd"},
    {"hundredth", "hundredth"},
    {"one hundredth", "100th"},
    {"one hundred and first", "101st"},
    {"one hundred twenty first", "121st"},
    {"one hundred eleventh", "111th"},
    {"two thousandth", "2,000th"},
    {"june first", "june 1st"},
    {"december twenty fifth", "december 25th"},
    {"the fourth of july", "the fourth of july"},
};
constexpr Case kYears[] = {
    {"nineteen eighty four", "1984"},
    {"twenty twenty six", "2026"},
    {"twenty twenty", "2020"},
    {"twenty ten", "2010"},
    {"two thousand and six", "2006"},
    {"two thousand six", "2006"},
    {"in two thousand", "in 2000"},
    {"two thousand people", "2,000 people"},
    {"nineteen oh five", "1905"},
    {"nineteen hundred", "1900"},
    {"seventeen seventy six", "1776"},
    {"ten sixty six", "1066"},
    {"in fourteen ninety two", "in 1492"},
    {"in fifteen twenty", "in 1520"},
    {"nineteen eighties", "1980s"},
    {"july fourth seventeen seventy six", "july 4th 1776"},
    {"twenty twenty five thousand", "20 25,000"},
};
constexpr Case kMoney[] = {
    {"five dollars", "$5"},
    {"one dollar", "$1"},
    {"five dollars and ten cents", "$5.10"},
    {"five dollars ten cents", "$5.10"},
    {"nineteen dollars and five cents", "$19.05"},
    {"twelve hundred dollars", "$1200"},
    {"two million dollars", "$2 million"},
    {"two point five million dollars", "$2.5 million"},
    {"one thousand two hundred euros", "€1,200"},
    {"ten cents", "10 cents"},
    {"five cents", "5 cents"},
    {"five dollars and ten people", "$5 and 10 people"},
    {"minus five dollars", "-$5"},
    {"about twelve fifty dollars", "about 12 $50"},
};
constexpr Case kPercentagesAndDecimals[] = {
    {"five percent", "5%"},
    {"fifty per cent", "50%"},
    {"two point five percent", "2.5%"},
    {"one hundred percent", "100%"},
    {"minus three percent", "-3%"},
    {"three point one four", "3.14"},
    {"zero point five", "0.5"},
    {"zero point oh five", "0.05"},
    {"minus two point five", "-2.5"},
    {"one point five billion", "1.5 billion"},
    {"twenty one point seven", "21.7"},
};
constexpr Case kTimes[] = {
    {"three thirty p m", "3:30 PM"},
    {"three thirty pm", "3:30 PM"},
    {"three p m", "3 PM"},
    {"eleven a m", "11 AM"},
    {"seven oh five a m", "7:05 AM"},
    {"twelve forty five p m", "12:45 PM"},
    {"five o'clock", "5 o'clock"},
    {"at ten fifteen", "at 10:15"},
    {"at three thirty", "at 3:30"},
    {"at twelve oh five", "at 12:05"},
    {"at one hundred", "at 100"},
    {"thirteen p m", "13 p m"},
    {"two thirty", "two 30"},
};
constexpr Case kDigitStrings[] = {
    {"five five five one two three four", "555-1234"},
    {"two one two five five five oh one nine nine", "212-555-0199"},
    {"one eight oh oh five five five oh one nine nine", "1-800-555-0199"},
    {"one two three four", "1234"},
    {"zero zero seven", "007"},
    {"two oh one", "201"},
    {"room two one five", "room 215"},
    {"four double two six", "4226"},
    {"triple nine one", "9991"},
    {"page five", "page 5"},
    {"chapter twenty one", "chapter 21"},
    {"number one", "number one"},
    {"one two three hundred", "one two 300"},
};

INSTANTIATE_TEST_SUITE_P(Cardinals, Numbers, testing::ValuesIn(kCardinals));
INSTANTIATE_TEST_SUITE_P(LeftAsWords, Numbers, testing::ValuesIn(kWords));
INSTANTIATE_TEST_SUITE_P(Ordinals, Numbers, testing::ValuesIn(kOrdinals));
INSTANTIATE_TEST_SUITE_P(Years, Numbers, testing::ValuesIn(kYears));
INSTANTIATE_TEST_SUITE_P(Money, Numbers, testing::ValuesIn(kMoney));
INSTANTIATE_TEST_SUITE_P(PercentagesAndDecimals, Numbers, testing::ValuesIn(kPercentagesAndDecimals));
INSTANTIATE_TEST_SUITE_P(Times, Numbers, testing::ValuesIn(kTimes));
INSTANTIATE_TEST_SUITE_P(DigitStrings, Numbers, testing::ValuesIn(kDigitStrings));

TEST(NumbersStreaming, APauseEndsANumber) {
  EXPECT_EQ(numbers_of("twenty / five"), "20 five");
  EXPECT_EQ(numbers_of("five / five / five one two three four"), "five five 51234");
}

TEST(NumbersStreaming, OffLeavesEveryWord) {
  ReadableText readable(nullptr, {.numbers = false, .pause_samples = kPause});
  std::vector<TextToken> tokens;
  readable.hear(spoken("twenty five dollars"), tokens);
  EXPECT_EQ(joined(tokens), "twenty five dollars");
}

TEST(NumbersStreaming, HoldsBackOnlyWhatMayGoOn) {
  ReadableText readable(nullptr, {.numbers = true, .pause_samples = kPause});
  std::vector<TextToken> tokens;
  const std::vector<Word> words = spoken("it was nineteen eighty four then");
  std::vector<std::string> after;
  for (const Word& word : words) {
    readable.hear({&word, 1}, tokens);
    after.push_back(joined(tokens));
  }
  EXPECT_EQ(after,
            (std::vector<std::string>{"it", "it was", "it was", "it was", "it was", "it was 1984 then"}));
  ASSERT_EQ(tokens.size(), 4u);
  ASSERT_EQ(tokens[2].words.size(), 3u);
  EXPECT_EQ(tokens[2].begin(), words[2].begin);
  EXPECT_EQ(tokens[2].end(), words[4].end);
  EXPECT_EQ(tokens[2].words[1].text, "eighty");
}

TEST(NumbersStreaming, ARowOfFiguresWithoutEndIsCut) {
  ReadableText readable(nullptr, {.numbers = true, .pause_samples = kPause});
  std::vector<TextToken> tokens;
  std::string said;
  for (int i = 0; i < 100; ++i) said += "seven ";
  readable.hear(spoken(said), tokens);
  EXPECT_EQ(tokens.size(), 4u) << "held back: fewer than 25 words";
  readable.pause(tokens);
  std::size_t words = 0, figures = 0;
  for (const TextToken& token : tokens) {
    words += token.words.size();
    figures += token.text.size();
  }
  EXPECT_EQ(words, 100u);
  EXPECT_EQ(figures, 100u);
}

// Random words, many of them number words, in calls of any length: the same tokens, each word in one of them.
TEST(NumbersStreaming, TheSameHoweverItIsCut) {
  constexpr const char* kVocabulary[] = {"one",  "two",   "oh",    "ten",     "twenty", "eighty",   "hundred",
                                         "and",  "point", "a",     "p",       "m",      "thousand", "million",
                                         "at",   "in",    "may",   "dollars", "cents",  "percent",  "per",
                                         "cent", "first", "tenth", "minus",   "double", "the",      "/"};
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string said;
    for (int i = 0; i < 60; ++i) said += std::string(kVocabulary[random() % std::size(kVocabulary)]) + " ";
    const std::vector<Word> words = spoken(said);
    std::vector<TextToken> whole, pieces;
    ReadableText one(nullptr, {.numbers = true, .pause_samples = kPause}),
        other(nullptr, {.numbers = true, .pause_samples = kPause});
    one.hear(words, whole);
    one.pause(whole);
    for (std::size_t at = 0; at < words.size();) {
      const std::size_t count = std::min<std::size_t>(random() % 5, words.size() - at);
      other.hear(std::span(words).subspan(at, count), pieces);
      at += count;
    }
    other.pause(pieces);
    ASSERT_EQ(joined(whole), joined(pieces)) << said;
    std::size_t next = 0;
    for (const TextToken& token : whole)
      for (const Word& word : token.words) ASSERT_EQ(word.begin, words.at(next++).begin) << said;
    ASSERT_EQ(next, words.size()) << said;
  }
}

// What PyTorch decides with the same weights (tests/golden/make_punctuation_vectors.py).
struct GoldenPunctuation : testing::Test {
  std::filesystem::path folder = std::filesystem::path(SIDEWINDER_TEST_DATA) / "golden" / "punctuation";
  nlohmann::json golden = nlohmann::json::parse(std::ifstream(folder / "golden.json"));
  MambaPunctuator punctuator{folder};
  std::vector<std::string> words;  // "/" is a pause

  GoldenPunctuation() {
    std::istringstream in(golden["text"].get<std::string>());
    for (std::string word; in >> word;) words.push_back(word);
  }

  // In calls of at most `most` words.
  std::vector<WordStyle> styles(std::size_t most) {
    PunctuatorState state = punctuator.fresh();
    std::vector<WordStyle> decided;
    std::vector<std::string_view> call;
    auto hear = [&] {
      punctuator.hear(state, call, decided);
      call.clear();
    };
    for (const std::string& word : words) {
      if (word == "/") {
        hear();
        punctuator.pause(state, decided);
        continue;
      }
      call.push_back(word);
      if (call.size() == most) hear();
    }
    hear();
    punctuator.pause(state, decided);
    return decided;
  }
};

TEST_F(GoldenPunctuation, PiecesAreTheLongestThatFit) {
  std::size_t i = 0;
  for (const std::string& word : words) {
    if (word == "/") continue;
    EXPECT_EQ(punctuator.pieces_of(word), golden["pieces"][i++].get<std::vector<std::int32_t>>()) << word;
  }
  EXPECT_EQ(i, golden["pieces"].size());
}

TEST_F(GoldenPunctuation, DecidesWhatPyTorchDoesHoweverItIsCut) {
  std::vector<WordStyle> expected;
  for (const auto& style : golden["styles"])
    expected.push_back({static_cast<Casing>(style[0].get<int>()), static_cast<Mark>(style[1].get<int>())});
  for (std::size_t most : {1, 2, 7, 1000}) EXPECT_EQ(styles(most), expected) << most << " words a call";
}

TEST_F(GoldenPunctuation, AWordIsDecidedTwoWordsLater) {
  PunctuatorState state = punctuator.fresh();
  std::vector<WordStyle> decided;
  const std::string_view the = "the";
  for (std::size_t i = 0; i < 5; ++i) {
    punctuator.hear(state, {&the, 1}, decided);
    EXPECT_EQ(decided.size(), i < 2 ? 0 : i - 1);
  }
  punctuator.pause(state, decided);
  EXPECT_EQ(decided.size(), 5u);
  punctuator.pause(state, decided);
  EXPECT_EQ(decided.size(), 5u) << "nothing is left";
}

TEST_F(GoldenPunctuation, StreamsDoNotMix) {
  const std::vector<WordStyle> alone = styles(1);
  PunctuatorState a = punctuator.fresh(), b = punctuator.fresh();
  std::vector<WordStyle> first, second;
  for (const std::string& word : words) {
    const std::string_view one = word, other = "other";
    if (word == "/")
      punctuator.pause(a, first);
    else
      punctuator.hear(a, {&one, 1}, first);
    punctuator.hear(b, {&other, 1}, second);
  }
  punctuator.pause(a, first);
  EXPECT_EQ(first, alone);
}

struct Rules : testing::Test {
  std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "rules";
  Rules() {
    std::filesystem::create_directories(folder);
    write("London\nNATO\nO'Brien\n");
  }
  void write(const std::string& names) { std::ofstream(folder / "names.txt") << names; }

  std::string read(const std::string& said, TextStyle style = TextStyle::Readable) {
    std::unique_ptr<Punctuator> punctuator = make_punctuator(folder);
    ReadableText readable(punctuator.get(),
                          {.numbers = style == TextStyle::Readable, .pause_samples = kPause});
    std::vector<TextToken> tokens;
    readable.hear(spoken(said), tokens);
    readable.pause(tokens);
    return joined(tokens);
  }
};

TEST_F(Rules, APauseEndsASentenceAndNamesHaveCapitals) {
  EXPECT_EQ(read("we went to london / nato was there / i'm sure i was"),
            "We went to London. NATO was there. I'm sure I was.");
  EXPECT_EQ(read("it cost five dollars / twenty people came"), "It cost $5. 20 people came.");
  EXPECT_EQ(read("it cost five dollars", TextStyle::Punctuated), "It cost five dollars.");
  EXPECT_EQ(read(""), "");
}

TEST_F(Rules, TitlesAreAbbreviatedBeforeAName) {
  write("Mister\nMissus\nO'Brien\n");
  EXPECT_EQ(read("it is mister o'brien and mrs o'brien / mr o'brien is in / yes mister"),
            "It is Mr. O'brien and Mrs. O'brien. Mr. O'brien is in. Yes Mister.");
  EXPECT_EQ(read("it is mister o'brien", TextStyle::Punctuated), "It is Mister O'brien.");
}

TEST_F(Rules, LongWordsInCapitalsAreHeadings) {
  write("NATO\nCHAPTER\n");
  EXPECT_EQ(read("nato has a chapter here"), "NATO has a Chapter here.");
}

TEST_F(Rules, AWordWaitsForTheNext) {
  std::unique_ptr<Punctuator> punctuator = make_punctuator(folder);
  ReadableText readable(punctuator.get(), {.numbers = true, .pause_samples = kPause});
  std::vector<TextToken> tokens;
  const std::vector<Word> words = spoken("hello there / again");
  for (std::size_t i = 0; i < words.size(); ++i) {
    readable.hear({&words[i], 1}, tokens);
    EXPECT_EQ(joined(tokens), i == 0 ? "" : i == 1 ? "Hello" : "Hello there.");
  }
}

TEST_F(Rules, WhatIsWrongIsNamed) {
  write("London\nSt. Louis\n");
  try {
    make_punctuator(folder);
    FAIL() << "accepted";
  } catch (const ModelError& error) {
    EXPECT_NE(std::string(error.what()).find("names.txt:2"), std::string::npos) << error.what();
  }
  std::filesystem::remove(folder / "names.txt");
  EXPECT_THROW(make_punctuator(folder), ModelError);
}

}  // namespace
}  // namespace sidewinder
