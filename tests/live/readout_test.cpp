#include "daemon/live/readout.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/support.h"

namespace sidewinder::live {
namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer pieces(test::default_model_folder() / "tokens.txt",
                                test::default_model().config.vocab_size);
  return pieces;
}

const ModelConfig& config() {
  return test::default_model().config;
}

Decoding decoding(DecoderKind kind) {
  return {test::default_model_folder(), config(), tokenizer(), {.kind = kind, .stability = {}}};
}

struct Frames {
  std::vector<std::int32_t> tokens;
  std::vector<float> scores;
  std::vector<float> log_probs;  // (frames, vocab)
  std::vector<float> samples;    // of the stream, for the detector of voice activity

  StreamOutput part(std::size_t begin, std::size_t count) const {
    return {.first_frame = static_cast<std::int64_t>(begin),
            .frames = static_cast<std::uint32_t>(count),
            .tokens = tokens.data() + begin,
            .scores = scores.data() + begin,
            .log_probs = log_probs.data() + begin * static_cast<std::size_t>(config().vocab_size)};
  }
};

// Each frame's token as likely as its score says, and three others not much less.
void add_log_probs(Frames& frames, std::mt19937& random) {
  const auto vocab = static_cast<std::size_t>(config().vocab_size);
  frames.log_probs.assign(frames.tokens.size() * vocab, -30);
  for (std::size_t i = 0; i < frames.tokens.size(); ++i) {
    for (int other = 0; other < 3; ++other)
      frames.log_probs[i * vocab + random() % vocab] =
          frames.scores[i] - 1 - static_cast<float>(random() % 3);
    frames.log_probs[i * vocab + static_cast<std::size_t>(frames.tokens[i])] = frames.scores[i];
  }
}

