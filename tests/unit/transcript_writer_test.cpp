// Words to text, JSON, SubRip and WebVTT.
#include "daemon/transcribe/transcript_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace sidewinder {
namespace {

class StringSink final : public Sink {
 public:
  void write(std::string_view more) override { text += more; }
  void flush() override {}
  std::string text;
};

constexpr int kRate = 16000;

TranscriptStart start_of(int sample_rate = kRate) {
  return {.file = "clip.wav",
          .sample_rate = sample_rate,
          .model_rate = kRate,
          .channels = 1,
          .channel = "mix",
          .engine = "cpu",
          .model_name = "pretrained",
          .model_hash = "00ff"};
}

Word word(const std::string& text, double begin, double end) {
  return {text, std::llround(begin * kRate), std::llround(end * kRate), 0.5f};
}

std::string written(TranscriptFormat format, const std::vector<Word>& words, const TranscriptEnd& end,
                    const TranscriptStart& start = start_of()) {
  StringSink sink;
  auto writer = make_transcript_writer(format, start, sink);
  for (const Word& w : words) writer->token(plain_token(w));
  writer->finish(end);
  return sink.text;
}

std::string written(TranscriptFormat format, const std::vector<Word>& words, double seconds = 60) {
  return written(format, words, {.samples = std::llround(seconds * kRate)});
}

TEST(TextWriter, APauseOfASecondBeginsALine) {
  EXPECT_EQ(written(TranscriptFormat::Text, {}), "");
  EXPECT_EQ(written(TranscriptFormat::Text, {word("one", 0, 1)}), "one\n");
  EXPECT_EQ(written(TranscriptFormat::Text, {word("one", 0, 1), word("two", 1.9, 2), word("three", 3, 4)}),
            "one two\nthree\n");
}

TEST(TextWriter, EachWordIsThereAtOnce) {
  StringSink sink;
  auto writer = make_transcript_writer(TranscriptFormat::Text, start_of(), sink);
  writer->token(plain_token(word("one", 0, 1)));
  EXPECT_EQ(sink.text, "one");
}

TEST(JsonWriter, AllOfIt) {
  auto json =
      nlohmann::json::parse(written(TranscriptFormat::Json, {word("one", 0.5, 1), word("two", 2, 2.25)},
                                    {.samples = 3 * kRate,
                                     .wall_seconds = 0.5,
                                     .read_seconds = 0.125,
                                     .engine_seconds = 0.25,
                                     .error = {}}));
  EXPECT_EQ(json["file"], "clip.wav");
  EXPECT_EQ(json["channel"], "mix");
  EXPECT_EQ(json["channels"], 1);
  EXPECT_EQ(json["sample_rate"], kRate);
  EXPECT_EQ(json["engine"], "cpu");
  EXPECT_EQ(json["model"], (nlohmann::json{{"name", "pretrained"}, {"sha256", "00ff"}}));
  EXPECT_EQ(json["text"], "one two");
  EXPECT_EQ(json["samples"], 3 * kRate);
  EXPECT_EQ(json["duration"], 3.0);
  EXPECT_EQ(json["timing"], (nlohmann::json{{"wall_seconds", 0.5},
                                            {"read_seconds", 0.125},
                                            {"engine_seconds", 0.25},
                                            {"times_real_time", 6.0}}));
  EXPECT_FALSE(json.contains("error"));
  ASSERT_EQ(json["words"].size(), 2u);
  EXPECT_EQ(json["words"][1], (nlohmann::json{{"word", "two"},
                                              {"start_sample", 2 * kRate},
                                              {"end_sample", 36000},
                                              {"start", 2.0},
                                              {"end", 2.25},
                                              {"confidence", 0.5}}));
}

TEST(JsonWriter, ReadableTextBesideTheWords) {
  TranscriptStart start = start_of();
  start.readable = true;
  StringSink sink;
  auto writer = make_transcript_writer(TranscriptFormat::Json, start, sink);
  writer->token({"It", Mark::None, {word("it", 0, 1)}});
  writer->token({"cost", Mark::None, {word("cost", 1, 2)}});
  writer->token({"$5.", Mark::Period, {word("five", 2, 3), word("dollars", 3, 4)}});
  writer->finish({.samples = 5 * kRate});
  auto json = nlohmann::json::parse(sink.text);
  EXPECT_EQ(json["text"], "it cost five dollars");
  EXPECT_EQ(json["readable"], "It cost $5.");
  ASSERT_EQ(json["words"].size(), 4u);
  EXPECT_EQ(json["words"][0]["display"], "It");
  EXPECT_EQ(json["words"][2]["word"], "five");
  EXPECT_EQ(json["words"][2]["display"], "$5.");
  EXPECT_EQ(json["words"][3]["display"], "");
}

TEST(JsonWriter, PositionsAreOnTheInputsClock) {
  auto json = nlohmann::json::parse(
      written(TranscriptFormat::Json, {{"one", 160, 16001, 1.0f}}, {.samples = 44104}, start_of(44100)));
  const auto& entry = json["words"][0];
  EXPECT_EQ(entry["start_sample"], 441);
  EXPECT_EQ(entry["end_sample"], 44102);
  EXPECT_EQ(entry["start"], 0.01);
  EXPECT_LE(entry["end_sample"], json["samples"]);
}

TEST(JsonWriter, NoWordsAndAnError) {
  auto json =
      nlohmann::json::parse(written(TranscriptFormat::Json, {}, {.samples = 0, .error = "cut short\nhere"}));
  EXPECT_EQ(json["words"], nlohmann::json::array());
  EXPECT_EQ(json["text"], "");
  EXPECT_EQ(json["error"], "cut short\nhere");
}

TEST(JsonWriter, AnyBytesGiveValidJson) {
  TranscriptStart start = start_of();
  start.file = "a\"b\\c\n\xFF.wav";
  auto json = nlohmann::json::parse(written(TranscriptFormat::Json,
                                            {word("\"q\"\\", 0, 1), word("\xC3\xA4\x01\xFF", 1, 2)},
                                            {.samples = 1}, start));
  EXPECT_EQ(json["text"], "\"q\"\\ \xC3\xA4\x01\xEF\xBF\xBD");
  EXPECT_EQ(json["words"][0]["word"], "\"q\"\\");
  EXPECT_EQ(json["file"], "a\"b\\c\n\xEF\xBF\xBD.wav");
}

TEST(JsonFailure, NamesTheFileAndTheReason) {
  EXPECT_EQ(nlohmann::json::parse(json_failure("a\n.wav", "no such file")),
            (nlohmann::json{{"file", "a\n.wav"}, {"error", "no such file"}}));
}

struct ParsedCue {
  std::int64_t begin = 0, end = 0;  // milliseconds
  std::vector<std::string> lines;
};

// A parser as strict as the rules of a subtitle file; fails the test at the first breach.
std::vector<ParsedCue> parse_cues(const std::string& text, bool vtt) {
  std::istringstream in(text);
  std::vector<ParsedCue> cues;
  std::string line;
  if (vtt) {
    EXPECT_TRUE(std::getline(in, line) && line == "WEBVTT");
    if (!std::getline(in, line)) return cues;
    EXPECT_EQ(line, "");
  }
  while (std::getline(in, line)) {
    EXPECT_EQ(line, std::to_string(cues.size() + 1));
    long long h1, m1, s1, ms1, h2, m2, s2, ms2;
    int length = 0;
    EXPECT_TRUE(std::getline(in, line));
    const char* pattern = vtt ? "%2lld:%2lld:%2lld.%3lld --> %2lld:%2lld:%2lld.%3lld%n"
                              : "%2lld:%2lld:%2lld,%3lld --> %2lld:%2lld:%2lld,%3lld%n";
    EXPECT_EQ(std::sscanf(line.c_str(), pattern, &h1, &m1, &s1, &ms1, &h2, &m2, &s2, &ms2, &length), 8)
        << line;
    EXPECT_EQ(length, 29) << line;
    ParsedCue cue{((h1 * 60 + m1) * 60 + s1) * 1000 + ms1, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2, {}};
    while (std::getline(in, line) && !line.empty()) cue.lines.push_back(line);
    cues.push_back(cue);
  }
  EXPECT_TRUE(text.empty() || (text.back() == '\n' && !text.ends_with("\n\n"))) << "ends in one newline";
  return cues;
}

std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

void check_rules(const std::vector<ParsedCue>& cues) {
  std::int64_t before = 0;
  for (const ParsedCue& cue : cues) {
    EXPECT_LE(before, cue.begin);
    EXPECT_LT(cue.begin, cue.end);
    EXPECT_LE(cue.end - cue.begin, 7000);
    EXPECT_GE(cue.lines.size(), 1u);
    EXPECT_LE(cue.lines.size(), 2u);
    for (const std::string& line : cue.lines) {
      EXPECT_LE(characters(line), 42u) << line;
      EXPECT_FALSE(line.starts_with(' ') || line.ends_with(' '));
    }
    before = cue.end;
  }
}

std::string all_text(const std::vector<ParsedCue>& cues) {
  std::string text;
  for (const ParsedCue& cue : cues)
    for (const std::string& line : cue.lines) text += (text.empty() ? "" : " ") + line;
  return text;
}

TEST(CueWriter, SubRipToTheLetter) {
  EXPECT_EQ(written(TranscriptFormat::Srt,
                    {word("one", 0.25, 0.5), word("two", 0.6, 1.5), word("three", 3600, 3600.04)}, 3601),
            "1\n00:00:00,250 --> 00:00:01,500\none two\n\n2\n01:00:00,000 --> 01:00:01,000\nthree\n");
}

TEST(CueWriter, WebVttToTheLetter) {
  EXPECT_EQ(written(TranscriptFormat::Vtt, {word("a<b&c>", 1, 1.5)}),
            "WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.000\na&lt;b&amp;c&gt;\n");
  EXPECT_EQ(written(TranscriptFormat::Vtt, {}), "WEBVTT\n");
  EXPECT_EQ(written(TranscriptFormat::Srt, {}), "");
}

TEST(CueWriter, ShortCuesStayUpButNeverIntoTheNext) {
  auto cues = parse_cues(
      written(TranscriptFormat::Srt, {word("a", 1, 1.1), word("b", 2.1, 2.2), word("c", 4, 4.1)}, 4.2),
      false);
  ASSERT_EQ(cues.size(), 3u);
  EXPECT_EQ(cues[0].end, 2000);
  EXPECT_EQ(cues[1].end, 3100);
  EXPECT_EQ(cues[2].end, 4200) << "nor past the end of the audio";
}

TEST(CueWriter, APauseTooSoonForACueOfASecondIsNoBreak) {
  auto cues = parse_cues(
      written(TranscriptFormat::Srt, {word("a", 1, 1.05), word("b", 1.9, 2), word("c", 3, 3.1)}, 6), false);
  ASSERT_EQ(cues.size(), 2u);
  EXPECT_EQ(cues[0].lines, std::vector<std::string>{"a b"});
}

// Words of 300 ms, 50 ms between them; marks as written.
std::vector<TextToken> read_aloud(const std::string& text) {
  std::vector<TextToken> tokens;
  std::istringstream in(text);
  double time = 0;
  for (std::string written; in >> written; time += 0.35) {
    constexpr std::string_view kTexts = " ,.?!:;";
    const std::size_t mark = kTexts.find(written.back());
    tokens.push_back({written,
                      mark == std::string_view::npos ? Mark::None : static_cast<Mark>(mark),
                      {word("heard", time, time + 0.3)}});
  }
  return tokens;
}

std::vector<ParsedCue> cues_of(const std::vector<TextToken>& tokens) {
  StringSink sink;
  auto writer = make_transcript_writer(TranscriptFormat::Srt, start_of(), sink);
  for (const TextToken& token : tokens) writer->token(token);
  writer->finish({.samples = 600 * kRate});
  auto cues = parse_cues(sink.text, false);
  check_rules(cues);
  return cues;
}

using Lines = std::vector<std::string>;

TEST(CueLayout, SentencesEndCues) {
  auto cues = cues_of(read_aloud("The door was open. Nobody had come in, though. Where were they?"));
  ASSERT_EQ(cues.size(), 3u);
  EXPECT_EQ(cues[0].lines, Lines{"The door was open."});
  EXPECT_EQ(cues[1].lines, Lines{"Nobody had come in, though."});
  EXPECT_EQ(cues[2].lines, Lines{"Where were they?"});
}

TEST(CueLayout, ShortSentencesShareACue) {
  auto cues = cues_of(read_aloud("No. I do not think so."));
  ASSERT_EQ(cues.size(), 1u);
}

TEST(CueLayout, LinesBreakAtMarksAndBeforePhrases) {
  EXPECT_EQ(cues_of(read_aloud("When the rain had stopped at last, they went down to the river."))[0].lines,
            (Lines{"When the rain had stopped at last,", "they went down to the river."}));
  EXPECT_EQ(
      cues_of(read_aloud("The old captain looked for his hat and the key of the small cabin."))[0].lines,
      (Lines{"The old captain looked for his hat", "and the key of the small cabin."}));
}

TEST(CueLayout, NoWordIsLeftAlone) {
  for (const char* text :
       {"It was the best of times and it was the worst of times for everybody here today.",
        "He said that the whole of the evening had been spent in looking through old letters and papers "
        "again.",
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty twentyone"}) {
    for (const ParsedCue& cue : cues_of(read_aloud(text))) {
      EXPECT_GE(cue.end - cue.begin, 1000);
      for (const std::string& line : cue.lines) EXPECT_NE(line.find(' '), std::string::npos) << line;
    }
  }
}

TEST(CueLayout, ASpeechWithoutPauseOrMarkIsStillCutInTime) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "word ";
  StringSink sink;
  auto writer = make_transcript_writer(TranscriptFormat::Srt, start_of(), sink);
  std::size_t waiting = 0, most = 0, written_words = 0;
  for (const TextToken& token : read_aloud(text)) {
    writer->token(token);
    ++waiting;
    std::size_t out = 0;
    for (std::size_t at = 0; (at = sink.text.find("word", at)) != std::string::npos; ++at) ++out;
    most = std::max(most, waiting - out);
    written_words = out;
  }
  EXPECT_LE(most, 82u) << "words that wait";
  EXPECT_GT(written_words, 400u);
}

TEST(CueWriter, AWordOutOfThePaddingStillShows) {
  auto cues = parse_cues(written(TranscriptFormat::Srt, {word("late", 2, 2)}, 2), false);
  check_rules(cues);
  EXPECT_EQ(cues.size(), 1u);
}

TEST(CueWriter, WordsLongerThanALineOrACue) {
  std::string umlauts;
  for (int i = 0; i < 100; ++i) umlauts += "\xC3\xA4";
  for (const std::string& text : {std::string(256, 'x'), umlauts}) {
    for (bool vtt : {false, true}) {
      auto cues = parse_cues(written(vtt ? TranscriptFormat::Vtt : TranscriptFormat::Srt,
                                     {word("a", 0, 1), word(text, 1, 31), word("b", 31, 32)}),
                             vtt);
      check_rules(cues);
      std::string joined = all_text(cues);
      std::erase(joined, ' ');
      EXPECT_EQ(joined, "a" + text + "b");
    }
  }
}

// Talk of every pace and word length keeps the rules and loses no word.
TEST(CueWriter, RandomTalk) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    auto uniform = [&](double low, double high) {
      return std::uniform_real_distribution<>(low, high)(random);
    };
    const double pace = uniform(0.02, 3);
    std::vector<Word> words;
    std::string expected;
    double time = 0;
    for (int i = 0; i < 120; ++i) {
      double begin = time + (uniform(0, 1) < 0.3 ? uniform(0, 2) : 0),
             end = begin + uniform(0.04, 0.04 + pace);
      std::string text(1 + random() % 20, static_cast<char>('a' + i % 26));
      words.push_back(word(text, begin, end));
      expected += (expected.empty() ? "" : " ") + text;
      time = end;
    }
    for (bool vtt : {false, true}) {
      auto cues = parse_cues(written(vtt ? TranscriptFormat::Vtt : TranscriptFormat::Srt, words, time), vtt);
      check_rules(cues);
      EXPECT_EQ(all_text(cues), expected);
    }
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST(Extensions, OfEachFormat) {
  EXPECT_STREQ(extension(TranscriptFormat::Text), ".txt");
  EXPECT_STREQ(extension(TranscriptFormat::Json), ".json");
  EXPECT_STREQ(extension(TranscriptFormat::Srt), ".srt");
  EXPECT_STREQ(extension(TranscriptFormat::Vtt), ".vtt");
}

}  // namespace
}  // namespace sidewinder
