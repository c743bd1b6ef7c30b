// One suite for every engine: same bits whatever the chunks, the batch, the slots and the threads; capsules;
// ends.
#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "model/capsule.h"
#include "model/error.h"
#include "tests/engine/engine_under_test.h"
#include "tests/unit/support.h"
#include "tests/unit/vectors.h"

namespace sidewinder::test {
namespace {

constexpr int kHop = 640;  // samples a frame of the default model

// What a stream gave, frame by frame.
struct Transcript {
  std::vector<std::int32_t> tokens;
  std::vector<float> scores, log_probs, encodings;
  std::int64_t next_frame = 0;

  void take(const StreamOutput& out, const ModelConfig& config) {
    EXPECT_EQ(out.first_frame, next_frame);
    next_frame += out.frames;
    tokens.insert(tokens.end(), out.tokens, out.tokens + out.frames);
    scores.insert(scores.end(), out.scores, out.scores + out.frames);
    log_probs.insert(log_probs.end(), out.log_probs, out.log_probs + out.frames * config.vocab_size);
    encodings.insert(encodings.end(), out.encodings, out.encodings + out.frames * config.d_model);
  }

  std::uint64_t hash() const {
    std::uint64_t hash = hash_bits(std::span<const std::int32_t>(tokens));
    for (const auto* values : {&scores, &log_probs, &encodings})
      hash = hash_bits(std::span<const float>(*values), hash);
    return hash;
  }
};

EngineOptions options(std::uint32_t slots, std::uint32_t max_samples, int threads = 1) {
  return {.slots = slots,
          .max_batch = slots,
          .max_samples = max_samples,
          .threads = threads,
          .want_log_probs = true,
          .want_encodings = true};
}

class EngineTest : public testing::TestWithParam<EngineUnderTest> {
 protected:
  std::unique_ptr<Engine> make(const EngineOptions& wanted) {
    return GetParam().make(default_model(), wanted);
  }

  // One stream alone in a slot, in chunks of so many samples.
  Transcript run(Engine& engine, std::uint32_t slot, std::span<const float> samples, std::size_t chunk) {
    engine.reset(slot);
    Transcript transcript;
    feed(engine, slot, samples, chunk, true, transcript);
    return transcript;
  }

