#include "daemon/transcribe/transcript_writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <nlohmann/json.hpp>

namespace sidewinder {
namespace {

using nlohmann::ordered_json;

std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// A Word's position on the input's own clock, no later than its end.
std::int64_t input_sample(std::int64_t model_sample, const TranscriptStart& start) {
  return std::max<std::int64_t>(model_sample, 0) * start.sample_rate / start.model_rate;
}

// Three decimals, as positions are never finer than a frame.
double milliseconds(double seconds) {
  return std::round(seconds * 1000) / 1000;
}

class TextWriter final : public TranscriptWriter {
 public:
  TextWriter(TranscriptStart start, Sink& sink) : start_(std::move(start)), sink_(sink) {}

  void word(const Word& word) override {
    // A pause of a second begins a new line.
    bool new_line = end_ && word.begin - *end_ >= start_.model_rate;
    if (end_) sink_.write(new_line ? "\n" : " ");
    sink_.write(word.text);
    sink_.flush();
    end_ = word.end;
  }

  void finish(const TranscriptEnd&) override {
    if (end_) sink_.write("\n");
    sink_.flush();
  }

 private:
  TranscriptStart start_;
  Sink& sink_;
  std::optional<std::int64_t> end_;  // of the last word, if any
};

class JsonWriter final : public TranscriptWriter {
 public:
  JsonWriter(TranscriptStart start, Sink& sink) : start_(std::move(start)), sink_(sink) {
    ordered_json head{{"file", start_.file},
                      {"channel", start_.channel},
                      {"channels", start_.channels},
                      {"sample_rate", start_.sample_rate},
                      {"engine", start_.engine},
                      {"model", {{"name", start_.model_name}, {"sha256", start_.model_hash}}}};
    std::string text = dump(head);
    text.back() = ',';  // the object goes on
    sink_.write(text + "\n\"words\":[");
  }

  void word(const Word& word) override {
    std::int64_t begin = input_sample(word.begin, start_), end = input_sample(word.end, start_);
    double rate = start_.sample_rate;
    ordered_json entry{{"word", word.text},
                       {"start_sample", begin},
                       {"end_sample", end},
                       {"start", milliseconds(static_cast<double>(begin) / rate)},
                       {"end", milliseconds(static_cast<double>(end) / rate)},
                       {"confidence", milliseconds(static_cast<double>(word.confidence))}};
    sink_.write((words_ ? ",\n" : "\n") + dump(entry));
    std::string quoted = dump(word.text);
    text_.write((words_ ? " " : "") + quoted.substr(1, quoted.size() - 2));
    ++words_;
  }

  void finish(const TranscriptEnd& end) override {
    double audio = static_cast<double>(end.samples) / start_.sample_rate;
    sink_.write("],\n\"text\":\"");
    text_.copy_to(sink_);
    ordered_json tail{
        {"samples", end.samples},
        {"duration", milliseconds(audio)},
        {"timing",
         {{"wall_seconds", milliseconds(end.wall_seconds)},
          {"read_seconds", milliseconds(end.read_seconds)},
          {"engine_seconds", milliseconds(end.engine_seconds)},
          {"times_real_time", end.wall_seconds > 0 ? milliseconds(audio / end.wall_seconds) : 0}}}};
    if (end.error) tail["error"] = *end.error;
    std::string text = dump(tail);
    text.front() = ',';  // the object began above
    sink_.write("\"\n" + text);
    sink_.flush();
  }

