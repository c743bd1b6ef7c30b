// The hot path of dsp/ allocates nothing. A binary of its own, since it replaces malloc, where operator new
// and Eigen both end (glibc). Sanitizers need malloc for themselves: there the test is skipped.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "dsp/log_mel.h"
#include "dsp/resampler.h"
#include "dsp/voice_activity.h"

namespace {

int allocations = 0;

}  // namespace

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t n) {
  ++allocations;
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  ++allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  ++allocations;
  return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  ++allocations;
  return __libc_memalign(alignment, n);
}
}
#endif

namespace sidewinder::dsp {
namespace {

TEST(DspAllocations, NoneAfterConstruction) {
  const LogMel log_mel{LogMelConfig{}};
  const Framer framer(400, 160);
  const VoiceActivity detector({});
  auto scratch = std::make_unique<LogMelScratch>();
  std::vector<float> mel(80), in(5'000, 0.1f);
  if (allocations == 0) GTEST_SKIP() << "malloc cannot be counted in this build";
  for (const int rate : {8'000, 16'000, 44'100, 44'101, 48'000, 192'000}) {
    const ResamplerFilter filter(rate);
    std::vector<float> out(filter.max_outputs(in.size()) + filter.max_outputs(filter.lookahead()));
    const int before = allocations;
    ResamplerState state;
    FramerState framer_state;
    std::size_t n = filter.process(state, in, out);
    n += filter.flush(state, std::span(out).subspan(n));
    int frames = 0;
    framer.process(framer_state, {out.data(), n}, [&](const float* samples) {
      log_mel.frame(samples, mel.data(), *scratch);
      ++frames;
    });
    VoiceActivityState voice;
    int decisions = 0;
    detector.process(voice, {out.data(), n}, *scratch, [&](bool) { ++decisions; });
    const int after = allocations;
    EXPECT_EQ(static_cast<std::uint64_t>(decisions), voice.frames);
    EXPECT_EQ(after, before) << rate;
    EXPECT_EQ(static_cast<std::uint64_t>(frames), framer.frames(n));
  }
}

}  // namespace
}  // namespace sidewinder::dsp
