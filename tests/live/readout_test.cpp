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
  for (std::size_t at = 0; at < frames.tokens.size();) {
    const std::size_t count = std::min<std::size_t>(random() % (most + 1), frames.tokens.size() - at);
    const std::size_t before = segments.size();
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
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const Frames frames = random_frames(random);
    readout.reset();
    const auto whole = segments_of(readout, frames, random, frames.tokens.size());
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

}  // namespace
}  // namespace sidewinder::live
