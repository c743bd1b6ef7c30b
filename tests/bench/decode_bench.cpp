// Decoders on recorded speech: texts, their cost, how steady what they show is. tests/bench/decode drives it.
//
//   decode_bench MODEL SPEECH [--streams] [--limit N] < runs > results
//
// SPEECH is a folder of packs with packs.tsv (pack, start second, seconds, speaker, text). Its utterances are
// decoded one by one or, with --streams, each pack without a reset, through the daemon's Readout. The encoder
// runs once. Every line of `runs` is a JSON object: name, decoding (as decoder.json), lm_folder, and where
// they matter hotwords (a file), chunk_frames, silence_ms, max_segment_ms, detector (blanks, voice, both).
// Every line of `results` is one too. CPU times are of one thread.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/live/readout.h"
#include "model/engine.h"
#include "model/hotwords.h"
#include "model/weights.h"
#include "tests/bench/speech_set.h"

namespace sidewinder {
namespace {

using nlohmann::json;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// One utterance or pack, through the encoder.
struct Item {
  std::int64_t samples = 0;
  std::vector<float> sound;                                  // (samples), of packs only
  std::vector<std::pair<std::int64_t, std::int64_t>> quiet;  // samples: stretches without speech, by loudness
  std::vector<std::int32_t> tokens;                          // (frames)
  std::vector<float> scores;                                 // (frames)
  std::vector<float> log_probs;                              // (frames, vocab)

