// Small parts of model/: config, layout, slots, tokenizer, best path.
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>

#include "model/decoder.h"
#include "model/error.h"
#include "model/slot_pool.h"
#include "model/state_layout.h"
#include "tests/unit/support.h"

namespace sidewinder::test {
namespace {

TEST(ModelConfig, NumbersOfTheSpecification) {
  const ModelConfig& config = default_model().config;
  EXPECT_EQ(config.frame_hop(), 640);
  EXPECT_EQ(config.first_frame_samples(), 1360);
  EXPECT_EQ(config.end_padding, 8000);
  for (std::int64_t j = 0; j < 50; ++j) {
    EXPECT_EQ(config.stem_frames(640 * j + 1359), j);
    EXPECT_EQ(config.stem_frames(640 * j + 1360), j + 1);
  }
}

TEST(StateLayout, IsHalfAMegabyteOnWholeLines) {
  StateLayout layout(default_model().config);
  EXPECT_LT(layout.size * sizeof(float), 500'000u);
  EXPECT_EQ(layout.size % 16, 0u);
  EXPECT_EQ(layout.layers.size(), 12u);
  EXPECT_EQ(layout.layers[1].conv - layout.layers[0].ssm, 16u * 512);
}

TEST(SlotPool, LeasesComeBackWithAnotherGeneration) {
  SlotPool pool(2);
  auto first = pool.acquire();
  std::uint32_t index = first->index();
  {
    auto second = pool.acquire();
    EXPECT_NE(second->index(), index);
    EXPECT_FALSE(pool.acquire().has_value());
  }
  EXPECT_EQ(pool.available(), 1u);
  SlotLease moved = std::move(*first);
  first.reset();
  EXPECT_EQ(pool.available(), 1u);
  { SlotLease last = std::move(moved); }
  EXPECT_EQ(pool.available(), 2u);
  auto again = pool.acquire();
  EXPECT_EQ(again->index(), index);
  EXPECT_EQ(again->generation(), 1u);
}

TEST(SlotPool, SpreadsStreamsOverDevices) {
  SlotPool pool(9, 3);  // slots 0, 3, 6; 1, 4, 7; 2, 5, 8
  std::vector<SlotLease> leases;
  std::vector<int> load(3);
  for (int i = 0; i < 6; ++i) {
    leases.push_back(*pool.acquire());
    ++load[leases.back().index() % 3];
  }
  EXPECT_EQ(load, (std::vector{2, 2, 2}));
  std::vector<SlotLease> stay;  // a device whose streams have gone gets the next ones
  for (SlotLease& lease : leases)
    if (lease.index() % 3 != 1) stay.push_back(std::move(lease));
  leases.clear();
  EXPECT_EQ(pool.acquire()->index() % 3, 1u);
  EXPECT_EQ(pool.available(), 5u);
}

// Feeds a made-up sequence of tokens to a best-path decoder with six pieces.
struct BestPath : testing::Test {
  BestPath() {
    path = std::filesystem::path(testing::TempDir()) / "best_path_tokens.txt";
    std::ofstream(path) << "<blank> 0\n<unk> 1\n\u2581HE 2\nLLO 3\n\u2581WORLD 4\n' 5\n";
    tokenizer = std::make_unique<Tokenizer>(path, 6);
    config.words = {};
    decoder = make_best_path_decoder(config, *tokenizer);
  }

  std::vector<Word> decode(std::vector<std::int32_t> tokens, std::size_t chunk,
                           float score = std::log(0.5f)) {
    std::vector<float> scores(tokens.size(), score);
    std::vector<Word> words;
    for (std::size_t at = 0; at < tokens.size(); at += chunk) {
      StreamOutput out{.first_frame = static_cast<std::int64_t>(at),
                       .frames = static_cast<std::uint32_t>(std::min(chunk, tokens.size() - at)),
                       .tokens = tokens.data() + at,
                       .scores = scores.data() + at};
      decoder->advance(out, words);
    }
    return words;
  }

  ModelConfig config = default_model().config;
  std::filesystem::path path;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Decoder> decoder;
};

TEST_F(BestPath, TimesAreShiftedButNeverOverlap) {
  config.words.begin_shift = -1'000;
  config.words.end_shift = 2'000;
  decoder = make_best_path_decoder(config, *tokenizer);
  std::vector<Word> words = decode({2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 5);
  decoder->finish(words);
  ASSERT_EQ(words.size(), 3u);
  EXPECT_EQ(words[0].begin, 0) << "not before the stream";
  EXPECT_EQ(words[0].end, 2 * 640 + 360 - 1'000) << "where the next begins";
  EXPECT_EQ(words[1].begin, words[0].end);
  EXPECT_EQ(words[1].end, 3 * 640 + 360 + 2'000);
  EXPECT_EQ(words[2].begin, 11 * 640 + 360 - 1'000);
}

TEST_F(BestPath, AfterAFinishTheNextWordBeginsWhereTheLastEnded) {
  config.words.begin_shift = -5'000;
  config.words.end_shift = -100;
  decoder = make_best_path_decoder(config, *tokenizer);
  std::vector<Word> words;
  std::int32_t token = 2;
  float score = -0.1f;
  for (std::int64_t frame : {100, 103}) {
    decoder->advance({.first_frame = frame, .frames = 1, .tokens = &token, .scores = &score}, words);
    decoder->finish(words);
    token = 4;
  }
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[1].begin, words[0].end);
  EXPECT_GE(words[1].end, words[1].begin);
}

TEST_F(BestPath, ConfidencesAreCalibrated) {
  config.words.confidence_scale = 2;
  config.words.confidence_offset = -0.5f;
  decoder = make_best_path_decoder(config, *tokenizer);
  std::vector<Word> words = decode({2, 0, 4}, 3, std::log(0.8f));
  ASSERT_EQ(words.size(), 1u);
  const double logit = std::log(0.8 / 0.2);
  EXPECT_NEAR(words[0].confidence, 1 / (1 + std::exp(-(2 * logit - 0.5))), 1e-6);
}

TEST_F(BestPath, MergesRepeatsDropsBlanksAndJoinsPieces) {
  for (std::size_t chunk : {1, 2, 100}) {
    decoder = make_best_path_decoder(config, *tokenizer);
    std::vector<Word> words = decode({0, 2, 2, 0, 3, 0, 3, 1, 0, 4, 4}, chunk);
    ASSERT_EQ(words.size(), 1u);
    EXPECT_EQ(words[0].text, "hellollo");  // the blank between makes it two
    EXPECT_EQ(words[0].begin, 1 * 640 + 360);
    EXPECT_EQ(words[0].end, 7 * 640 + 360);
    EXPECT_NEAR(words[0].confidence, 0.5f, 1e-6);
    EXPECT_EQ(decoder->tentative().text, "world");
    decoder->finish(words);
    ASSERT_EQ(words.size(), 2u);
    EXPECT_EQ(words[1].text, "world");
    EXPECT_TRUE(decoder->tentative().text.empty());
  }
}

TEST_F(BestPath, StateContinuesInAnotherDecoder) {
  std::vector<Word> words = decode({2, 0, 3}, 1);
  std::vector<std::byte> state(decoder->state_bytes());
  decoder->save(state);
  auto other = make_best_path_decoder(config, *tokenizer);
  other->load(state);
  other->finish(words);
  ASSERT_EQ(words.size(), 1u);
  EXPECT_EQ(words[0].text, "hello");
}

TEST_F(BestPath, AWordWithoutEndIsCutNotLost) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 200; ++i) tokens.insert(tokens.end(), {3, 0});
  std::vector<Word> words = decode(tokens, 16);
  decoder->finish(words);
  std::size_t letters = 0;
  for (const Word& word : words) letters += word.text.size();
  EXPECT_EQ(letters, 600u);
}

TEST(Tokenizer, BadFilesAreRefusedByLine) {
  std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "tokens.txt";
  for (const char* text : {"", "a 0\n", "a 0\nb 0\n", "a 0\nb 2\n", "a 0\nb x\n", "a 0\nb\n", "a 0\n 1\n"}) {
    std::ofstream(path) << text;
    EXPECT_THROW(Tokenizer(path, 2), ModelError) << text;
  }
  EXPECT_THROW(Tokenizer(path.string() + ".none", 2), ModelError);
}

}  // namespace
}  // namespace sidewinder::test