 private:
  TranscriptStart start_;
  Sink& sink_;
  Spool text_;  // the words once more, as one JSON string without its quotes
  std::int64_t words_ = 0;
};

// Lines as a subtitler sets them: two of 42 characters, 7 seconds at the most, a new cue after a pause.
constexpr std::size_t kLineCharacters = 42;
constexpr std::size_t kLines = 2;
constexpr double kLongestCue = 7.0, kShortestCue = 1.0, kLastCue = 0.1, kCuePause = 0.8;  // seconds

bool begins_character(char c) {  // in UTF-8
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

// The first `count` characters of the text, in bytes.
std::size_t prefix(std::string_view text, std::size_t count) {
  std::size_t at = 0;
  while (at < text.size() && (!begins_character(text[at]) || count-- > 0)) ++at;
  return at;
}

class CueWriter final : public TranscriptWriter {
 public:
  CueWriter(TranscriptStart start, Sink& sink, bool vtt) : start_(std::move(start)), sink_(sink), vtt_(vtt) {
    if (vtt_) sink_.write("WEBVTT\n");
  }

  // A word too long for a line goes on in the next, each piece with its share of the time.
  void word(const Word& word) override {
    const double begin = seconds(word.begin);
    const double pace = (seconds(word.end) - begin) / static_cast<double>(word.text.size());
    for (std::size_t at = 0; at < word.text.size();) {
      std::size_t bytes = prefix(std::string_view(word.text).substr(at), kLineCharacters);
      add(word.text.substr(at, bytes), begin + pace * static_cast<double>(at),
          begin + pace * static_cast<double>(at + bytes));
      at += bytes;
    }
  }

  // What was heard in the very last instant still shows.
  void finish(const TranscriptEnd& end) override {
    double audio = static_cast<double>(end.samples) / start_.sample_rate;
    if (!text_.empty()) close(std::max(audio, begin_ + kLastCue));
    sink_.flush();
  }

 private:
  double seconds(std::int64_t model_sample) const {
    return static_cast<double>(std::max<std::int64_t>(model_sample, 0)) / start_.model_rate;
  }

  static std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < text.size();) {
      std::size_t end = std::min(text.find(' ', at), text.size());
      std::string word = text.substr(at, end - at);
      if (lines.empty() || characters(lines.back()) + 1 + characters(word) > kLineCharacters)
        lines.push_back(word);
      else
        lines.back() += " " + word;
      at = end + 1;
    }
    return lines;
  }

  void add(const std::string& word, double begin, double end) {
    std::string text = text_.empty() ? word : text_ + " " + word;
    bool fits = lines_of(text).size() <= kLines && end - begin_ <= kLongestCue && begin - end_ < kCuePause;
    if (!text_.empty() && !fits) {
      close(begin);
      text = word;
    }
    if (text_.empty()) begin_ = begin;
    text_ = text;
    end_ = std::min(end, begin_ + kLongestCue);
  }

  // Writes the cue; one too short to read stays up longer, but never into the next (`latest`, seconds).
  void close(double latest) {
    double end = std::max(end_, std::min(begin_ + kShortestCue, latest));
    sink_.write((vtt_ || cues_ > 0) ? "\n" : "");
    sink_.write(std::to_string(++cues_) + "\n" + timestamp(begin_) + " --> " + timestamp(end) + "\n");
    for (const std::string& line : lines_of(text_)) sink_.write((vtt_ ? escaped(line) : line) + "\n");
    sink_.flush();
    text_.clear();
  }

  // WebVTT has markup.
  static std::string escaped(const std::string& line) {
    std::string out;
    for (char c : line) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
    return out;
  }

  std::string timestamp(double time) const {
    auto total = static_cast<std::int64_t>(std::llround(time * 1000));
    std::array<char, 32> text;
    std::snprintf(text.data(), text.size(), "%02lld:%02lld:%02lld%c%03lld",
                  static_cast<long long>(total / 3600000), static_cast<long long>(total / 60000 % 60),
                  static_cast<long long>(total / 1000 % 60), vtt_ ? '.' : ',',
                  static_cast<long long>(total % 1000));
    return text.data();
  }

  TranscriptStart start_;
  Sink& sink_;
  bool vtt_;
  int cues_ = 0;
  std::string text_;  // of the cue being filled
  double begin_ = 0;  // seconds
  double end_ = 0;    // seconds
};

}  // namespace

const char* extension(TranscriptFormat format) {
  switch (format) {
    case TranscriptFormat::Json:
      return ".json";
    case TranscriptFormat::Srt:
      return ".srt";
    case TranscriptFormat::Vtt:
      return ".vtt";
    default:
      return ".txt";
  }
}

std::unique_ptr<TranscriptWriter> make_transcript_writer(TranscriptFormat format, TranscriptStart start,
                                                         Sink& sink) {
  switch (format) {
    case TranscriptFormat::Json:
      return std::make_unique<JsonWriter>(std::move(start), sink);
    case TranscriptFormat::Srt:
      return std::make_unique<CueWriter>(std::move(start), sink, false);
    case TranscriptFormat::Vtt:
      return std::make_unique<CueWriter>(std::move(start), sink, true);
    default:
      return std::make_unique<TextWriter>(std::move(start), sink);
  }
}

std::string json_failure(const std::string& file, const std::string& error) {
  return dump({{"file", file}, {"error", error}});
}

}  // namespace sidewinder