  StreamOutput part(std::size_t begin, std::size_t count, std::size_t vocab) const {
    return {.first_frame = static_cast<std::int64_t>(begin),
            .frames = static_cast<std::uint32_t>(count),
            .tokens = tokens.data() + begin,
            .scores = scores.data() + begin,
            .log_probs = log_probs.data() + begin * vocab};
  }
};

// Stretches of at least 200 ms whose level, in windows of 20 ms, is 25 dB under that of loud speech (the 90th
// percentile).
std::vector<std::pair<std::int64_t, std::int64_t>> quiet_stretches(std::span<const float> sound) {
  constexpr std::size_t kWindow = 320, kLeast = 10;
  std::vector<double> power;
  for (std::size_t at = 0; at + kWindow <= sound.size(); at += kWindow) {
    double sum = 0;
    for (float sample : sound.subspan(at, kWindow)) sum += static_cast<double>(sample) * sample;
    power.push_back(sum);
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> quiet;
  if (power.empty()) return quiet;
  std::vector<double> sorted = power;
  std::sort(sorted.begin(), sorted.end());
  const double most = sorted[sorted.size() * 9 / 10] * std::pow(10, -2.5);
  std::size_t run = 0;
  for (std::size_t i = 0; i <= power.size(); ++i) {
    if (i < power.size() && power[i] < most) {
      ++run;
      continue;
    }
    if (run >= kLeast)
      quiet.emplace_back(static_cast<std::int64_t>((i - run) * kWindow),
                         static_cast<std::int64_t>(i * kWindow));
    run = 0;
  }
  return quiet;
}

class Bench {
 public:
  Bench(const std::string& model, const std::string& speech, bool streams, std::size_t limit)
      : model_(load_model(model)),
        tokenizer_(model_.folder / "tokens.txt", model_.config.vocab_size),
        vocab_(static_cast<std::size_t>(model_.config.vocab_size)),
        streams_(streams) {
    auto engine = make_cpu_engine(model_, {.max_samples = kStep, .want_log_probs = true});
    for_each_utterance(speech,
                       [&](bool first, std::span<const float> pack, std::span<const float> utterance) {
                         if (!streams_ || first) encode(*engine, streams_ ? pack : utterance);
                         return items_.size() < limit;
                       });
  }

  json run(const json& wanted) {
    const DecodingConfig config = parse_decoding_config(wanted.at("decoding").dump(), "decoding");
    const Decoding decoding(config, wanted.value("lm_folder", model_.folder.string()), model_.config,
                            tokenizer_);
    std::optional<Hotwords> hotwords;
    if (wanted.contains("hotwords"))
      hotwords = load_hotwords(wanted["hotwords"].get<std::string>(), tokenizer_);
    const Hotwords* favoured = hotwords ? &*hotwords : nullptr;
    json result{{"name", wanted.value("name", "")},
                {"encoder_cpu_seconds", encoder_seconds_},
                {"audio_seconds", audio_seconds()}};
    std::size_t frames = 0;
    for (const Item& item : items_) frames += item.tokens.size();
    result["frames"] = frames;
    if (streams_)
      read_streams(wanted, decoding, favoured, result);
    else
      read_utterances(wanted, decoding, favoured, result);
    return result;
  }

 private:
  static constexpr std::uint32_t kStep = 30720;  // samples: 48 frames, as offline
  static constexpr std::size_t kAhead = 16000;   // samples

  void encode(Engine& engine, std::span<const float> sound) {
    Item item;
    item.samples = static_cast<std::int64_t>(sound.size());
    if (streams_) {
      item.quiet = quiet_stretches(sound);
      item.sound.assign(sound.begin(), sound.end());
    }
    const double start = cpu_seconds();
    engine.reset(0);
    bool end = false;
    while (!end) {
      const auto part = sound.first(std::min<std::size_t>(kStep, sound.size()));
      sound = sound.subspan(part.size());
      end = sound.empty();
      const StreamInput input{0, part, end};
      StreamOutput out;
      engine.step({&input, 1}, {&out, 1});
      item.tokens.insert(item.tokens.end(), out.tokens, out.tokens + out.frames);
      item.scores.insert(item.scores.end(), out.scores, out.scores + out.frames);
      item.log_probs.insert(item.log_probs.end(), out.log_probs, out.log_probs + out.frames * vocab_);
    }
    encoder_seconds_ += cpu_seconds() - start;
    items_.push_back(std::move(item));
  }

  double audio_seconds() const {
    double seconds = 0;
    for (const Item& item : items_) seconds += static_cast<double>(item.samples) / model_.config.sample_rate;
    return seconds;
  }

  void read_utterances(const json& wanted, const Decoding& decoding, const Hotwords* hotwords, json& result) {
    const auto chunk = wanted.value("chunk_frames", std::size_t{48});
    const auto decoder = decoding.make();
    std::vector<std::byte> fresh(decoder->state_bytes());
    decoder->save(fresh);
    decoder->set_hotwords(hotwords);
    std::vector<std::vector<Word>> words(items_.size());
    const double start = cpu_seconds();
    for (std::size_t i = 0; i < items_.size(); ++i) {
      decoder->load(fresh);
      const std::size_t frames = items_[i].tokens.size();
      for (std::size_t at = 0; at < frames; at += chunk)
        decoder->advance(items_[i].part(at, std::min(chunk, frames - at), vocab_), words[i]);
      decoder->finish(words[i]);
    }
    result["decoder_cpu_seconds"] = cpu_seconds() - start;
    for (const auto& each : words) result["texts"].push_back(live::committed_text({.words = each}));
  }

  // Shown words, and what became of them.
  struct Steadiness {
    std::vector<std::string> settled;                        // words, in order
    std::vector<std::pair<std::size_t, std::string>> shown;  // tentative: place and word, whole
    std::vector<std::pair<std::size_t, std::string>>
        growing;                 // tentative and the last one: may be a beginning
    std::vector<double> delays;  // seconds from a word's end until it was settled

    // Shares of tentative words shown that the settled text does not have in that place.
    double changed() const {
      std::size_t wrong = 0;
      for (const auto& [place, word] : shown) wrong += place >= settled.size() || settled[place] != word;
      for (const auto& [place, word] : growing)
        wrong += place >= settled.size() || !settled[place].starts_with(word);
      const std::size_t all = shown.size() + growing.size();
      return all > 0 ? static_cast<double>(wrong) / static_cast<double>(all) : 0;
    }
  };

  void read_streams(const json& wanted, const Decoding& decoding, const Hotwords* hotwords, json& result) {
    const auto chunk = wanted.value("chunk_frames", std::size_t{4});
    const std::string detector = wanted.value("detector", "blanks");
    live::Readout readout(model_.config, decoding,
                          {.silence_ms = wanted.value("silence_ms", std::int64_t{800}),
                           .max_segment_ms = wanted.value("max_segment_ms", std::int64_t{30'000}),
                           .detector = detector == "blanks"  ? live::SilenceDetector::Blanks
                                       : detector == "voice" ? live::SilenceDetector::Voice
                                                             : live::SilenceDetector::Both});
    const auto hop = static_cast<std::size_t>(model_.config.frame_hop());
    double seconds = 0;
    std::size_t shown = 0, changed = 0;
    std::vector<double> delays;
    for (const Item& item : items_) {
      readout.reset();
      readout.set_hotwords(hotwords);
      std::vector<live::Segment> segments;
      Steadiness steadiness;
      const std::size_t frames = item.tokens.size();
      for (std::size_t at = 0; at < frames; ++at) {
        const double start = cpu_seconds();
        // A second ahead, as the samples of a frame's lookahead are.
        readout.hear(part_of(item.sound, at == 0 ? 0 : at * hop + kAhead, at == 0 ? hop + kAhead : hop));
        readout.advance(item.part(at, 1, vocab_), item.samples, segments);
        if (at + 1 == frames) readout.finish(item.samples, segments);
        seconds += cpu_seconds() - start;
        watch(readout, segments, static_cast<std::int64_t>(at), (at + 1) % chunk == 0, steadiness);
      }
      shown += steadiness.shown.size() + steadiness.growing.size();
      changed += static_cast<std::size_t>(
          steadiness.changed() * static_cast<double>(steadiness.shown.size() + steadiness.growing.size()) +
          0.5);
      delays.insert(delays.end(), steadiness.delays.begin(), steadiness.delays.end());
      json list = json::array();
      for (const live::Segment& segment : segments)
        list.push_back({{"begin", segment.begin},
                        {"end", segment.end},
                        {"continues", segment.continues},
                        {"reason", static_cast<int>(segment.reason)},
                        {"text", live::committed_text(segment)}});
      result["segments"].push_back(list);
      result["quiet"].push_back(item.quiet);
    }
    result["decoder_cpu_seconds"] = seconds;
    result["tentative_words_shown"] = shown;
    result["tentative_words_changed"] = changed;
    std::sort(delays.begin(), delays.end());
    const auto quantile = [&](double q) {
      return delays.empty() ? 0
                            : delays[static_cast<std::size_t>(q * static_cast<double>(delays.size() - 1))];
    };
    result["delay_median_s"] = quantile(0.5);
    result["delay_p99_s"] = quantile(0.99);
    result["words"] = delays.size();
  }

  static std::span<const float> part_of(std::span<const float> sound, std::size_t begin, std::size_t count) {
    begin = std::min(begin, sound.size());
    return sound.subspan(begin, std::min(count, sound.size() - begin));
  }

  void watch(const live::Readout& readout, const std::vector<live::Segment>& segments, std::int64_t frame,
             bool shows, Steadiness& steadiness) const {
    std::vector<const Word*> words;
    for (const live::Segment& segment : segments)
      for (const Word& word : segment.words) words.push_back(&word);
    for (const Word& word : readout.open().words) words.push_back(&word);
    // What had to be heard for this frame to come out.
    const double now =
        static_cast<double>((frame + model_.config.stem.lookahead) * model_.config.frame_hop() +
                            model_.config.first_frame_samples());
    for (std::size_t i = steadiness.settled.size(); i < words.size(); ++i) {
      steadiness.settled.push_back(words[i]->text);
      steadiness.delays.push_back((now - static_cast<double>(words[i]->end)) / model_.config.sample_rate);
    }
    if (!shows) return;
    std::stringstream tentative{std::string(readout.tentative())};
    std::vector<std::string> shown;
    for (std::string word; tentative >> word;) shown.push_back(word);
    for (std::size_t i = 0; i < shown.size(); ++i)
      (i + 1 < shown.size() ? steadiness.shown : steadiness.growing).emplace_back(words.size() + i, shown[i]);
  }

  Model model_;
  Tokenizer tokenizer_;
  std::size_t vocab_;
  bool streams_;
  std::vector<Item> items_;
  double encoder_seconds_ = 0;
};

int run(int argc, char** argv) {
  std::vector<std::string> folders;
  bool streams = false;
  std::size_t limit = SIZE_MAX;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--streams")
      streams = true;
    else if (argument == "--limit" && i + 1 < argc)
      limit = std::stoul(argv[++i]);
    else
      folders.push_back(argument);
  }
  if (folders.size() != 2) {
    std::cerr << "usage: decode_bench MODEL SPEECH [--streams] [--limit N] < runs > results\n";
    return 2;
  }
  Bench bench(folders[0], folders[1], streams, limit);
  for (std::string line; std::getline(std::cin, line);)
    if (!line.empty()) std::cout << bench.run(json::parse(line)).dump() << std::endl;
  return 0;
}

}  // namespace
}  // namespace sidewinder

int main(int argc, char** argv) {
  try {
    return sidewinder::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "decode_bench: " << error.what() << "\n";
    return 1;
  }
}
