// The detector of voice activity (dsp/voice_activity.h) on recorded speech in noise.
//
//   voice_bench MODEL SPEECH [--limit N] [--begin X] [--end X] [--hangover N] [--floor N] [--smoothing X]
//   [--bias X] [--rate X]
//
// SPEECH is a folder of packs with packs.tsv. Each utterance, behind 1.5 s without speech, is read clean by
// the recogniser, whose word times (calibrated, 30 to 45 ms off in the median: model/README.md) say what is
// speech; pauses under 200 ms between words count as speech. Then noise is added to all of it, at so many dB
// under the speech, and the detector, which is not reset between utterances, decides. Frames within 60 ms of
// where speech begins or ends are not scored. Prints the table of dsp/README.md: misses (of frames of
// speech), false alarms (of frames without), and their mean weighted by frames, the frame error.
#include <array>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <map>
#include <random>

#include "daemon/live/readout.h"
#include "dsp/voice_activity.h"
#include "model/engine.h"
#include "model/weights.h"
#include "tests/bench/speech_set.h"

namespace sidewinder {
namespace {

constexpr std::size_t kPad = 24'000;         // samples before each utterance
constexpr std::int64_t kShortPause = 3'200;  // samples between words
constexpr std::int64_t kUnsure = 960;        // samples around a boundary
constexpr std::uint32_t kStep = 30'720;      // samples
constexpr int kTalkers = 8;                  // of the babble

struct Utterance {
  std::vector<float> sound;                                     // without the pad
  std::vector<std::pair<std::int64_t, std::int64_t>> speech{};  // samples, from the utterance's start
};

double power(std::span<const float> sound) {
  double sum = 0;
  for (float sample : sound) sum += static_cast<double>(sample) * sample;
  return sum / static_cast<double>(std::max<std::size_t>(1, sound.size()));
}

// Words by the recogniser, those close together as one stretch.
void find_speech(Utterance& utterance, Engine& engine, Decoder& decoder, std::span<const std::byte> fresh,
                 std::int64_t hop) {
  engine.reset(0);
  decoder.load(fresh);
  std::vector<Word> words;
  std::span<const float> left = utterance.sound;
  for (bool end = false; !end;) {
    const StreamInput input{0, left.first(std::min<std::size_t>(kStep, left.size())), left.size() <= kStep};
    left = left.subspan(input.samples.size());
    end = input.end;
    StreamOutput out;
    engine.step({&input, 1}, {&out, 1});
    decoder.advance(out, words);
  }
  decoder.finish(words);
  for (const Word& word : words) {
    const std::int64_t begin = std::max<std::int64_t>(word.begin, 0), end = std::max(word.end, begin + hop);
    if (!utterance.speech.empty() && begin - utterance.speech.back().second < kShortPause)
      utterance.speech.back().second = std::max(utterance.speech.back().second, end);
    else
      utterance.speech.emplace_back(begin, end);
  }
}

enum class Noise { White, Pink, Babble };

// (count) samples of mean power 1.
std::vector<float> make_noise(Noise kind, std::size_t count, const std::vector<Utterance>& talkers,
                              std::mt19937& random) {
  std::vector<float> noise(count);
  std::normal_distribution<float> normal;
  std::array<float, 3> state{};
  for (float& sample : noise) {
    const float white = normal(random);
    if (kind == Noise::White) sample = white;
    if (kind != Noise::Pink) continue;
    // Paul Kellet's filter: -3 dB an octave, within 0.5 dB from 9 Hz up (at 44.1 kHz).
    state[0] = 0.99765f * state[0] + white * 0.0990460f;
    state[1] = 0.96300f * state[1] + white * 0.2965164f;
    state[2] = 0.57000f * state[2] + white * 1.0526913f;
    sample = state[0] + state[1] + state[2] + white * 0.1848f;
  }
  if (kind == Noise::Babble)
    for (int talker = 0; talker < kTalkers; ++talker)
      for (std::size_t at = 0; at < count;) {
        const std::vector<float>& said = talkers[random() % talkers.size()].sound;
        const float gain = static_cast<float>(1 / std::sqrt(power(said) + 1e-12));
        for (std::size_t i = 0; i < said.size() && at < count; ++i) noise[at++] += gain * said[i];
      }
  const float gain = static_cast<float>(1 / std::sqrt(power(noise)));
  for (float& sample : noise) sample *= gain;
  return noise;
}

struct Counts {
  std::int64_t speech = 0, missed = 0, quiet = 0, alarms = 0;
};

class Bench {
 public:
  Bench(const std::string& model, const std::string& speech, std::size_t limit) {
    const Model loaded = load_model(model);
    const Tokenizer tokenizer(loaded.folder / "tokens.txt", loaded.config.vocab_size);
    const Decoding decoding(loaded.folder, loaded.config, tokenizer, {});
    auto engine =
        make_cpu_engine(loaded, {.max_samples = kStep, .want_log_probs = decoding.needs_log_probs()});
    const auto decoder = decoding.make();
    std::vector<std::byte> fresh(decoder->state_bytes());
    decoder->save(fresh);
    for_each_utterance(speech, [&](bool, std::span<const float>, std::span<const float> sound) {
      utterances_.push_back({.sound = {sound.begin(), sound.end()}});
      find_speech(utterances_.back(), *engine, *decoder, fresh, loaded.config.frame_hop());
      return utterances_.size() < limit;
    });
  }