  void feed(Engine& engine, std::uint32_t slot, std::span<const float> samples, std::size_t chunk, bool end,
            Transcript& transcript) {
    do {
      auto part = samples.first(std::min(chunk, samples.size()));
      samples = samples.subspan(part.size());
      StreamInput input{slot, part, end && samples.empty()};
      StreamOutput out;
      engine.step({&input, 1}, {&out, 1});
      transcript.take(out, engine.config());
    } while (!samples.empty());
  }
};

// What a stream that moves to another model counts on.
TEST_P(EngineTest, FramesGivenAndSamplesUnreadAreThoseOfTheConfig) {
  const ModelConfig& config = default_model().config;
  auto engine = make(options(2, 3'000));
  const std::vector<float> samples = read_clip("quilter.flac");
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    std::mt19937 random(slot);
    engine->reset(slot);
    Transcript transcript;
    std::int64_t heard = 0, most = 0;
    while (heard < 40'000) {
      const std::size_t count = random() % (slot == 0 ? 3'000 : 700);
      feed(*engine, slot, std::span(samples).subspan(static_cast<std::size_t>(heard), count), 3'000, false,
           transcript);
      heard += static_cast<std::int64_t>(count);
      ASSERT_EQ(transcript.next_frame, config.frames_given(heard));
      most = std::max(most, heard - transcript.next_frame * kHop);
    }
    EXPECT_LE(most, config.most_unread_samples());
    EXPECT_GT(most, config.most_unread_samples() - kHop);
  }
}

TEST_P(EngineTest, GoldenLogitsAndTokens) {
  for (const char* file : {"golden/encoder-0000.safetensors", "golden/encoder-0003.safetensors"}) {
    Vectors golden = Vectors::load(file);
    std::vector<float> samples = golden.pcm("wav");  // with the padding that the engine adds by itself
    samples.resize(samples.size() - default_model().config.end_padding);
    auto engine = make(options(1, static_cast<std::uint32_t>(samples.size())));
    Transcript transcript = run(*engine, 0, samples, samples.size());

    std::vector<std::int64_t> tokens = golden.ints("tokens");
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), transcript.tokens.begin(), transcript.tokens.end()))
        << file;
    // log softmax of the golden logits, in float64
    std::vector<float> expected = golden.floats("logits");
    const std::size_t vocab = default_model().config.vocab_size;
    for (std::size_t row = 0; row < expected.size(); row += vocab) {
      double sum = 0;
      for (std::size_t c = 0; c < vocab; ++c) sum += std::exp(static_cast<double>(expected[row + c]));
      for (std::size_t c = 0; c < vocab; ++c)
        expected[row + c] = static_cast<float>(expected[row + c] - std::log(sum));
    }
    EXPECT_LT(relative_error(transcript.log_probs, expected), 1e-5) << file;
  }
}

TEST_P(EngineTest, SameBitsForAnyChunkSize) {
  std::vector<float> clip = read_clip("northanger.flac");
  const auto whole = static_cast<std::uint32_t>(clip.size());
  auto engine = make(options(1, whole));
  Transcript expected = run(*engine, 0, clip, whole);
  ASSERT_EQ(static_cast<std::int64_t>(expected.tokens.size()), engine->config().total_frames(whole));
  for (std::size_t chunk : {1 * kHop, 4 * kHop, 8 * kHop, 37 * kHop, 160, 161, 12345})
    EXPECT_EQ(run(*engine, 0, clip, chunk).hash(), expected.hash()) << "chunks of " << chunk << " samples";
}

TEST_P(EngineTest, SameBitsForRandomChunksDownToOneSample) {
  std::vector<float> clip = read_clip("quilter.flac");
  clip.resize(3 * 16000);
  auto engine = make(options(1, 48000));
  Transcript expected = run(*engine, 0, clip, clip.size());
  std::mt19937 random(3);
  for (int trial = 0; trial < 3; ++trial) {
    engine->reset(0);
    Transcript transcript;
    for (std::span<const float> rest = clip; !rest.empty();) {
      std::size_t chunk = trial == 0 ? 1 + random() % 7 : random() % 3000;
      auto part = rest.first(std::min(chunk, rest.size()));
      rest = rest.subspan(part.size());
      feed(*engine, 0, part, part.size(), rest.empty(), transcript);
    }
    EXPECT_EQ(transcript.hash(), expected.hash()) << "trial " << trial;
  }
}

// 32 streams in shuffled slots; every one starts at its own time, skips steps at random and has chunks of its
// own.
TEST_P(EngineTest, SameBitsAmongOthersInAnySlotOrderWithAnyThreadCount) {
  constexpr std::uint32_t kStreams = 32;
  std::vector<float> clip = read_clip("quilter.flac");
  std::vector<std::span<const float>> streams;
  for (std::uint32_t i = 0; i < kStreams; ++i)
    streams.push_back(std::span<const float>(clip).subspan(i * 1000, 3 * 16000));
  auto alone = make(options(1, 48000));
  std::vector<std::uint64_t> expected;
  for (auto stream : streams) expected.push_back(run(*alone, 0, stream, 48000).hash());

  for (int threads : {1, 2, 3, 7}) {
    std::mt19937 random(static_cast<unsigned>(threads));
    auto engine = make(options(kStreams, 48000, threads));
    std::vector<std::uint32_t> slots(kStreams), order(kStreams);
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), random);
    std::iota(order.begin(), order.end(), 0);
    std::vector<Transcript> transcripts(kStreams);
    std::vector<std::size_t> heard(kStreams, 0);
    for (std::uint32_t slot : slots) engine->reset(slot);
    for (bool busy = true; busy;) {
      busy = false;
      std::shuffle(order.begin(), order.end(), random);
      std::vector<StreamInput> batch;
      std::vector<std::uint32_t> who;
      for (std::uint32_t i : order) {
        std::size_t left = streams[i].size() - heard[i];
        if (left == 0) continue;
        busy = true;
        if (random() % 3 == 0) continue;
        std::size_t chunk = std::min<std::size_t>(left, random() % 8000);
        batch.push_back({slots[i], streams[i].subspan(heard[i], chunk), chunk == left});
        who.push_back(i);
        heard[i] += chunk;
      }
      std::vector<StreamOutput> out(batch.size());
      engine->step(batch, out);
      for (std::size_t row = 0; row < batch.size(); ++row)
        transcripts[who[row]].take(out[row], engine->config());
    }
    for (std::uint32_t i = 0; i < kStreams; ++i)
      EXPECT_EQ(transcripts[i].hash(), expected[i]) << "stream " << i << ", " << threads << " threads";
  }
}

