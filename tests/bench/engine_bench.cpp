// Speed of the CPU engine with the default model, on one core, beside what the core can do at the most.
// Counters: x_real_time, audio seconds a CPU second; GFLOP/s of the matrix products alone; core_percent, the
// share of one core that a live stream takes.
#include <filesystem>
#include <vector>

#include <benchmark/benchmark.h>

#include "daemon/audio/audio_reader.h"
#include "model/cpu/linear.h"
#include "model/cpu/packet.h"
#include "model/engine.h"

namespace sidewinder {
namespace {

const std::filesystem::path kRoot = SIDEWINDER_ROOT;

const Model& model() {
  static const Model loaded = load_model(kRoot / "model" / "pretrained");
  return loaded;
}

// Real speech, repeated to at least so many samples.
std::vector<float> speech(std::size_t samples) {
  auto reader = open_sound_file(kRoot / "tests" / "data" / "quilter.flac");
  std::vector<float> clip(static_cast<std::size_t>(*reader->expected_frames()));
  clip.resize(reader->read(clip));
  std::vector<float> repeated;
  while (repeated.size() < samples) repeated.insert(repeated.end(), clip.begin(), clip.end());
  return repeated;
}

// Floating-point operations of all matrix products of one encoder frame.
double flops_a_frame() {
  const ModelConfig& c = model().config;
  double d = c.d_model, e = c.d_inner(), ff = c.d_intermediate, projected = c.ssm.dt_rank + 2 * c.ssm.d_state;
  double block = 2 * e * d + projected * e + e * c.ssm.dt_rank + d * e + 2 * ff * d + d * ff;
  double stem = c.stem.stride * d * c.stem.kernel * c.features.n_mels + d * c.stem.kernel * d;
  return 2 * (block * c.n_layer + stem + c.vocab_size * d);
}

// Multiply-adds from registers only: the most that any code can do here.
void peak_flops(benchmark::State& state) {
  using cpu::Packet;
  constexpr int kChains = 10, kRounds = 1000;
  const Packet a = cpu::splat(0.999f), b = cpu::splat(0.001f);
  Packet s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a;
  for (auto _ : state)
    for (int i = 0; i < kRounds; ++i) {
      for (Packet* sum : {&s0, &s1, &s2, &s3, &s4, &s5, &s6, &s7, &s8, &s9}) *sum = cpu::fma(*sum, a, b);
      // Keeps the chains in registers and in the loop.
      asm volatile("" : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4));
      asm volatile("" : "+x"(s5), "+x"(s6), "+x"(s7), "+x"(s8), "+x"(s9));
    }
  Packet total = a;
  for (Packet sum : {s0, s1, s2, s3, s4, s5, s6, s7, s8, s9}) total = cpu::ei::padd(total, sum);
  benchmark::DoNotOptimize(total);
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * kChains * kRounds * cpu::kLanes,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(peak_flops);

// Reading memory far larger than the caches, as a stream alone reads the weights.
void peak_read(benchmark::State& state) {
  std::vector<float> memory(std::size_t{1} << 26, 1.0f);
  for (auto _ : state) {
    cpu::Packet sum = cpu::splat(0);
    for (std::size_t i = 0; i < memory.size(); i += 4 * cpu::kLanes)
      for (int k = 0; k < 4; ++k) sum = cpu::ei::padd(sum, cpu::load(memory.data() + i + k * cpu::kLanes));
    benchmark::DoNotOptimize(sum);
  }
  state.counters["GB/s"] = benchmark::Counter(4e-9 * static_cast<double>(memory.size()),
                                              benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(peak_read)->Unit(benchmark::kMillisecond);

// Streams (argument 0) of chunks of so many milliseconds (argument 1), all in one step, one thread.
void step(benchmark::State& state) {
  const auto streams = static_cast<std::uint32_t>(state.range(0));
  const std::size_t chunk = static_cast<std::size_t>(state.range(1)) * 16;
  auto engine = make_cpu_engine(
      model(), {.slots = streams, .max_batch = streams, .max_samples = static_cast<std::uint32_t>(chunk)});
  std::vector<float> samples = speech(60 * 16000 + chunk);
  std::vector<StreamInput> batch(streams);
  std::vector<StreamOutput> out(streams);
  std::size_t at = 0;
  for (auto _ : state) {
    for (std::uint32_t i = 0; i < streams; ++i)
      batch[i] = {i, std::span<const float>(samples).subspan((at + i * 1600) % (60 * 16000), chunk), false};
    engine->step(batch, out);
    at += chunk;
  }
  const double audio = static_cast<double>(chunk) / 16000, frames = audio * 25 * streams;
  state.counters["x_real_time"] =
      benchmark::Counter(audio * streams, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(1e-9 * frames * flops_a_frame(), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["core_percent"] = benchmark::Counter(
      audio * streams / 100, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(step)
    ->ArgNames({"streams", "ms"})
    ->Args({1, 2000})   // offline
    ->Args({1, 60000})  // offline, minutes at once
    ->Args({1, 320})    // live
    ->Args({1, 160})
    ->Args({1, 80})
    ->Args({1, 40})
    ->Args({64, 320})  // live, batched
    ->Args({64, 80})
    ->Unit(benchmark::kMillisecond);

// One weight matrix (outputs, inputs) against so many rows.
void product(benchmark::State& state) {
  const int outputs = static_cast<int>(state.range(0)), inputs = static_cast<int>(state.range(1));
  const int rows = static_cast<int>(state.range(2));
  std::vector<Eigen::half> weights(static_cast<std::size_t>(outputs) * inputs, Eigen::half(0.03f));
  cpu::PackedMatrix matrix({DType::F16, {outputs, inputs}, std::as_bytes(std::span(weights))});
  std::vector<float> x(static_cast<std::size_t>(rows) * inputs, 0.3f),
      y(static_cast<std::size_t>(rows) * outputs);
  for (auto _ : state) {
    matrix.multiply(x.data(), inputs, rows, y.data(), outputs);
    benchmark::ClobberMemory();
  }
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * rows * outputs * inputs, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(product)
    ->ArgNames({"outputs", "inputs", "rows"})
    ->ArgsProduct({{1024}, {256}, {1, 2, 8, 48}})
    ->Args({256, 512, 48})
    ->Args({48, 512, 48})
    ->Args({512, 16, 48});

}  // namespace
}  // namespace sidewinder

BENCHMARK_MAIN();
