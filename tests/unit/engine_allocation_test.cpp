// A step allocates nothing, and neither do save and load: malloc itself is counted.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>

#include <gtest/gtest.h>

#include "model/decoding.h"
#include "model/engine.h"
#include "model/hotwords.h"
#include "tests/unit/support.h"

namespace {
std::atomic<long> allocations{0};
}

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) {
  ++allocations;
  return __libc_realloc(block, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  ++allocations;
  *block = __libc_memalign(alignment, size);
  return *block == nullptr ? 12 : 0;
}
}

namespace sidewinder::test {
namespace {

TEST(Allocation, TheCounterCounts) {
  long before = allocations;
  auto some = std::make_unique<std::vector<float>>(1000);
  EXPECT_EQ(allocations - before, 2) << some->size();
}

TEST(Allocation, NoneInAStepAfterWarmUp) {
  constexpr std::uint32_t kStreams = 8;
  std::vector<float> clip = read_clip("quilter.flac");
  auto engine = make_cpu_engine(default_model(), {.slots = kStreams,
                                                  .max_batch = kStreams,
                                                  .max_samples = 16000,
                                                  .threads = 2,
                                                  .want_log_probs = true,
                                                  .want_encodings = true});
  std::vector<StreamInput> batch(kStreams);
  std::vector<StreamOutput> out(kStreams);
  std::vector<std::byte> capsule(engine->capsule_bytes());
  auto round = [&] {
    for (std::uint32_t slot = 0; slot < kStreams; ++slot) engine->reset(slot);
    for (std::size_t chunk : {640, 5120, 1, 16000, 333}) {
      for (std::uint32_t slot = 0; slot < kStreams; ++slot)
        batch[slot] = {slot, std::span<const float>(clip).subspan(slot * 1000, chunk), false};
      engine->step(batch, out);
    }
    engine->save(0, capsule);
    engine->load(1, capsule);
    for (StreamInput& input : batch) input.end = true;
    engine->step(batch, out);
  };
  round();
  long before = allocations;
  round();
  EXPECT_EQ(allocations - before, 0);
}

TEST(Allocation, NoneInTheDecodersButLongWords) {
  std::vector<float> clip = read_clip("quilter.flac");
  auto engine = make_cpu_engine(
      default_model(), {.max_samples = static_cast<std::uint32_t>(clip.size()), .want_log_probs = true});
  const StreamInput input{0, clip, true};
  StreamOutput out;
  engine->reset(0);
  engine->step({&input, 1}, {&out, 1});
  const Tokenizer tokenizer(default_model_folder() / "tokens.txt", default_model().config.vocab_size);
  const Hotwords hotwords(std::vector<Hotword>{{"roast beef"}, {"similes"}}, tokenizer, "test");
  for (DecoderKind kind : {DecoderKind::BestPath, DecoderKind::Beam}) {
    const Decoding decoding(default_model_folder(), default_model().config, tokenizer,
                            {.kind = kind, .stability = {}});
    auto decoder = decoding.make();
    decoder->set_hotwords(&hotwords);
    std::vector<std::byte> state(decoder->state_bytes());
    std::vector<Word> words;
    words.reserve(1000);
    const long before = allocations;
    std::size_t letters = 0;
    for (std::uint32_t frame = 0; frame < out.frames; ++frame) {
      const auto vocab = static_cast<std::size_t>(default_model().config.vocab_size);
      decoder->advance({.first_frame = frame,
                        .frames = 1,
                        .tokens = out.tokens + frame,
                        .scores = out.scores + frame,
                        .log_probs = out.log_probs + frame * vocab},
                       words);
      letters += decoder->tentative().text.size();
      decoder->save(state);
      decoder->load(state);
    }
    decoder->finish(words);
    const long after = allocations;
    EXPECT_GT(words.size(), 30u);
    EXPECT_GT(letters, 100u);
    // A std::string of up to 15 letters has them in itself.
    const auto long_words =
        std::count_if(words.begin(), words.end(), [](const Word& word) { return word.text.size() > 15; });
    EXPECT_EQ(after - before, long_words);
  }
}

}  // namespace
}  // namespace sidewinder::test
