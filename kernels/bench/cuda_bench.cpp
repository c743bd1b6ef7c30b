// Speed of the CUDA engine, measured.
// usage: cuda_bench MODEL_FOLDER [--json FILE] [--variant N] [SECTION ...]
//   latency        one stream alone: steps of 320 ms and 80 ms
//   throughput     320 ms of audio for each of B streams a step, B from 1 as far as memory goes
//   profile        kernel by kernel, against the card's measured copy bandwidth
//   profile_plain  the same with mma.sync alone, and a kernel of its own for each convolution
//   profile_float8 the same in Float8
//   variants       65,536 and 100,000 streams a step, and one stream, under each of the engine's switches
//   offline        long pieces of many files a step
//   age            a step's time for streams 1 minute and 10 hours old
//   large          throughput of an encoder of 70 M parameters (random weights)
//   waves          throughput against rows a wave and lanes
//
// Without a section: all but profile_plain, profile_float8, variants and waves. N picks one of the variants,
// so that each may have a process of its own. FILE gets the throughput sections' tables:
// {"device", "tables": [{"model", "rows": [{"streams", "median_ms", "p99_ms"}]}]}.
//
// Times are wall clock around Engine::step, from samples in host memory to tokens in host memory.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/bench/random_model.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_engine.h"
#include "model/capsule.h"
#include "model/weights.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRate = 16'000;  // samples a second
constexpr int kChunk = 5'120;  // samples: 320 ms
constexpr double kChunkMs = 320;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Times {
  std::vector<double> all;  // ms
  double at(double share) const {
    std::vector<double> sorted = all;
    std::sort(sorted.begin(), sorted.end());
    return sorted[std::min(sorted.size() - 1,
                           static_cast<std::size_t>(share * static_cast<double>(sorted.size())))];
  }
  double median() const { return at(0.5); }
};

// White noise of 16-bit values; enough of it that it does not stay in the processor's caches.
class Audio {
 public:
  explicit Audio(std::size_t samples) : samples_(samples) {
    std::uint64_t state = 88172645463325252ull;
    for (float& sample : samples_) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      sample = static_cast<float>(static_cast<std::int16_t>(state >> 40)) / 131'072.0f;
      sample = std::round(sample * 32'768.0f) / 32'768.0f;
    }
  }
  // Some `count` samples, others for every key.
  std::span<const float> piece(std::size_t key, std::size_t count) const {
    const std::size_t places = (samples_.size() - count) / 640 + 1;
    return std::span(samples_).subspan(key * 7'919 % places * 640, count);
  }

 private:
  std::vector<float> samples_;
};

const Audio& audio() {
  static const Audio noise(96'000'000);  // 384 MB, 100 minutes
  return noise;
}

int packing_threads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
}

EngineOptions options_for(std::uint32_t streams, std::uint32_t samples) {
  EngineOptions options;
  options.slots = options.max_batch = streams;
  options.max_samples = samples;
  options.threads = packing_threads();
  return options;
}

// Steps of `samples` samples for slots 0 to streams - 1.
class Load {
 public:
  Load(Engine& engine, std::uint32_t streams, std::size_t samples)
      : engine_(engine), samples_(samples), batch_(streams), out_(streams) {}

  double step() {
    for (std::size_t i = 0; i < batch_.size(); ++i)
      batch_[i] = {static_cast<std::uint32_t>(i), audio().piece(i + 31 * round_, samples_), false};
    ++round_;
    const Clock::time_point start = Clock::now();
    engine_.step(batch_, out_);
    const double time = milliseconds_since(start);
    if (std::string failure(engine_.failure()); !failure.empty()) throw std::runtime_error(failure);
    return time;
  }

  Times run(int warm, int count) {
    for (int i = 0; i < warm; ++i) step();
    Times times;
    for (int i = 0; i < count; ++i) times.all.push_back(step());
    return times;
  }

  std::span<const StreamInput> batch() const { return batch_; }
  std::span<StreamOutput> out() { return out_; }

 private:
  Engine& engine_;
  std::size_t samples_;
  std::size_t round_ = 0;
  std::vector<StreamInput> batch_;
  std::vector<StreamOutput> out_;
};

// Read plus written bytes a second of a large copy within the device.
double copy_bandwidth() {
  constexpr std::size_t kBytes = std::size_t{4} << 30;
  cuda::DeviceMemory from(kBytes), to(kBytes);
  auto copy = [&] {
    cuda::check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), kBytes, cudaMemcpyDeviceToDevice), "copying");
  };
  copy();
  cuda::check(cudaDeviceSynchronize(), "copying");
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < 10; ++i) copy();
  cuda::check(cudaDeviceSynchronize(), "copying");
  return 10 * 2.0 * kBytes / (milliseconds_since(start) / 1e3);
}

