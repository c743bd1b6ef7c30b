// How fast are the resampler and the log-mel features, on one core? `xRT`: seconds of audio a second of work.
#include <array>
#include <cmath>
#include <vector>

#include <benchmark/benchmark.h>

#include "dsp/log_mel.h"
#include "dsp/resampler.h"
#include "dsp/voice_activity.h"

namespace {

namespace dsp = sidewinder::dsp;

std::vector<float> tone(std::size_t n) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = 0.5f * std::sin(0.05f * static_cast<float>(i % 10'000));
  return x;
}

// Arguments: input rate (Hz), milliseconds a call.
void BM_Resampler(benchmark::State& bench) {
  const int rate = static_cast<int>(bench.range(0));
  const dsp::ResamplerFilter filter(rate);
  const auto in = tone(static_cast<std::size_t>(rate * bench.range(1) / 1'000));
  std::vector<float> out(filter.max_outputs(in.size()));
  dsp::ResamplerState state;
  for (auto _ : bench) benchmark::DoNotOptimize(filter.process(state, in, out));
  bench.counters["xRT"] = benchmark::Counter(static_cast<double>(in.size()) / rate,
                                             benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_Resampler)->ArgsProduct({{8'000, 44'100, 44'101, 48'000, 192'000}, {10, 100}});

void BM_LogMelFrame(benchmark::State& bench) {
  const dsp::LogMel log_mel{dsp::LogMelConfig{}};
  dsp::LogMelScratch scratch;
  const auto in = tone(400);
  std::array<float, 80> mel;
  for (auto _ : bench) {
    log_mel.frame(in.data(), mel.data(), scratch);
    benchmark::DoNotOptimize(mel);
    benchmark::ClobberMemory();
  }
  bench.counters["xRT"] = benchmark::Counter(0.010, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_LogMelFrame);

// Framing and features, 80 ms a call.
void BM_LogMelStream(benchmark::State& bench) {
  const dsp::LogMel log_mel{dsp::LogMelConfig{}};
  const dsp::Framer framer(400, 160);
  dsp::FramerState state;
  dsp::LogMelScratch scratch;
  const auto in = tone(1'280);
  std::array<float, 80> mel;
  for (auto _ : bench) {
    framer.process(state, in, [&](const float* samples) {
      log_mel.frame(samples, mel.data(), scratch);
      benchmark::DoNotOptimize(mel);
    });
  }
  bench.counters["xRT"] = benchmark::Counter(0.080, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_LogMelStream);

// 80 ms a call.
void BM_VoiceActivity(benchmark::State& bench) {
  const dsp::VoiceActivity detector({});
  dsp::VoiceActivityState state;
  dsp::LogMelScratch scratch;
  const auto in = tone(1'280);
  for (auto _ : bench)
    detector.process(state, in, scratch, [](bool voice) { benchmark::DoNotOptimize(voice); });
  bench.counters["xRT"] = benchmark::Counter(0.080, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_VoiceActivity);

}  // namespace

BENCHMARK_MAIN();