  // Noise `snr` dB under each utterance's own speech.
  Counts run(const dsp::VoiceActivityConfig& config, Noise kind, double snr) {
    const dsp::VoiceActivity detector(config);
    dsp::VoiceActivityState state;
    dsp::LogMelScratch scratch;
    std::mt19937 random(1);
    Counts counts;
    std::int64_t base = 0;  // of the utterance's pad, samples
    std::vector<float> sound;
    for (const Utterance& utterance : utterances_) {
      sound.assign(kPad, 0);
      sound.insert(sound.end(), utterance.sound.begin(), utterance.sound.end());
      const std::vector<float> noise = make_noise(kind, sound.size(), utterances_, random);
      const auto gain = static_cast<float>(std::sqrt(loudness(utterance) * std::pow(10, -snr / 10)));
      for (std::size_t i = 0; i < sound.size(); ++i) sound[i] += gain * noise[i];
      const std::int64_t begin = base + static_cast<std::int64_t>(kPad);
      std::uint64_t frame = state.frames;
      detector.process(state, sound, scratch, [&](bool voice) {
        count(utterance, dsp::VoiceActivity::middle(frame++) - begin, voice, counts);
      });
      base += static_cast<std::int64_t>(sound.size());
    }
    return counts;
  }

 private:
  static double loudness(const Utterance& utterance) {
    double sum = 0, samples = 1;
    for (const auto& [begin, end] : utterance.speech) {
      const auto from = std::min(static_cast<std::size_t>(begin), utterance.sound.size());
      const auto part =
          std::span(utterance.sound)
              .subspan(from, std::min(static_cast<std::size_t>(end), utterance.sound.size()) - from);
      sum += power(part) * static_cast<double>(part.size());
      samples += static_cast<double>(part.size());
    }
    return sum / samples;
  }

  static void count(const Utterance& utterance, std::int64_t at, bool voice, Counts& counts) {
    bool speech = false;
    for (const auto& [begin, end] : utterance.speech) {
      if (std::abs(at - begin) < kUnsure || std::abs(at - end) < kUnsure) return;
      speech |= at >= begin && at < end;
    }
    (speech ? counts.speech : counts.quiet) += 1;
    if (speech && !voice) ++counts.missed;
    if (!speech && voice) ++counts.alarms;
  }

  std::vector<Utterance> utterances_;
};

int run(int argc, char** argv) {
  std::vector<std::string> folders;
  std::map<std::string, std::string> options{{"--limit", "1000000"}};
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with("--") && i + 1 < argc) {
      options[argv[i]] = argv[i + 1];
      ++i;
    } else {
      folders.push_back(argv[i]);
    }
  }
  if (folders.size() != 2) {
    std::cerr
        << "usage: voice_bench MODEL SPEECH [--limit N] [--begin X] [--end X] [--hangover N] [--floor N] "
           "[--smoothing X] [--bias X] [--rate X]\n";
    return 2;
  }
  dsp::VoiceActivityConfig config;
  const auto number = [&](const char* name, auto& value) {
    if (options.contains(name)) value = static_cast<std::decay_t<decltype(value)>>(std::stod(options[name]));
  };
  number("--begin", config.begin);
  number("--end", config.end);
  number("--hangover", config.hangover_frames);
  number("--floor", config.floor_frames);
  number("--smoothing", config.smoothing);
  number("--bias", config.bias);
  number("--rate", config.excess_rate);
  Bench bench(folders[0], folders[1], std::stoul(options["--limit"]));
  std::cout << "| noise | SNR | frame error | misses | false alarms |\n| --- | ---: | ---: | ---: | ---: |\n"
            << std::fixed << std::setprecision(1);
  const auto percent = [](std::int64_t part, std::int64_t of) {
    return 100 * static_cast<double>(part) / static_cast<double>(std::max<std::int64_t>(1, of));
  };
  for (const auto& [name, kind, snr] : {std::tuple{"white", Noise::White, 40.0},
                                        {"white", Noise::White, 20.0},
                                        {"white", Noise::White, 10.0},
                                        {"white", Noise::White, 5.0},
                                        {"pink", Noise::Pink, 20.0},
                                        {"pink", Noise::Pink, 10.0},
                                        {"pink", Noise::Pink, 5.0},
                                        {"babble of 8", Noise::Babble, 20.0},
                                        {"babble of 8", Noise::Babble, 10.0}}) {
    const Counts counts = bench.run(config, kind, snr);
    std::cout << "| " << name << " | " << static_cast<int>(snr) << " dB | "
              << percent(counts.missed + counts.alarms, counts.speech + counts.quiet) << " % | "
              << percent(counts.missed, counts.speech) << " % | " << percent(counts.alarms, counts.quiet)
              << " % |\n";
  }
  return 0;
}

}  // namespace
}  // namespace sidewinder

int main(int argc, char** argv) {
  try {
    return sidewinder::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "voice_bench: " << error.what() << "\n";
    return 1;
  }
}