void latency(const Model& model) {
  std::printf("\none stream alone | chunk ms | graphs | median ms | p99 ms\n");
  for (bool graphs : {true, false})
    for (int chunk : {320, 160, 80}) {
      CudaOptions cuda;
      cuda.graphs = graphs;
      const std::size_t samples = static_cast<std::size_t>(chunk) * kRate / 1'000;
      auto engine = make_cuda_engine(model, options_for(1, static_cast<std::uint32_t>(samples)), cuda);
      Load load(*engine, 1, samples);
      const Times times = load.run(100, 1'000);
      std::printf("| %d | %s | %.3f | %.3f |\n", chunk, graphs ? "yes" : "no", times.median(),
                  times.at(0.99));
    }
}

// The throughput tables, for --json.
nlohmann::ordered_json& tables() {
  static nlohmann::ordered_json all = nlohmann::ordered_json::array();
  return all;
}

void throughput_of(const char* name, const Model& model, std::vector<std::uint32_t> sizes,
                   const CudaOptions& cuda) {
  const std::uint32_t most = cuda_slots_that_fit(model, options_for(400'000, kChunk), cuda);
  std::printf("%u slots fit the card's free memory\n", most);
  std::erase_if(sizes, [&](std::uint32_t size) { return size > most; });
  const std::uint32_t slots = sizes.back();
  auto engine = make_cuda_engine(model, options_for(slots, kChunk), cuda);
  const CudaEngineStats made = cuda_engine_stats(*engine);
  const std::size_t free = cuda_devices().at(0).memory_free;
  std::printf("engine of %u slots: %.1f GB of device memory\n", slots,
              static_cast<double>(made.device_bytes) / 1e9);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::printf("| streams | median ms | p99 ms | of 320 ms | us a stream | times real time |\n");
  for (std::uint32_t streams : sizes) {
    Load load(*engine, streams, kChunk);
    const int count = streams <= 1'024 ? 200 : streams <= 16'384 ? 50 : 10;
    const Times times = load.run(3, count);
    std::printf("| %u | %.3f | %.3f | %.1f %% | %.3f | %.0f |\n", streams, times.median(), times.at(0.99),
                100 * times.median() / kChunkMs, 1e3 * times.median() / streams,
                streams * kChunkMs / times.median());
    rows.push_back({{"streams", streams}, {"median_ms", times.median()}, {"p99_ms", times.at(0.99)}});
  }
  tables().push_back({{"model", name}, {"rows", std::move(rows)}});
  const std::size_t still_free = cuda_devices().at(0).memory_free;
  std::printf("device memory allocated after warm-up: %lld bytes\n",
              static_cast<long long>(free) - static_cast<long long>(still_free));
}

void throughput(const Model& model) {
  std::printf("\nthroughput, 320 ms a stream a step\n");
  throughput_of(
      "default", model,
      {1, 8, 64, 256, 1'024, 4'096, 16'384, 65'536, 100'000, 131'072, 160'000, 200'000, 250'000, 300'000},
      {});
}

void waves(const Model& model) {
  std::printf("\n| rows a wave | lanes | median ms of 32,768 streams |\n");
  for (int lanes : {1, 2, 3})
    for (std::uint32_t rows : {4'224u, 8'448u, 16'896u, 33'792u}) {
      CudaOptions cuda;
      cuda.wave_rows = rows;
      cuda.lanes = lanes;
      auto engine = make_cuda_engine(model, options_for(32'768, kChunk), cuda);
      Load load(*engine, 32'768, kChunk);
      std::printf("| %u | %d | %.2f |\n", rows, lanes, load.run(2, 8).median());
    }
}

void profile_of(const Model& model, const CudaOptions& cuda) {
  constexpr std::uint32_t kStreams = 65'536;
  auto engine = make_cuda_engine(model, options_for(kStreams, kChunk), cuda);
  Load load(*engine, kStreams, kChunk);
  const double whole = load.run(3, 5).median();
  const std::vector<CudaKernelTime> times = cuda_profile_step(*engine, load.batch(), load.out());
  double total = 0;
  for (const CudaKernelTime& time : times) total += time.milliseconds;
  std::printf(
      "%u streams, 320 ms, large products with %s: a step takes %.1f ms; its kernels one after the other "
      "%.1f ms\n",
      kStreams, cuda_engine_stats(*engine).wgmma ? "wgmma" : "mma.sync", whole, total);
  std::printf("| group | ms | share | TB/s | TFLOP/s |\n");
  for (const CudaKernelTime& time : times)
    std::printf("| %s | %.2f | %.1f %% | %.2f | %.1f |\n", time.group, time.milliseconds,
                100 * time.milliseconds / total, time.bytes / time.milliseconds / 1e9,
                time.operations / time.milliseconds / 1e9);
}

void profile(const Model& model) {
  std::printf("\ncopy bandwidth (read + written): %.2f TB/s\n", copy_bandwidth() / 1e12);
  profile_of(model, {});
}

void profile_plain(const Model& model) {
  CudaOptions plain;
  plain.products = CudaProducts::Mma;
  plain.fuse_convolution = plain.clusters = false;
  profile_of(model, plain);
}

void profile_float8(const Model& model) {
  profile_of(model, {.precision = CudaPrecision::Float8});
}

std::size_t& only_variant() {
  static std::size_t number = static_cast<std::size_t>(-1);  // all
  return number;
}

void variants(const Model& model) {
  struct Variant {
    const char* name;
    CudaOptions cuda;
  };
  const CudaOptions chosen{.products = CudaProducts::Auto, .fuse_convolution = true, .clusters = true};
  auto with = [&](auto&& change) {
    CudaOptions cuda = chosen;
    change(cuda);
    return cuda;
  };
  const std::vector<Variant> all = {
      {"all on, wgmma where it gives the same bits", chosen},
      {"mma.sync", with([](CudaOptions& cuda) { cuda.products = CudaProducts::Mma; })},
      {"mma.sync, convolution alone, no clusters", with([](CudaOptions& cuda) {
         cuda.products = CudaProducts::Mma;
         cuda.fuse_convolution = cuda.clusters = false;
       })},
      {"convolution alone", with([](CudaOptions& cuda) { cuda.fuse_convolution = false; })},
      {"wgmma for small ones too", with([](CudaOptions& cuda) { cuda.products = CudaProducts::Wgmma; })},
      {"no clusters", with([](CudaOptions& cuda) { cuda.clusters = false; })},
      {"1 lane", with([](CudaOptions& cuda) { cuda.lanes = 1; })},
      {"3 lanes", with([](CudaOptions& cuda) { cuda.lanes = 3; })},
      {"16,896 rows a wave", with([](CudaOptions& cuda) { cuda.wave_rows = 16'896; })},
      {"16,896 rows a wave, 1 lane", with([](CudaOptions& cuda) {
         cuda.wave_rows = 16'896;
         cuda.lanes = 1;
       })},
      {"33,792 rows a wave", with([](CudaOptions& cuda) { cuda.wave_rows = 33'792; })},
      {"bfloat16", with([](CudaOptions& cuda) { cuda.precision = CudaPrecision::BFloat16; })},
      {"float8", with([](CudaOptions& cuda) { cuda.precision = CudaPrecision::Float8; })},
      {"no graphs", with([](CudaOptions& cuda) { cuda.graphs = false; })},
  };
  std::printf(
      "\n| variant | large products | 65,536 streams, median ms | 100,000 | 1 stream of 320 ms | 1 of 80 ms "
      "|\n");
  const bool one = only_variant() != static_cast<std::size_t>(-1);
  if (one && only_variant() >= all.size())
    throw std::out_of_range("there are " + std::to_string(all.size()) + " variants, counted from 0");
  for (const Variant& variant : one ? std::vector{all[only_variant()]} : all) {
    try {
      auto alone = make_cuda_engine(model, options_for(1, kChunk), variant.cuda);
      std::vector<double> lone;
      for (int samples : {kChunk, kChunk / 4})
        lone.push_back(Load(*alone, 1, static_cast<std::size_t>(samples)).run(100, 500).median());
      auto engine = make_cuda_engine(model, options_for(100'000, kChunk), variant.cuda);
      std::vector<double> crowd;
      for (std::uint32_t streams : {65'536u, 100'000u})
        crowd.push_back(Load(*engine, streams, kChunk).run(2, 7).median());
      std::printf("| %s | %s | %.2f | %.2f | %.3f | %.3f |\n", variant.name,
                  cuda_engine_stats(*engine).wgmma ? "wgmma" : "mma.sync", crowd[0], crowd[1], lone[0],
                  lone[1]);
      std::fflush(stdout);
    } catch (const std::exception& error) {
      std::printf("| %s | failed: %s |\n", variant.name, error.what());
    }
  }
}

void offline(const Model& model) {
  std::printf("\noffline | files | seconds a file | ms a step | times real time | hours of audio a second\n");
  for (std::uint32_t files : {64u, 512u, 2'048u}) {
    constexpr std::size_t kSeconds = 30;
    auto engine = make_cuda_engine(model, options_for(files, kSeconds * kRate));
    Load load(*engine, files, kSeconds * kRate);
    const double time = load.run(1, 3).median();
    const double speed = files * kSeconds * 1e3 / time;
    std::printf("| %u | %zu | %.1f | %.0f | %.2f |\n", files, kSeconds, time, speed, speed / 3'600);
  }
}

void age(const Model& model) {
  constexpr std::uint32_t kStreams = 16'384;
  auto engine = make_cuda_engine(model, options_for(kStreams, kChunk));
  const StateLayout layout(model.config);
  Load load(*engine, kStreams, kChunk);
  load.run(10, 1);
  std::printf("\nage of the streams | median ms of %u streams\n", kStreams);
  std::map<int, double> medians;
  for (int minutes : {1, 600, 1, 600}) {
    // A stream's age is its clock; the rest of its state does not grow.
    std::vector<std::byte> capsule(engine->capsule_bytes());
    for (std::uint32_t slot = 0; slot < kStreams; ++slot) {
      engine->save(slot, capsule);
      StreamClock clock = open_capsule(capsule, layout, engine->model_hash());
      clock.samples = clock.samples % 640 + std::int64_t{960'000} * minutes;
      seal_capsule(capsule, engine->model_hash(), clock);
      engine->load(slot, capsule);
    }
    medians[minutes] = load.run(3, 30).median();
    std::printf("| %d min | %.3f |\n", minutes, medians[minutes]);
  }
  std::printf("hour 10 over minute 1: %.4f\n", medians[600] / medians[1]);
}

void large(const Model&) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "sidewinder-large-model";
  write_random_model(folder, {512, 22, 1'024, 401, 32}, 1);
  const Model model = load_model(folder);
  std::printf("\nencoder of 70 M parameters: d_model 512, 22 layers, d_intermediate 1024, random weights\n");
  throughput_of("70 M parameters", model, {1, 1'024, 8'192, 16'384, 30'000, 50'000}, {});
  std::filesystem::remove_all(folder);
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: cuda_bench MODEL_FOLDER [--json FILE] [--variant N] [SECTION ...]\n");
    return 2;
  }
  if (std::string reason = cuda_unavailable_reason(); !reason.empty()) {
    std::fprintf(stderr, "cuda_bench: %s\n", reason.c_str());
    return 1;
  }
  const std::vector<std::pair<std::string, std::function<void(const Model&)>>> sections = {
      {"latency", latency},
      {"throughput", throughput},
      {"profile", profile},
      {"profile_plain", profile_plain},
      {"profile_float8", profile_float8},
      {"offline", offline},
      {"age", age},
      {"large", large},
      {"waves", waves},
      {"variants", variants}};
  std::vector<std::string> chosen(argv + 2, argv + argc);
  // Takes a flag and its value out of the words; empty without it.
  auto value_of = [&](const std::string& flag) {
    std::string value;
    const auto found = std::find(chosen.begin(), chosen.end(), flag);
    if (found == chosen.end()) return value;
    if (found + 1 == chosen.end()) throw std::invalid_argument(flag + " needs a value");
    value = *(found + 1);
    chosen.erase(found, found + 2);
    return value;
  };
  const std::string json = value_of("--json"), number = value_of("--variant");
  if (!number.empty()) only_variant() = std::stoul(number);
  const Model model = load_model(argv[1]);
  const CudaDevice device = cuda_devices().at(0);
  std::printf("%s, %d multiprocessors, %.1f GB; %d packing threads\n", device.name.c_str(),
              device.multiprocessors, static_cast<double>(device.memory_total) / 1e9, packing_threads());
  for (const auto& [name, section] : sections) {
    const bool on_demand =
        name == "waves" || name == "variants" || name == "profile_plain" || name == "profile_float8";
    const bool wanted =
        chosen.empty() ? !on_demand : std::find(chosen.begin(), chosen.end(), name) != chosen.end();
    if (!wanted) continue;
    const Clock::time_point start = Clock::now();
    section(model);
    std::printf("(%s took %.1f s)\n", name.c_str(), milliseconds_since(start) / 1e3);
    std::fflush(stdout);
  }
  if (json.empty()) return 0;
  std::ofstream file(json);
  file << nlohmann::ordered_json{{"device", device.name}, {"tables", tables()}}.dump(1) << '\n';
  if (!file.flush()) {
    std::fprintf(stderr, "cuda_bench: can't write %s\n", json.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace sidewinder

int main(int argc, char** argv) {
  try {
    return sidewinder::run(argc, argv);
  } catch (const std::logic_error& error) {  // the words it was called with
    std::fprintf(stderr, "cuda_bench: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_bench: %s\n", error.what());
    return 1;
  }
}