TEST_P(EngineTest, CapsuleContinuesInAnotherSlotOfAnotherEngine) {
  std::vector<float> clip = read_clip("quilter.flac");
  auto first = make(options(2, 16000));
  Transcript expected = run(*first, 0, clip, 16000);
  for (std::size_t cut : {std::size_t{0}, std::size_t{100}, std::size_t{1359}, std::size_t{1360},
                          clip.size() / 3, clip.size()}) {
    Transcript transcript;
    first->reset(1);
    feed(*first, 1, std::span<const float>(clip).first(cut), 16000, false, transcript);
    std::vector<std::byte> capsule(first->capsule_bytes());
    first->save(1, capsule);

    // The stream goes on in the other engine, and its original, a fork now, goes on in the first.
    auto second = make(options(5, 16000, 2));
    second->load(3, capsule);
    Transcript fork = transcript;
    feed(*second, 3, std::span<const float>(clip).subspan(cut), 16000, true, transcript);
    feed(*first, 1, std::span<const float>(clip).subspan(cut), 16000, true, fork);
    EXPECT_EQ(transcript.hash(), expected.hash()) << "cut at sample " << cut;
    EXPECT_EQ(fork.hash(), expected.hash()) << "cut at sample " << cut;
  }
}

TEST_P(EngineTest, DamagedOrForeignCapsulesAreRefused) {
  auto engine = make(options(1, 16000));
  std::vector<float> clip = read_clip("quilter.flac");
  Transcript ignored;
  engine->reset(0);
  feed(*engine, 0, std::span<const float>(clip).first(16000), 16000, false, ignored);
  std::vector<std::byte> good(engine->capsule_bytes());
  engine->save(0, good);
  for (std::size_t at :
       {std::size_t{0}, std::size_t{9}, std::size_t{20}, std::size_t{50}, std::size_t{66}, good.size() - 1}) {
    std::vector<std::byte> bad = good;
    bad[at] ^= std::byte{1};
    EXPECT_THROW(engine->load(0, bad), ModelError) << "byte " << at;
  }
  EXPECT_THROW(engine->load(0, std::span(good).first(40)), ModelError);
  EXPECT_THROW(engine->load(0, std::span(good).first(good.size() - 4)), ModelError);
  std::vector<std::byte> after(good.size());
  engine->save(0, after);
  EXPECT_EQ(after, good) << "a refused capsule changed the slot";
}

TEST_P(EngineTest, AnEndedStreamGivesNothingUntilReset) {
  auto engine = make(options(1, 48000));
  std::vector<float> clip = read_clip("quilter.flac");
  clip.resize(48000);
  Transcript first = run(*engine, 0, clip, 48000);
  EXPECT_EQ(static_cast<std::int64_t>(first.tokens.size()), engine->config().total_frames(48000));
  Transcript more;
  more.next_frame = first.next_frame;
  feed(*engine, 0, clip, 48000, true, more);
  EXPECT_TRUE(more.tokens.empty());
  EXPECT_EQ(run(*engine, 0, clip, 48000).hash(), first.hash());
}