// Speech of any tokens, between pauses of any length.
Frames random_frames(std::mt19937& random) {
  Frames frames;
  for (int run = 0; run < 40; ++run) {
    const std::size_t pause = random() % (run % 5 == 0 ? 60 : 4);
    frames.tokens.insert(frames.tokens.end(), pause, config().blank);
    for (std::size_t i = random() % 12; i > 0; --i) {
      const auto token = static_cast<std::int32_t>(random() % static_cast<unsigned>(tokenizer().size()));
      frames.tokens.insert(frames.tokens.end(), 1 + random() % 3, token);
      if (random() % 2) frames.tokens.push_back(config().blank);
    }
  }
  for (std::size_t i = 0; i < frames.tokens.size(); ++i)
    frames.scores.push_back(-static_cast<float>(random() % 100) / 100);
  add_log_probs(frames, random);
  // Noise, and bursts over it of any length anywhere: what is voice need not be words, nor words voice.
  const std::size_t samples = frames.tokens.size() * static_cast<std::size_t>(config().frame_hop());
  for (float level = 1e-3f; frames.samples.size() < samples; level = random() % 2 ? 1e-3f : 0.1f)
    for (std::size_t i = random() % 20'000; i > 0 && frames.samples.size() < samples; --i)
      frames.samples.push_back(level * (static_cast<float>(random() % 2'001) / 1'000 - 1));
  return frames;
}

std::string joined(const std::vector<Segment>& segments) {
  std::string text;
  for (const Segment& segment : segments)
    text += (text.empty() || segment.continues ? "" : " ") + committed_text(segment);
  return text;
}

std::string offline_text(const Frames& frames, const Decoding& decoders) {
  auto decoder = decoders.make();
  Segment all;
  decoder->advance(frames.part(0, frames.tokens.size()), all.words);
  decoder->finish(all.words);
  return committed_text(all);
}

constexpr Endpoint kShort{.silence_ms = 400, .max_segment_ms = 3'000};

// Feeds chunks of random length and checks what must hold after each.
std::vector<Segment> segments_of(Readout& readout, const Frames& frames, std::mt19937& random,
                                 std::size_t most) {
  std::vector<Segment> segments;
  const std::int64_t heard = static_cast<std::int64_t>(frames.tokens.size()) * config().frame_hop();
  std::string committed;
  std::int64_t number = 0;
  std::size_t given = 0;  // samples
  for (std::size_t at = 0; at < frames.tokens.size();) {
    const std::size_t count = std::min<std::size_t>(random() % (most + 1), frames.tokens.size() - at);
    const std::size_t before = segments.size();
    // Their samples were heard before, and so were some of those behind them.
    const std::size_t to =
        std::min((at + count + 2 + random() % 20) * static_cast<std::size_t>(config().frame_hop()),
                 frames.samples.size());
    if (to > given) readout.hear(std::span(frames.samples).subspan(given, to - given));
    given = std::max(given, to);
    readout.advance(frames.part(at, count), heard, segments);
    at += count;
    // What was committed stays: in the final that ended its segment, or in the open one.
    const std::string open = committed_text(readout.open());
    const std::string now = segments.size() > before ? committed_text(segments[before]) : open;
    EXPECT_TRUE(now.starts_with(committed)) << now << " after " << committed;
    committed = open;
    EXPECT_EQ(readout.open().number, static_cast<std::int64_t>(segments.size()));
    number = readout.open().number;
  }
  readout.finish(heard, segments);
  EXPECT_LE(number, static_cast<std::int64_t>(segments.size()));
  return segments;
}

class ReadoutTest : public testing::TestWithParam<DecoderKind> {};
INSTANTIATE_TEST_SUITE_P(Decoders, ReadoutTest, testing::Values(DecoderKind::BestPath, DecoderKind::Beam),
                         [](const auto& tested) {
                           return tested.param == DecoderKind::Beam ? "Beam" : "BestPath";
                         });

TEST_P(ReadoutTest, SameSegmentsHoweverCutAndSameTextAsOffline) {
  const Decoding decoders = decoding(GetParam());
  Readout readout(config(), decoders, kShort);
  for (unsigned seed = 0; seed < 210; ++seed) {
    std::mt19937 random(seed);
    const Frames frames = random_frames(random);
    Endpoint endpoint = kShort;
    endpoint.detector = static_cast<SilenceDetector>(seed % 3);
    readout.set_endpoint(endpoint);
    readout.reset();
    const auto whole = segments_of(readout, frames, random, 40);
    readout.reset();
    const auto cut = segments_of(readout, frames, random, 7);
    EXPECT_EQ(joined(whole), offline_text(frames, decoders));
    ASSERT_EQ(whole.size(), cut.size());
    std::int64_t end = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(whole[i].number, static_cast<std::int64_t>(i));
      EXPECT_EQ(whole[i].begin, cut[i].begin);
      EXPECT_EQ(whole[i].end, cut[i].end);
      EXPECT_EQ(whole[i].reason, cut[i].reason);
      EXPECT_EQ(whole[i].continues, cut[i].continues);
      EXPECT_EQ(committed_text(whole[i]), committed_text(cut[i]));
      EXPECT_GE(whole[i].begin, end);  // segments do not overlap
      EXPECT_GE(whole[i].end, whole[i].begin);
      EXPECT_EQ(whole[i].begin, std::max(end, whole[i].words.front().begin));
      EXPECT_GE(whole[i].end, whole[i].words.back().end);
      end = whole[i].end;
    }
  }
}

TEST_P(ReadoutTest, PauseEndsASegmentAtTheConfiguredLength) {
  int word = 0;  // a token that starts a word and has text
  while (!tokenizer().piece(word).starts_word || tokenizer().piece(word).text.empty()) ++word;
  const Decoding decoders = decoding(GetParam());
  Readout readout(config(), decoders, kShort);  // 400 ms are 10 frames
  Frames frames;
  frames.tokens = {word};
  frames.tokens.resize(11, config().blank);
  frames.scores.resize(11);
  frames.log_probs.resize(11 * static_cast<std::size_t>(config().vocab_size), -30);
  for (std::size_t i = 0; i < 11; ++i)
    frames.log_probs[i * static_cast<std::size_t>(config().vocab_size) +
                     static_cast<std::size_t>(frames.tokens[i])] = 0;
  std::vector<Segment> ended;
  readout.advance(frames.part(0, 10), 1 << 20, ended);
  EXPECT_TRUE(ended.empty());
  EXPECT_EQ(readout.tentative(), tokenizer().piece(word).text);
  readout.advance(frames.part(10, 1), 1 << 20, ended);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].reason, SegmentEnd::Pause);
  EXPECT_EQ(committed_text(ended[0]), tokenizer().piece(word).text);
  EXPECT_TRUE(readout.tentative().empty());
  readout.finish(1 << 20, ended);
  EXPECT_EQ(ended.size(), 1u);  // an empty segment is not one
}

