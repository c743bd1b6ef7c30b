#include "daemon/transcribe/transcript_writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/transcribe/cue_layout.h"

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

  void token(const TextToken& token) override {
    // A pause of a second begins a new line.
    bool new_line = end_ && token.begin() - *end_ >= start_.model_rate;
    if (end_) sink_.write(new_line ? "\n" : " ");
    sink_.write(token.text);
    sink_.flush();
    end_ = token.end();
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

  void token(const TextToken& token) override {
    for (const Word& word : token.words) {
      ordered_json entry = json_of(word);
      // What is written for several words stands at their first.
      if (start_.readable) entry["display"] = &word == token.words.data() ? token.text : "";
      sink_.write((words_ ? ",\n" : "\n") + dump(entry));
      append(text_, word.text, words_ > 0);
      ++words_;
    }
    if (start_.readable) append(readable_, token.text, tokens_ > 0);
    ++tokens_;
  }

  void finish(const TranscriptEnd& end) override {
    double audio = static_cast<double>(end.samples) / start_.sample_rate;
    sink_.write("],\n\"text\":\"");
    text_.copy_to(sink_);
    if (start_.readable) {
      sink_.write("\",\n\"readable\":\"");
      readable_.copy_to(sink_);
    }
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
  ordered_json json_of(const Word& word) const {
    const std::int64_t begin = input_sample(word.begin, start_), end = input_sample(word.end, start_);
    const double rate = start_.sample_rate;
    return {{"word", word.text},
            {"start_sample", begin},
            {"end_sample", end},
            {"start", milliseconds(static_cast<double>(begin) / rate)},
            {"end", milliseconds(static_cast<double>(end) / rate)},
            {"confidence", milliseconds(static_cast<double>(word.confidence))}};
  }

  // To a JSON string without its quotes.
  static void append(Spool& string, const std::string& text, bool space) {
    const std::string quoted = dump(text);
    string.write((space ? " " : "") + quoted.substr(1, quoted.size() - 2));
  }

  TranscriptStart start_;
  Sink& sink_;
  Spool text_;      // the words once more
  Spool readable_;  // the tokens, joined by spaces
  std::int64_t words_ = 0;
  std::int64_t tokens_ = 0;
};

// Cues (cue_layout.h) as SubRip or WebVTT.
class CueWriter final : public TranscriptWriter {
 public:
  CueWriter(TranscriptStart start, Sink& sink, bool vtt) : start_(std::move(start)), sink_(sink), vtt_(vtt) {
    if (vtt_) sink_.write("WEBVTT\n");
  }

  void token(const TextToken& token) override {
    layout_.add({token.text, seconds(token.begin()), seconds(token.end()), token.mark}, cues_);
    write();
  }

  void finish(const TranscriptEnd& end) override {
    layout_.finish(static_cast<double>(end.samples) / start_.sample_rate, cues_);
    write();
    sink_.flush();
  }

 private:
  // In whole milliseconds, as cues are timed.
  double seconds(std::int64_t model_sample) const {
    return milliseconds(static_cast<double>(std::max<std::int64_t>(model_sample, 0)) / start_.model_rate);
  }

  void write() {
    for (const Cue& cue : cues_) {
      sink_.write((vtt_ || written_ > 0) ? "\n" : "");
      sink_.write(std::to_string(++written_) + "\n" + timestamp(cue.begin) + " --> " + timestamp(cue.end) +
                  "\n");
      for (const std::string& line : cue.lines) sink_.write((vtt_ ? escaped(line) : line) + "\n");
      sink_.flush();
    }
    cues_.clear();
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
  CueLayout layout_;
  std::vector<Cue> cues_;  // laid out, not written yet
  int written_ = 0;
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