TEST_P(EngineTest, StreamsOfAnyLengthEnd) {
  auto engine = make(options(1, 4000));
  std::vector<float> noise(4000);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 0.1f);
  for (float& sample : noise) sample = normal(random);
  for (std::size_t length : {0, 1, 399, 400, 1359, 1360, 1999, 2000, 4000}) {
    Transcript transcript = run(*engine, 0, std::span<const float>(noise).first(length), 4000);
    EXPECT_EQ(static_cast<std::int64_t>(transcript.tokens.size()),
              engine->config().total_frames(static_cast<std::int64_t>(length)));
    for (float score : transcript.scores) EXPECT_LE(score, 0.0f);
  }
}

TEST_P(EngineTest, NoisyInputOfOneStreamLeavesItsNeighbourAlone) {
  auto engine = make(options(2, 16000));
  std::vector<float> clip = read_clip("quilter.flac");
  clip.resize(16000);
  Transcript expected = run(*engine, 0, clip, 16000);
  std::vector<float> broken(16000, std::nanf(""));  // a caller's mistake must stay in its own stream
  engine->reset(0);
  engine->reset(1);
  std::vector<StreamInput> batch{{1, broken, true}, {0, clip, true}};
  std::vector<StreamOutput> out(2);
  engine->step(batch, out);
  Transcript transcript;
  transcript.take(out[1], engine->config());
  EXPECT_EQ(transcript.hash(), expected.hash());
}

TEST_P(EngineTest, OptionsOutOfRangeAreRefused) {
  EXPECT_THROW(make(options(0, 16000)), std::invalid_argument);
  EXPECT_THROW(make(options(1, 0)), std::invalid_argument);
  EXPECT_THROW(make({.slots = 1, .max_batch = 2, .max_samples = 1}), std::invalid_argument);
  EXPECT_THROW(make(options(1, 1, 0)), std::invalid_argument);
}

// What lies on which member never shows.
TEST(EngineGroup, GivesTheBitsOfOneEngineAndMovesStreamsBetweenMembers) {
  std::vector<float> samples = Vectors::load("golden/encoder-0003.safetensors").pcm("wav");
  const EngineOptions wanted = options(5, 4096);
  std::uint64_t expected = 0;
  for (std::uint32_t members : {1u, 2u, 5u}) {
    auto engine = make_engine_group(members, wanted, [](std::uint32_t, const EngineOptions& share) {
      return make_cpu_engine(default_model(), share);
    });
    ASSERT_EQ(engine->devices(), members);
    Transcript transcript;
    std::vector<std::byte> capsule(engine->capsule_bytes());
    std::uint32_t slot = 0;
    engine->reset(slot);
    for (std::size_t at = 0; at < samples.size(); at += 4096) {
      auto part =
          std::span<const float>(samples).subspan(at, std::min<std::size_t>(4096, samples.size() - at));
      StreamInput input{slot, part, at + 4096 >= samples.size()};
      StreamOutput out;
      engine->step({&input, 1}, {&out, 1});
      transcript.take(out, engine->config());
      engine->save(slot, capsule);
      slot = (slot + 1) % wanted.slots;
      engine->load(slot, capsule);
    }
    if (members == 1) expected = transcript.hash();
    EXPECT_EQ(transcript.hash(), expected) << members << " members";
  }
}

TEST(EngineGroup, RefusesMoreMembersThanSlots) {
  auto make = [](std::uint32_t, const EngineOptions& share) {
    return make_cpu_engine(default_model(), share);
  };
  EXPECT_THROW(make_engine_group(3, options(2, 640), make), std::invalid_argument);
  EXPECT_THROW(make_engine_group(0, options(2, 640), make), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineTest, testing::ValuesIn(engines_under_test()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace sidewinder::test