// A word, and then blanks; the voice goes on for 20 frames (800 ms).
Frames word_with_a_longer_voice(int blanks) {
  int word = 0;
  while (!tokenizer().piece(word).starts_word || tokenizer().piece(word).text.empty()) ++word;
  Frames frames;
  frames.tokens.resize(static_cast<std::size_t>(60 + blanks), config().blank);
  frames.tokens[50] = word;  // after two seconds in which the floor is learned
  frames.scores.resize(frames.tokens.size());
  std::mt19937 random(1);
  add_log_probs(frames, random);
  std::normal_distribution<float> normal;
  const auto hop = static_cast<std::size_t>(config().frame_hop());
  for (std::size_t i = 0; i < frames.tokens.size() * hop; ++i)
    frames.samples.push_back((i / hop >= 49 && i / hop < 70 ? 0.1f : 1e-3f) * normal(random));
  return frames;
}

// Frames after the word until its segment has ended.
int frames_until_end(SilenceDetector detector, const Frames& frames) {
  const Decoding decoders = decoding(DecoderKind::BestPath);
  Readout readout(config(), decoders, {.silence_ms = 400, .max_segment_ms = 30'000, .detector = detector});
  readout.hear(frames.samples);
  std::vector<Segment> ended;
  for (std::size_t at = 0; at < frames.tokens.size(); ++at) {
    readout.advance(frames.part(at, 1), 1 << 30, ended);
    if (!ended.empty()) return static_cast<int>(at) - 50;
  }
  return -1;
}

TEST(ReadoutVoice, HoldsASegmentOpenThatBlanksWouldEndButNotForEver) {
  const Frames frames = word_with_a_longer_voice(60);
  EXPECT_EQ(frames_until_end(SilenceDetector::Blanks, frames), 10);
  const int both = frames_until_end(SilenceDetector::Both, frames);
  EXPECT_GE(both, 29);  // the voice's 20 frames, less the one it is late, and 400 ms
  EXPECT_LE(both, 33);  // and a hangover of 80 ms
  EXPECT_EQ(frames_until_end(SilenceDetector::Voice, frames), both > 30 ? 30 : both);
  // A voice that never ends: three times the silence of blanks.
  Frames loud = frames;
  for (std::size_t i = 49 * static_cast<std::size_t>(config().frame_hop()); i < loud.samples.size(); ++i)
    loud.samples[i] *= loud.samples[i] > 0.05f ? 1.0f : 100.0f;
  EXPECT_EQ(frames_until_end(SilenceDetector::Both, loud), 30);
  EXPECT_EQ(frames_until_end(SilenceDetector::Voice, loud), 30);
}

// Another readout that begins at a sample hears what one hears that begins with the stream, so much later.
TEST(ReadoutMove, GoesOnFromAPositionWithItsOwnFrames) {
  constexpr std::int64_t kHeard = 1 << 30;
  for (const DecoderKind kind : {DecoderKind::BestPath, DecoderKind::Beam}) {
    const Decoding decoders = decoding(kind);
    for (unsigned seed = 0; seed < 20; ++seed) {
      std::mt19937 random(seed);
      const Frames before = random_frames(random), after = random_frames(random);
      Endpoint endpoint = kShort;
      endpoint.detector = static_cast<SilenceDetector>(seed % 3);
      Readout first(config(), decoders, endpoint), second(config(), decoders, {});
      std::vector<Segment> told;
      first.hear(before.samples);
      const std::size_t frames = before.tokens.size() / 2;
      const std::int64_t origin = static_cast<std::int64_t>(frames) * config().frame_hop();
      for (std::size_t at = 0; at < frames; ++at) first.advance(before.part(at, 1), origin + 5'000, told);
      const std::int64_t number = first.open().number;
      const bool open = !first.open().words.empty() || !first.tentative().empty();
      EXPECT_TRUE(!open || !first.is_idle());
      const std::size_t ended = told.size();
      first.interrupt(origin, told);
      ASSERT_LE(told.size(), ended + 1);
      EXPECT_TRUE(open || told.size() == ended);
      if (told.size() > ended) {
        EXPECT_EQ(told.back().reason, SegmentEnd::Model);
        EXPECT_EQ(told.back().number, number);
        EXPECT_EQ(told.back().end, origin);
        EXPECT_LE(told.back().begin, origin);
        for (const Word& word : told.back().words) EXPECT_LE(word.end, origin);
      }
      EXPECT_TRUE(first.open().words.empty() && first.tentative().empty());

      second.go_on_from(first, origin);
      EXPECT_EQ(second.origin(), origin);
      Readout alone(config(), decoders, endpoint);
      std::vector<Segment> expected, segments;
      for (Readout* readout : {&alone, &second}) {
        std::vector<Segment>& into = readout == &alone ? expected : segments;
        const std::int64_t heard = readout == &alone ? kHeard - origin : kHeard;
        const auto hop = static_cast<std::size_t>(config().frame_hop());
        for (std::size_t at = 0; at < after.tokens.size(); ++at) {
          readout->hear(std::span(after.samples).subspan(at * hop, hop));
          readout->advance(after.part(at, 1), heard, into);
        }
        readout->finish(heard, into);
      }
      ASSERT_EQ(segments.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(segments[i].number, expected[i].number + static_cast<std::int64_t>(told.size()));
        EXPECT_EQ(segments[i].begin, expected[i].begin + origin);
        EXPECT_EQ(segments[i].end, expected[i].end + origin);
        EXPECT_EQ(committed_text(segments[i]), committed_text(expected[i]));
        for (std::size_t w = 0; w < expected[i].words.size(); ++w) {
          EXPECT_EQ(segments[i].words[w].begin, expected[i].words[w].begin + origin);
          EXPECT_EQ(segments[i].words[w].end, expected[i].words[w].end + origin);
        }
      }
    }
  }
}

TEST(ReadoutMove, IdleIsAfterBlanksAndTheOnsetIsHalfOfThem) {
  const Decoding decoders = decoding(DecoderKind::BestPath);
  const Frames frames = word_with_a_longer_voice(60);
  Readout readout(config(), decoders, kShort);  // 10 frames of blanks end a segment
  std::vector<Segment> ended;
  const std::int64_t hop = config().frame_hop();
  for (std::size_t at = 0; at < frames.tokens.size(); ++at) {
    readout.advance(frames.part(at, 1), 1 << 30, ended);
    const std::int64_t blanks = static_cast<std::int64_t>(at) + 1 - (at < 50 ? 0 : 51);
    EXPECT_EQ(readout.is_idle(), blanks >= 10) << at;
    EXPECT_EQ(readout.onset_samples(), std::min<std::int64_t>(blanks / 2, 10) * hop) << at;
    EXPECT_LE(readout.onset_samples(), Readout::most_onset_samples(config()));
  }
}

TEST(ReadoutState, GoesOnElsewhereInTheSameBits) {
  for (const DecoderKind kind : {DecoderKind::BestPath, DecoderKind::Beam}) {
    const Decoding decoders = decoding(kind);
    for (unsigned seed = 0; seed < 20; ++seed) {
      std::mt19937 random(seed);
      const Frames frames = random_frames(random);
      Endpoint endpoint = kShort;
      endpoint.detector = SilenceDetector::Both;
      Readout whole(config(), decoders, endpoint);
      std::vector<Segment> expected, segments;
      std::vector<Readout> readouts;
      readouts.emplace_back(config(), decoders, endpoint);
      const auto hop = static_cast<std::size_t>(config().frame_hop());
      for (std::size_t at = 0; at < frames.tokens.size(); ++at) {
        const auto samples = std::span(frames.samples).subspan(at * hop, hop);
        whole.hear(samples);
        whole.advance(frames.part(at, 1), 1 << 30, expected);
        if (random() % 20 == 0) {  // elsewhere from here on
          const Readout::State state = readouts.back().state();
          readouts.emplace_back(config(), decoders, Endpoint{});
          ASSERT_TRUE(readouts.back().fits(state));
          readouts.back().set_state(state);
        }
        readouts.back().hear(samples);
        readouts.back().advance(frames.part(at, 1), 1 << 30, segments);
      }
      whole.finish(1 << 30, expected);
      readouts.back().finish(1 << 30, segments);
      ASSERT_EQ(segments.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(committed_text(segments[i]), committed_text(expected[i]));
        EXPECT_EQ(segments[i].begin, expected[i].begin);
        EXPECT_EQ(segments[i].end, expected[i].end);
        EXPECT_EQ(segments[i].continues, expected[i].continues);
        for (std::size_t w = 0; w < expected[i].words.size(); ++w)
          EXPECT_EQ(segments[i].words[w].confidence, expected[i].words[w].confidence);
      }
    }
  }
}

}  // namespace
}  // namespace sidewinder::live
