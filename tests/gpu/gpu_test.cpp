// The CUDA engine against stored vectors, against the CPU engine, and against itself cut up in every way.
// One self-contained binary, so that it runs on a machine with nothing but a driver: `scripts/gpu`. Without a
// usable GPU every test but the planner's is skipped and says why.
//
// Finds the repository's files under $SIDEWINDER_SOURCE (default: the working folder), and the recordings as
// raw 16-bit samples under $SIDEWINDER_PCM.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "kernels/bench/random_model.h"
#include "kernels/cuda_engine.h"
#include "kernels/nvml/gpu_monitor.h"
#include "kernels/packed_model.h"
#include "kernels/product_choice.h"
#include "kernels/wave_plan.h"
#include "model/capsule.h"
#include "model/decoder.h"
#include "model/error.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"

namespace sidewinder {
namespace {

namespace fs = std::filesystem;

constexpr int kFrame = 640;  // samples an encoder frame

fs::path from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}
fs::path source(const std::string& path) {
  return from_environment("SIDEWINDER_SOURCE", ".") / path;
}

const Model& model() {
  static const Model loaded = load_model(source("model/pretrained"));
  return loaded;
}

std::vector<float> floats_of(std::span<const std::int16_t> pcm) {
  std::vector<float> out;
  for (std::int16_t sample : pcm) out.push_back(static_cast<float>(sample) / 32768.0f);
  return out;
}

// A recording of tests/data; empty when its raw form is not there.
std::vector<float> recording(const std::string& name) {
  std::ifstream file(from_environment("SIDEWINDER_PCM", ".carry/gpu/pcm") / (name + ".s16"),
                     std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::int16_t> pcm(bytes.size() / 2);
  std::memcpy(pcm.data(), bytes.data(), 2 * pcm.size());
  return floats_of(pcm);
}

// Speech-like enough: noise whose level wanders, 16-bit values.
std::vector<float> noise(std::size_t samples, std::uint64_t seed) {
  std::mt19937 random(static_cast<std::uint32_t>(seed * 7919 + 17));
  std::vector<float> out(samples);
  float level = 0.1f;
  for (std::size_t i = 0; i < samples; ++i) {
    if (i % 2000 == 0) level = std::uniform_real_distribution<float>(0.001f, 0.5f)(random);
    const float value = level * std::uniform_real_distribution<float>(-1, 1)(random);
    out[i] = std::round(value * 32768.0f) / 32768.0f;
  }
  return out;
}

// Everything that came out of one stream.
struct Heard {
  std::int64_t first_frame = -1;
  std::vector<std::int32_t> tokens;
  std::vector<float> scores, log_probs, encodings;

  void add(const StreamOutput& out, const ModelConfig& config) {
    if (out.frames == 0) return;
    if (first_frame < 0) first_frame = out.first_frame;
    EXPECT_EQ(out.first_frame, first_frame + static_cast<std::int64_t>(tokens.size()));
    tokens.insert(tokens.end(), out.tokens, out.tokens + out.frames);
    scores.insert(scores.end(), out.scores, out.scores + out.frames);
    auto append = [&](std::vector<float>& to, const float* from, int width) {
      if (from != nullptr) to.insert(to.end(), from, from + static_cast<std::size_t>(out.frames) * width);
    };
    append(log_probs, out.log_probs, config.vocab_size);
    append(encodings, out.encodings, config.d_model);
  }

  // FNV-1a over every bit.
  std::uint64_t hash() const {
    std::uint64_t value = 14695981039346656037ull;
    auto mix = [&](const void* data, std::size_t bytes) {
      for (std::size_t i = 0; i < bytes; ++i)
        value = (value ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211ull;
    };
    mix(&first_frame, sizeof(first_frame));
    mix(tokens.data(), 4 * tokens.size());
    mix(scores.data(), 4 * scores.size());
    mix(log_probs.data(), 4 * log_probs.size());
    mix(encodings.data(), 4 * encodings.size());
    return value;
  }
};

std::uint64_t hash_bytes(std::span<const std::byte> bytes) {
  std::uint64_t value = 14695981039346656037ull;
  for (std::byte byte : bytes) value = (value ^ static_cast<std::uint64_t>(byte)) * 1099511628211ull;
  return value;
}

EngineOptions everything(std::uint32_t slots, std::uint32_t samples) {
  EngineOptions options;
  options.slots = slots;
  options.max_batch = slots;
  options.max_samples = samples;
  options.want_log_probs = true;
  options.want_encodings = true;
  return options;
}

// Feeds a whole stream in chunks of `chunk` samples, alone.
Heard listen(Engine& engine, std::uint32_t slot, std::span<const float> samples, std::size_t chunk) {
  Heard heard;
  engine.reset(slot);
  bool last = false;
  for (std::size_t at = 0; !last; at += chunk) {
    last = at + chunk >= samples.size();
    StreamInput input{slot,
                      samples.subspan(std::min(at, samples.size()),
                                      std::min(chunk, samples.size() - std::min(at, samples.size()))),
                      last};
    StreamOutput out;
    engine.step({&input, 1}, {&out, 1});
    heard.add(out, engine.config());
  }
  return heard;
}

std::vector<std::byte> saved(const Engine& engine, std::uint32_t slot) {
  std::vector<std::byte> capsule(engine.capsule_bytes());
  engine.save(slot, capsule);
  return capsule;
}

// |a - b| / |b|
double relative_error(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size() || a.empty()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  const double error = std::sqrt(difference / size);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

std::size_t differing(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  if (a.size() != b.size()) return std::max(a.size(), b.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

std::string text_of(const Heard& heard, const Model& from) {
  const Tokenizer tokenizer(from.folder / "tokens.txt", from.config.vocab_size);
  auto decoder = make_best_path_decoder(from.config, tokenizer);
  StreamOutput frames;
  frames.first_frame = std::max<std::int64_t>(heard.first_frame, 0);
  frames.frames = static_cast<std::uint32_t>(heard.tokens.size());
  frames.tokens = heard.tokens.data();
  frames.scores = heard.scores.data();
  std::vector<Word> words;
  decoder->advance(frames, words);
  decoder->finish(words);
  std::string text;
  for (const Word& word : words) text += (text.empty() ? "" : " ") + word.text;
  return text;
}

const char* name_of(CudaPrecision precision) {
  switch (precision) {
    case CudaPrecision::Float32:
      return "Float32";
    case CudaPrecision::Float16:
      return "Float16";
    case CudaPrecision::Float8:
      return "Float8";
    default:
      return "BFloat16";
  }
}

const char* name_of(CudaProducts products) {
  switch (products) {
    case CudaProducts::Auto:
      return "Auto";
    case CudaProducts::Mma:
      return "Mma";
    default:
      return "Wgmma";
  }
}

// Every test of the engine, in every precision.
class CudaEngineTest : public ::testing::TestWithParam<CudaPrecision> {
 protected:
  void SetUp() override {
    if (std::string reason = cuda_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason;
  }

  // Largest relative error of what the network gives.
  double tolerance() const {
    switch (GetParam()) {
      case CudaPrecision::Float32:
        return 1e-4;
      case CudaPrecision::Float16:
        return 2e-2;
      case CudaPrecision::Float8:  // PyTorch with the same rounding: 5e-3 of log_probs, 3e-2 of encodings
        return 1e-1;
      default:
        return 5e-2;
    }
  }
  double feature_tolerance() const {
    switch (GetParam()) {
      case CudaPrecision::Float32:
        return 1e-5;
      case CudaPrecision::Float16:
      case CudaPrecision::Float8:
        return 1e-3;
      default:
        return 8e-3;
    }
  }
  // BFloat16 and Float8 round this model's float16 weights.
  bool rounds_weights() const {
    return GetParam() == CudaPrecision::BFloat16 || GetParam() == CudaPrecision::Float8;
  }
  // Tokens of `count` that may differ from the reference's.
  std::size_t tokens_that_may_differ(std::size_t count) const { return rounds_weights() ? count / 50 : 0; }
  void expect_like(const Heard& there, const Heard& here) const {
    EXPECT_LE(differing(there.tokens, here.tokens), tokens_that_may_differ(here.tokens.size()));
    if (!rounds_weights()) {
      EXPECT_EQ(text_of(there, model()), text_of(here, model()));
    }
  }

  std::unique_ptr<Engine> make(const EngineOptions& options, CudaOptions cuda = {}) const {
    cuda.precision = GetParam();
    return make_cuda_engine(model(), options, cuda);
  }
};

INSTANTIATE_TEST_SUITE_P(Precision, CudaEngineTest,
                         ::testing::Values(CudaPrecision::Float32, CudaPrecision::Float16,
                                           CudaPrecision::BFloat16, CudaPrecision::Float8),
                         [](const auto& given) { return std::string(name_of(given.param)); });

struct Golden {
  explicit Golden(const std::string& name)
      : file(source("tests/golden/" + name + ".safetensors")),
        tensors(parse_safetensors(file.bytes(), name)) {
    std::span<const std::byte> bytes = tensors.at("wav").bytes;
    std::vector<std::int16_t> pcm(bytes.size() / 2);
    std::memcpy(pcm.data(), bytes.data(), bytes.size());
    samples = floats_of(pcm);
    samples.resize(samples.size() - model().config.end_padding);  // the engine appends the silence itself
    std::span<const std::byte> ids = tensors.at("tokens").bytes;
    tokens.resize(ids.size() / 4);
    std::memcpy(tokens.data(), ids.data(), ids.size());
  }

  std::vector<float> floats(const std::string& name) const { return tensors.at(name).to_floats(); }

  MappedFile file;
  std::map<std::string, TensorView> tensors;
  std::vector<float> samples;
  std::vector<std::int32_t> tokens;
};

TEST_P(CudaEngineTest, MatchesTheGoldens) {
  for (const char* name : {"encoder-0000", "encoder-0003"}) {
    SCOPED_TRACE(name);
    const Golden golden(name);
    auto engine = make(everything(1, 16'000));
    const Heard heard = listen(*engine, 0, golden.samples, 16'000);
    const std::size_t vocab = model().config.vocab_size;
    std::vector<float> wanted = golden.floats("logits");
    for (std::size_t row = 0; row < wanted.size() / vocab; ++row) {
      std::span<float> logits(wanted.data() + row * vocab, vocab);
      double sum = 0;
      const double most = *std::max_element(logits.begin(), logits.end());
      for (float value : logits) sum += std::exp(value - most);
      for (float& value : logits) value = static_cast<float>(value - most - std::log(sum));
    }
    const double error = relative_error(heard.log_probs, wanted);
    const std::size_t wrong = differing(heard.tokens, golden.tokens);

    // The states of the first and the last layer, stored (channel, n), kept (n, channel).
    const StateLayout layout(model().config);
    std::vector<std::byte> capsule = saved(*engine, 0);
    std::vector<float> state(layout.size);
    std::memcpy(state.data(), capsule_floats(std::span<const std::byte>(capsule)).data(), 4 * state.size());
    const int e = model().config.d_inner();
    std::vector<double> state_errors;
    for (int layer : {0, model().config.n_layer - 1}) {
      std::vector<float> stored = golden.floats("ssm_state" + std::to_string(layer)), kept(stored.size());
      for (int c = 0; c < e; ++c)
        for (int n = 0; n < 16; ++n)
          kept[static_cast<std::size_t>(c) * 16 + n] = state[layout.layers[layer].ssm + n * e + c];
      state_errors.push_back(relative_error(kept, stored));
    }
    std::printf(
        "golden %s %s: log_probs %.2e, h of layer 0 %.2e, of layer %d %.2e, tokens %zu of %zu differ\n", name,
        name_of(GetParam()), error, state_errors[0], model().config.n_layer - 1, state_errors[1], wrong,
        golden.tokens.size());
    const double most = tolerance();
    EXPECT_LT(error, most);
    EXPECT_LT(state_errors[0], most);
    EXPECT_LT(state_errors[1], most);
    EXPECT_LE(wrong, tokens_that_may_differ(golden.tokens.size()));
  }
}

// Feature frames wait in the state; chunks of one hop show every one of them.
TEST_P(CudaEngineTest, FeaturesMatchTheGolden) {
  const Golden golden("encoder-0000");
  const ModelConfig& config = model().config;
  const StateLayout layout(config);
  auto engine = make(everything(1, 160));
  std::vector<float> mean = model().weights.tensor("features.mean").to_floats();
  std::vector<float> inv_std = model().weights.tensor("features.inv_std").to_floats();
  std::vector<float> wanted = golden.floats("log_mel"), got, expected;
  engine->reset(0);
  std::int64_t samples = 0;
  for (; samples + 160 <= 20'000; samples += 160) {
    StreamInput input{0, std::span(golden.samples).subspan(static_cast<std::size_t>(samples), 160), false};
    StreamOutput out;
    engine->step({&input, 1}, {&out, 1});
    const std::int64_t frames = config.feature_frames(samples + 160);
    const std::int64_t kept = frames - config.stem_outputs(frames) * 2;
    if (kept == 0) continue;
    std::vector<std::byte> capsule = saved(*engine, 0);
    std::vector<float> row(80);
    std::memcpy(row.data(),
                capsule_floats(std::span<const std::byte>(capsule)).data() +
                    4 * (layout.features + static_cast<std::size_t>(kept - 1) * 80),
                320);
    got.insert(got.end(), row.begin(), row.end());
    for (std::size_t m = 0; m < 80; ++m)
      expected.push_back((wanted[static_cast<std::size_t>(frames - 1) * 80 + m] - mean[m]) * inv_std[m]);
  }
  ASSERT_GT(expected.size(), 80u * 100);
  const double error = relative_error(got, expected);
  std::printf("features %s: %.2e\n", name_of(GetParam()), error);
  EXPECT_LT(error, feature_tolerance());
}

TEST_P(CudaEngineTest, AgreesWithTheCpuEngine) {
  for (const char* name : {"quilter", "northanger"}) {
    SCOPED_TRACE(name);
    const std::vector<float> samples = recording(name);
    if (samples.empty()) GTEST_SKIP() << "no raw recordings; scripts/gpu pack makes them";
    auto gpu = make(everything(1, 16'000));
    EngineOptions options = everything(1, 16'000);
    options.threads = 8;
    auto cpu = make_cpu_engine(model(), options);
    const Heard there = listen(*gpu, 0, samples, 5'120), here = listen(*cpu, 0, samples, 5'120);
    const double log_probs = relative_error(there.log_probs, here.log_probs);
    const double encodings = relative_error(there.encodings, here.encodings);
    std::printf("cpu %s %s: log_probs %.2e, encodings %.2e, tokens %zu of %zu differ\n  \"%s\"\n", name,
                name_of(GetParam()), log_probs, encodings, differing(there.tokens, here.tokens),
                here.tokens.size(), text_of(there, model()).c_str());
    EXPECT_LT(log_probs, tolerance());
    EXPECT_LT(encodings, tolerance());
    expect_like(there, here);
  }
}

void write_file(const fs::path& file, const std::string& text) {
  std::ofstream(file) << text;
}

// float8.json of the random model below, as model/training/float8.py gives it for that noise.
constexpr char kRandomModelPeaks[] = R"({"out_proj": [3.32, 3.12], "fc2": [6.32, 8.76]})";

// A network of other widths: no fused norms, another rank. Float8 covers the last one.
TEST_P(CudaEngineTest, AgreesOnAnotherShape) {
  const fs::path folder = fs::temp_directory_path() / "sidewinder-random-model";
  for (const RandomModelShape& shape :
       {RandomModelShape{320, 3, 448, 100, 32}, RandomModelShape{128, 2, 0, 33, 48},
        RandomModelShape{256, 2, 512, 500, 64}}) {
    SCOPED_TRACE(shape.d_model);
    write_random_model(folder, shape, 5);
    write_file(folder / "float8.json", kRandomModelPeaks);
    const Model other = load_model(folder);
    CudaOptions cuda;
    cuda.precision = GetParam();
    if (GetParam() == CudaPrecision::Float8 && shape.d_model != 256) {
      EXPECT_THROW(make_cuda_engine(other, everything(3, 16'000), cuda), ModelError);
      continue;
    }
    auto gpu = make_cuda_engine(other, everything(3, 16'000), cuda);
    auto cpu = make_cpu_engine(other, everything(1, 16'000));
    const std::vector<float> samples = noise(50'000, 3);
    const Heard there = listen(*gpu, 1, samples, 7'000), here = listen(*cpu, 0, samples, 7'000);
    const double error = relative_error(there.encodings, here.encodings);
    std::printf("d_model %d %s: encodings %.2e\n", shape.d_model, name_of(GetParam()), error);
    EXPECT_LT(error, tolerance());
    EXPECT_EQ(listen(*gpu, 2, samples, 640).hash(), there.hash());
  }
  fs::remove_all(folder);
}

TEST_P(CudaEngineTest, SameBitsForEveryChunkSize) {
  const Golden golden("encoder-0003");
  const std::span<const float> samples = golden.samples;
  auto engine = make(everything(2, static_cast<std::uint32_t>(samples.size())));
  const Heard whole = listen(*engine, 0, samples, samples.size());
  const std::uint64_t state = hash_bytes(saved(*engine, 0));
  for (std::size_t chunk : {kFrame, 4 * kFrame, 8 * kFrame, 37 * kFrame, 777, 5'119, 100'001}) {
    SCOPED_TRACE(chunk);
    const Heard heard = listen(*engine, 1, samples, chunk);
    EXPECT_EQ(heard.hash(), whole.hash());
    EXPECT_EQ(hash_bytes(saved(*engine, 1)), state);
  }
}

// How waves are cut, what runs side by side and what is replayed from a graph must not show.
TEST_P(CudaEngineTest, SameBitsForEveryWave) {
  const std::vector<float> samples = noise(70'000, 11);
  std::optional<std::uint64_t> wanted;
  struct Way {
    std::uint32_t wave_rows;
    int lanes;
    bool graphs;
  };
  for (const Way& way : {Way{0, 2, true}, Way{64, 1, false}, Way{64, 3, true}, Way{256, 2, false},
                         Way{1'024, 2, false}, Way{16'384, 1, false}}) {
    SCOPED_TRACE(way.wave_rows);
    CudaOptions cuda;
    cuda.wave_rows = way.wave_rows;
    cuda.lanes = way.lanes;
    cuda.graphs = way.graphs;
    auto engine = make(everything(40, 70'000), cuda);
    // All slots hear the same in one step, so any mix-up of waves shows.
    std::vector<StreamInput> batch;
    for (std::uint32_t slot = 0; slot < 40; ++slot) batch.push_back({slot, samples, true});
    std::vector<StreamOutput> out(40);
    engine->step(batch, out);
    for (std::size_t i = 0; i < 40; ++i) {
      Heard heard;
      heard.add(out[i], model().config);
      if (!wanted) wanted = heard.hash();
      EXPECT_EQ(heard.hash(), *wanted) << "slot " << i;
    }
  }
}

// Alone, or among others whose chunks have every length, come and go, in any order.
void expect_same_in_company(Engine& engine, std::uint32_t streams, std::uint64_t seed) {
  const std::vector<float> samples = noise(24'000, 1);
  std::vector<std::vector<float>> others;
  for (std::uint64_t i = 0; i < 32; ++i) others.push_back(noise(30'000, 100 + i));
  const std::uint64_t alone = listen(engine, 0, samples, 2'560).hash();
  std::mt19937 random(static_cast<std::uint32_t>(seed));
  std::vector<std::uint32_t> slots(streams);
  std::iota(slots.begin(), slots.end(), 0u);
  std::shuffle(slots.begin(), slots.end(), random);
  std::vector<std::size_t> at(streams, 0);
  for (std::uint32_t slot : slots) engine.reset(slot);
  // Several of them hear what the lone one heard.
  std::map<std::uint32_t, Heard> watched;
  for (std::uint32_t i = 0; i < 5; ++i) watched[slots[i * (streams - 1) / 4]];
  std::vector<StreamInput> batch;
  std::vector<StreamOutput> out(streams);
  for (int step = 0; step < 30; ++step) {
    std::shuffle(slots.begin(), slots.end(), random);
    batch.clear();
    for (std::uint32_t slot : slots) {
      if (random() % 4 == 0) continue;  // absent
      const std::span<const float> all = watched.contains(slot) ? samples : others[slot % others.size()];
      const std::size_t count = std::min<std::size_t>(random() % 2'560, all.size() - at[slot]);
      const bool end = random() % 4 == 0 && at[slot] + count == all.size();
      batch.push_back({slot, all.subspan(at[slot], count), end});
      at[slot] += count;
    }
    engine.step(batch, out);
    for (std::size_t i = 0; i < batch.size(); ++i)
      if (auto found = watched.find(batch[i].slot); found != watched.end())
        found->second.add(out[i], engine.config());
  }
  for (auto& [slot, heard] : watched) {
    StreamInput rest{slot, std::span(samples).subspan(at[slot]), true};
    while (!rest.samples.empty()) {
      StreamInput piece{slot, rest.samples.first(std::min<std::size_t>(2'560, rest.samples.size())), false};
      rest.samples = rest.samples.subspan(piece.samples.size());
      StreamOutput piece_out;
      engine.step({&piece, 1}, {&piece_out, 1});
      heard.add(piece_out, engine.config());
    }
    StreamOutput last;
    engine.step({&rest, 1}, {&last, 1});
    heard.add(last, engine.config());
    EXPECT_EQ(heard.hash(), alone) << "slot " << slot;
  }
}

TEST_P(CudaEngineTest, SameBitsAmong31Others) {
  auto engine = make(everything(32, 2'560));
  expect_same_in_company(*engine, 32, 1);
  expect_same_in_company(*engine, 32, 2);
}

TEST_P(CudaEngineTest, SameBitsAmong1000Others) {
  EngineOptions options = everything(1'001, 2'560);
  options.threads = 8;
  auto engine = make(options);
  expect_same_in_company(*engine, 1'001, 3);
}

TEST_P(CudaEngineTest, AbsentSlotsKeepTheirState) {
  auto engine = make(everything(6, 16'000));
  const std::vector<float> samples = noise(16'000, 4);
  for (std::uint32_t slot = 0; slot < 6; ++slot) {
    engine->reset(slot);
    StreamInput input{slot, std::span(samples).first(3'000 + 1'000 * slot), false};
    StreamOutput out;
    engine->step({&input, 1}, {&out, 1});
  }
  std::vector<std::uint64_t> before;
  for (std::uint32_t slot = 0; slot < 6; ++slot) before.push_back(hash_bytes(saved(*engine, slot)));
  std::vector<StreamInput> batch = {{4, samples, false}, {1, samples, true}, {2, {}, false}};
  std::vector<StreamOutput> out(3);
  engine->step(batch, out);
  for (std::uint32_t slot : {0u, 2u, 3u, 5u}) EXPECT_EQ(hash_bytes(saved(*engine, slot)), before[slot]);
  for (std::uint32_t slot : {1u, 4u}) EXPECT_NE(hash_bytes(saved(*engine, slot)), before[slot]);
  // An ended stream gives nothing more, until reset.
  StreamInput more{1, samples, false};
  engine->step({&more, 1}, out);
  EXPECT_EQ(out[0].frames, 0u);
  EXPECT_EQ(listen(*engine, 1, samples, 640).hash(), listen(*engine, 0, samples, 1'000).hash());
}

TEST_P(CudaEngineTest, EmptyAndShortStreams) {
  auto engine = make(everything(2, 16'000));
  auto cpu = make_cpu_engine(model(), everything(2, 16'000));
  for (std::size_t count : {0u, 1u, 399u, 400u, 1'359u, 1'360u, 6'000u}) {
    SCOPED_TRACE(count);
    const std::vector<float> samples = noise(count, 9);
    const Heard there = listen(*engine, 0, samples, 16'000), here = listen(*cpu, 0, samples, 16'000);
    EXPECT_EQ(there.tokens.size(),
              static_cast<std::size_t>(model().config.total_frames(static_cast<std::int64_t>(count))));
    EXPECT_EQ(there.first_frame, here.first_frame);
    EXPECT_LT(relative_error(there.log_probs, here.log_probs), tolerance());
  }
  std::vector<StreamOutput> none;
  engine->step({}, none);
  EXPECT_EQ(engine->failure(), "");
}

// Every kernel once or twice, small: what compute-sanitizer looks at.
void take_two_short_steps(CudaOptions cuda) {
  cuda.lanes = 1;
  cuda.wave_rows = 64;
  cuda.graphs = false;
  auto engine = make_cuda_engine(model(), everything(3, 2'560), cuda);
  const std::vector<float> samples = noise(5'120, 9);
  std::vector<StreamOutput> out(3);
  for (std::size_t step = 0; step < 2; ++step) {
    std::vector<StreamInput> batch;
    for (std::uint32_t slot = 0; slot < 3; ++slot)
      batch.push_back({slot, std::span(samples).subspan(2'560 * step, 2'560 - 300 * slot), step == 1});
    engine->step(batch, out);
  }
  EXPECT_GT(out[0].frames, 8u);
  EXPECT_EQ(engine->failure(), "");
}

TEST_P(CudaEngineTest, SanitizerSubject) {
  CudaOptions cuda;
  cuda.precision = GetParam();
  take_two_short_steps(cuda);
  cuda.fuse_convolution = cuda.clusters = false;
  take_two_short_steps(cuda);
}

// Samples that are no 16-bit values travel as float32; others' bits stay.
TEST_P(CudaEngineTest, FloatSamples) {
  auto engine = make(everything(2, 16'000));
  std::vector<float> samples = noise(20'000, 12);
  const std::uint64_t whole = listen(*engine, 0, samples, 4'000).hash();
  EXPECT_EQ(cuda_engine_stats(*engine).float_waves, 0u);
  const std::vector<float> loud(4'000, 1.25f);
  Heard heard;
  engine->reset(0);
  engine->reset(1);
  for (std::size_t at = 0; at < samples.size(); at += 4'000) {
    std::vector<StreamInput> batch = {
        {1, loud, false}, {0, std::span(samples).subspan(at, 4'000), at + 4'000 == samples.size()}};
    std::vector<StreamOutput> out(2);
    engine->step(batch, out);
    heard.add(out[1], model().config);
  }
  EXPECT_EQ(heard.hash(), whole);
  EXPECT_GT(cuda_engine_stats(*engine).float_waves, 0u);
  for (float& sample : samples) sample = sample * 0.7f + 1e-6f;
  auto cpu = make_cpu_engine(model(), everything(1, 16'000));
  EXPECT_LT(
      relative_error(listen(*engine, 0, samples, 4'000).log_probs, listen(*cpu, 0, samples, 4'000).log_probs),
      tolerance());
}

TEST_P(CudaEngineTest, StreamMovesBetweenEngines) {
  const Golden golden("encoder-0003");
  const std::span<const float> samples = golden.samples;
  const ModelConfig& config = model().config;
  auto cpu = make_cpu_engine(model(), everything(2, 16'000));
  auto gpu = make(everything(3, 16'000));
  const Heard wanted = listen(*gpu, 0, samples, 16'000), on_cpu = listen(*cpu, 0, samples, 16'000);
  ASSERT_EQ(gpu->capsule_bytes(), cpu->capsule_bytes());

  // GPU to another slot of it in mid-sentence: the same bits. CPU and GPU in turn: the same tokens.
  for (bool both : {false, true}) {
    SCOPED_TRACE(both);
    Heard heard;
    std::uint32_t slot = 1;
    Engine* engine = both ? cpu.get() : gpu.get();
    engine->reset(slot);
    const std::size_t chunk = 9'000;
    for (std::size_t at = 0; at < samples.size(); at += chunk) {
      const std::size_t count = std::min(chunk, samples.size() - at);
      StreamInput input{slot, samples.subspan(at, count), at + count == samples.size()};
      StreamOutput out;
      engine->step({&input, 1}, {&out, 1});
      heard.add(out, config);
      const std::vector<std::byte> capsule = saved(*engine, slot);
      if (both)
        engine = engine == cpu.get() ? gpu.get() : cpu.get();
      else
        slot = 3 - slot;
      engine->load(slot, capsule);
    }
    if (!both) {
      EXPECT_EQ(heard.hash(), wanted.hash());
    }
    expect_like(heard, on_cpu);
    EXPECT_LT(relative_error(heard.log_probs, on_cpu.log_probs), tolerance());
  }

  std::vector<std::byte> damaged = saved(*gpu, 0);
  const std::uint64_t before = hash_bytes(damaged);
  damaged[damaged.size() / 2] ^= std::byte{1};
  EXPECT_THROW(gpu->load(0, damaged), ModelError);
  EXPECT_THROW(gpu->load(0, std::span(damaged).first(100)), ModelError);
  EXPECT_EQ(hash_bytes(saved(*gpu, 0)), before);
}

TEST_P(CudaEngineTest, NothingIsAllocatedAfterWarmUp) {
  auto engine = make(everything(300, 16'000));
  const std::vector<float> samples = noise(16'000, 2);
  const std::size_t before = cuda_devices().at(0).memory_free;
  std::mt19937 random(3);
  std::vector<StreamOutput> out(300);
  for (int step = 0; step < 40; ++step) {
    std::vector<StreamInput> batch;
    const std::uint32_t streams = std::array{1u, 7u, 60u, 300u}[static_cast<std::size_t>(step % 4)];
    for (std::uint32_t slot = 0; slot < streams; ++slot)
      batch.push_back({slot, std::span(samples).first(random() % samples.size()), false});
    engine->step(batch, out);
  }
  EXPECT_EQ(cuda_devices().at(0).memory_free, before);
  EXPECT_EQ(engine->failure(), "");
}

TEST_P(CudaEngineTest, FullPoolOfSlots) {
  EngineOptions options;
  options.slots = options.max_batch = 20'000;
  options.max_samples = 5'120;
  options.threads = 8;
  auto engine = make(options);
  const std::vector<float> samples = noise(8 * 5'120, 21);
  auto alone = make(everything(1, 5'120));
  std::vector<StreamInput> batch(options.slots);
  std::vector<StreamOutput> out(options.slots);
  for (std::size_t step = 0; step < 4; ++step) {
    for (std::uint32_t slot = 0; slot < options.slots; ++slot)
      batch[slot] = {slot, std::span(samples).subspan(step * 5'120 + slot % 2 * 4 * 5'120, 5'120), false};
    engine->step(batch, out);
    std::size_t unequal = 0;
    for (std::uint32_t slot = 2; slot < options.slots; ++slot)
      unequal += out[slot].frames != out[slot % 2].frames ||
                 std::memcmp(out[slot].tokens, out[slot % 2].tokens, 4 * out[slot].frames) != 0 ||
                 std::memcmp(out[slot].scores, out[slot % 2].scores, 4 * out[slot].frames) != 0;
    EXPECT_EQ(unequal, 0u);
    StreamOutput lone;
    alone->step({batch.data(), 1}, {&lone, 1});
    ASSERT_EQ(lone.frames, out[0].frames);
    EXPECT_EQ(std::memcmp(lone.tokens, out[0].tokens, 4 * lone.frames), 0);
    EXPECT_EQ(std::memcmp(lone.scores, out[0].scores, 4 * lone.frames), 0);
  }
}

TEST_P(CudaEngineTest, RefusesWithFigures) {
  EngineOptions options = everything(2'000'000, 5'120);
  options.max_batch = 1;
  try {
    make(options);
    FAIL() << "two million slots fit?";
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
    EXPECT_NE(std::string(error.what()).find("2000000 slots need"), std::string::npos);
  }
  CudaOptions cuda;
  cuda.precision = GetParam();
  const std::uint32_t fit = cuda_slots_that_fit(model(), options, cuda);
  std::printf("%u slots fit\n", fit);
  EXPECT_GT(fit, 1'000u);
  options.slots = fit;
  EXPECT_LE(cuda_engine_bytes(model(), options, cuda), cuda_devices().at(0).memory_free);
  cuda.device = 99;
  EXPECT_THROW(make_cuda_engine(model(), everything(1, 1), cuda), std::runtime_error);
  cuda.device = 0;
  cuda.lanes = 9;
  EXPECT_THROW(make_cuda_engine(model(), everything(1, 1), cuda), std::invalid_argument);
}

// ---- Products --------------------------------------------------------------------------------------------

class CudaProductTest : public ::testing::TestWithParam<CudaPrecision> {
 protected:
  void SetUp() override {
    if (std::string reason = cuda_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason;
    if (!cuda::wgmma_runs()) GTEST_SKIP() << "this GPU has no wgmma";
  }
};

INSTANTIATE_TEST_SUITE_P(Precision, CudaProductTest,
                         ::testing::Values(CudaPrecision::Float16, CudaPrecision::BFloat16,
                                           CudaPrecision::Float8),
                         [](const auto& given) { return std::string(name_of(given.param)); });

// Both kinds of tile are right; and unless every bit is the same, Auto leaves wgmma alone.
TEST_P(CudaProductTest, WgmmaAgainstMma) {
  if (GetParam() == CudaPrecision::Float8) GTEST_SKIP() << "e4m3 products are made one way only";
  struct Shape {
    int rows, inputs, outputs;
  };
  std::size_t values = 0, different = 0;
  for (const Shape& shape :
       {Shape{64, 256, 512}, Shape{1'000, 256, 1'024}, Shape{131, 240, 416}, Shape{7, 256, 48},
        Shape{500, 512, 256}, Shape{64, 768, 256}, Shape{9'001, 64, 256}})
    for (int spread : {0, 3, 12}) {
      const cuda::ProductComparison got =
          cuda::compare_products(GetParam(), shape.rows, shape.inputs, shape.outputs, spread,
                                 static_cast<std::uint32_t>(shape.rows + spread));
      values += got.values;
      different += got.different;
      std::printf(
          "product %s (%d, %d) x (%d, %d), spread 2^%d: %zu of %zu differ in a bit; error mma %.1e, "
          "wgmma %.1e\n",
          name_of(GetParam()), shape.rows, shape.inputs, shape.outputs, shape.inputs, spread, got.different,
          got.values, got.largest_error, got.largest_other);
      EXPECT_LT(got.largest_error, 1e-5);
      EXPECT_LT(got.largest_other, 1e-5);
    }
  CudaOptions options;
  options.precision = GetParam();
  const bool chosen = cuda::choose_products(options).wgmma;
  std::printf("products %s: wgmma's bits are %s, Auto %s it\n", name_of(GetParam()),
              different == 0 ? "mma.sync's" : "its own", chosen ? "uses" : "leaves");
  EXPECT_GT(values, 1'000'000u);
  EXPECT_EQ(chosen, different == 0);
}

// A crowd that fills large waves against each of its streams alone, however the products are made.
TEST_P(CudaProductTest, SameBitsInCrowdsAndAlone) {
  constexpr std::uint32_t kStreams = 700, kSamples = 16'000;
  const std::vector<float> samples = noise(3 * kSamples, 31);
  auto hear = [&](const CudaOptions& cuda) {
    auto alone = make_cuda_engine(model(), everything(1, kSamples), cuda);
    EngineOptions options = everything(kStreams, kSamples);
    options.threads = 8;
    auto crowd = make_cuda_engine(model(), options, cuda);
    std::vector<std::uint64_t> wanted;
    for (std::size_t kind = 0; kind < 3; ++kind)
      wanted.push_back(
          listen(*alone, 0, std::span(samples).subspan(kind * 8'000, 2 * kSamples), 2'560).hash());
    std::vector<Heard> heard(kStreams);
    std::vector<StreamInput> batch(kStreams);
    std::vector<StreamOutput> out(kStreams);
    for (std::size_t step = 0; step < 2; ++step) {
      for (std::uint32_t slot = 0; slot < kStreams; ++slot)
        batch[slot] = {slot, std::span(samples).subspan(slot % 3 * 8'000 + step * kSamples, kSamples),
                       step == 1};
      crowd->step(batch, out);
      for (std::uint32_t slot = 0; slot < kStreams; ++slot) heard[slot].add(out[slot], model().config);
    }
    std::size_t unequal = 0;
    for (std::uint32_t slot = 0; slot < kStreams; ++slot) unequal += heard[slot].hash() != wanted[slot % 3];
    EXPECT_EQ(unequal, 0u);
    EXPECT_EQ(crowd->failure(), "");
    std::printf("%s, products %s, convolution %s, clusters %s: hash %016llx\n", name_of(cuda.precision),
                name_of(cuda.products), cuda.fuse_convolution ? "fused" : "alone",
                cuda.clusters ? "yes" : "no", static_cast<unsigned long long>(wanted[0]));
    return wanted;
  };
  CudaOptions cuda;
  cuda.precision = GetParam();
  cuda.products = CudaProducts::Mma;
  cuda.fuse_convolution = cuda.clusters = false;
  const std::vector<std::uint64_t> mma = hear(cuda);
  cuda.fuse_convolution = true;
  EXPECT_EQ(hear(cuda), mma);
  cuda.clusters = true;
  EXPECT_EQ(hear(cuda), mma);
  cuda.products = CudaProducts::Auto;
  EXPECT_EQ(hear(cuda), mma);
  cuda.products = CudaProducts::Wgmma;
  hear(cuda);  // may have its own bits, the same ones for all
}

TEST_P(CudaProductTest, SanitizerSubject) {
  CudaOptions cuda;
  cuda.precision = GetParam();
  cuda.products = CudaProducts::Wgmma;
  take_two_short_steps(cuda);
}

// ---- Without a GPU ---------------------------------------------------------------------------------------

// What pack_model says of a random model in Float8; empty when it packs it.
std::string float8_error(const RandomModelShape& shape, const std::string& peaks) {
  const fs::path folder = fs::temp_directory_path() / ("sidewinder-float8-" + std::to_string(::getpid()));
  write_random_model(folder, shape, 5);
  if (!peaks.empty()) write_file(folder / "float8.json", peaks);
  std::string said;
  try {
    cuda::pack_model(load_model(folder), CudaPrecision::Float8);
  } catch (const ModelError& error) {
    said = error.what();
  }
  fs::remove_all(folder);
  return said;
}

TEST(PackedModel, Float8RefusesWhatItCannotPack) {
  const RandomModelShape fits{256, 2, 512, 33, 16}, wide{320, 2, 448, 33, 32};
  const std::string good = R"({"out_proj": [3, 1e4], "fc2": [0.0001, 7]})";
  EXPECT_EQ(float8_error(fits, good), "");
  EXPECT_NE(
      float8_error(wide, good).find("in float8 d_model must be 256, this model has 320; run it in float16"),
      std::string::npos);
  EXPECT_NE(float8_error(fits, "").find("float8.json"), std::string::npos);
  for (const char* bad :
       {"{", "[]", R"({"out_proj": [1, 2]})", R"({"out_proj": [1], "fc2": [1, 2]})",
        R"({"out_proj": [1, 0], "fc2": [1, 2]})", R"({"out_proj": [1, "2"], "fc2": [1, 2]})",
        R"({"out_proj": [1, 2e4], "fc2": [1, 2]})"}) {
    SCOPED_TRACE(bad);
    EXPECT_NE(float8_error(fits, bad).find("float8.json: "), std::string::npos) << float8_error(fits, bad);
  }
}

// Each output's largest weight is e4m3's largest, and the scale undoes that and the input's power of two.
TEST(PackedModel, Float8ScalesUndoThemselves) {
  const cuda::PackedModel packed = cuda::pack_model(model(), CudaPrecision::Float8);
  for (std::size_t i = 0; i < packed.layers.size(); ++i) {
    const cuda::PackedMatrix& matrix = packed.layers[i].out_proj;
    const std::vector<float> weights =
        model().weights.tensor("backbone.layers." + std::to_string(i) + ".mixer.out_proj.weight").to_floats();
    const std::vector<float> skip =
        model().weights.tensor("backbone.layers." + std::to_string(i) + ".mixer.D").to_floats();
    float skip_packed = 0;
    std::memcpy(&skip_packed, packed.bytes.data() + packed.layers[i].skip, sizeof(skip_packed));
    const float gain = skip_packed / skip[0];
    EXPECT_EQ(std::exp2(std::round(std::log2(gain))), gain);
    std::vector<float> scales(static_cast<std::size_t>(matrix.outputs));
    std::memcpy(scales.data(), packed.bytes.data() + matrix.scale, 4 * scales.size());
    const std::size_t inputs = static_cast<std::size_t>(matrix.inputs);
    for (std::size_t out = 0; out < scales.size(); ++out) {
      float most = 0;
      for (std::size_t k = 0; k < inputs; ++k) most = std::max(most, std::abs(weights[out * inputs + k]));
      EXPECT_FLOAT_EQ(scales[out] * gain * 448.0f, most);
    }
  }
}

TEST(CudaAvailability, SaysWhy) {
  const std::string reason = cuda_unavailable_reason();
  std::printf("%s\n", reason.empty() ? "a GPU is usable" : reason.c_str());
  for (const CudaDevice& device : cuda_devices())
    std::printf("GPU %d: %s, %d.%d, %d multiprocessors, %.1f of %.1f GB free\n", device.index,
                device.name.c_str(), device.major, device.minor, device.multiprocessors,
                static_cast<double>(device.memory_free) / 1e9,
                static_cast<double>(device.memory_total) / 1e9);
  EXPECT_EQ(reason.empty(), !cuda_devices().empty());
  EXPECT_EQ(reason.find('\n'), std::string::npos);
  if (!reason.empty()) {
    EXPECT_THROW(make_cuda_engine(model(), everything(1, 1)), std::runtime_error);
  }
}

TEST(GpuMonitor, KnowsTheDevicesOfCuda) {
  const std::vector<CudaDevice> devices = cuda_devices();
  std::vector<std::string> ids;
  for (const CudaDevice& device : devices) ids.push_back(device.pci_bus_id);
  GpuMonitor monitor(ids);
  const std::vector<GpuUsage> all = monitor.usage();
  EXPECT_EQ(all.empty(), !monitor.unavailable_reason().empty() || devices.empty());
  if (all.empty()) GTEST_SKIP() << (devices.empty() ? "there is no GPU" : monitor.unavailable_reason());
  ASSERT_EQ(all.size(), devices.size());
  for (const GpuUsage& usage : all) {
    EXPECT_EQ(usage.pci_bus_id, ids[usage.gpu]);
    EXPECT_GE(usage.memory_total, devices[usage.gpu].memory_total);  // CUDA leaves out what is reserved
    EXPECT_LE(usage.memory_used, usage.memory_total);
    EXPECT_GT(usage.memory_used, 0u);  // by this process at least
    std::printf("GPU %zu at %s: %.0f %% busy, %.1f of %.1f GB taken\n", usage.gpu, usage.pci_bus_id.c_str(),
                100 * usage.utilization.value_or(-1), static_cast<double>(usage.memory_used) / 1e9,
                static_cast<double>(usage.memory_total) / 1e9);
    if (usage.utilization) {
      EXPECT_GE(*usage.utilization, 0);
      EXPECT_LE(*usage.utilization, 1);
    }
  }
}

// Streams of random lengths in random chunks through waves of random limits: every sample is taken once,
// every frame given once, every region stays within its bounds.
TEST(WavePlanner, CoversEveryStreamOnce) {
  const ModelConfig& config = model().config;
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    const std::int32_t rows = 16 + static_cast<std::int32_t>(random() % 500);
    const std::int32_t segments = 1 + static_cast<std::int32_t>(random() % 20);
    const std::int32_t stem_rows = rows + 2 * segments + 8;
    const std::int64_t most_samples = 2'000 + 640 * static_cast<std::int64_t>(rows);
    const cuda::WavePlanner planner(config, rows, segments, stem_rows, most_samples);
    StreamClock clock;
    std::int64_t frames = 0, heard = 0;
    const int steps = 1 + static_cast<int>(random() % 6);
    for (int step = 0; step < steps; ++step) {
      cuda::Cursor cursor;
      cursor.end = step + 1 == steps;
      cursor.given = static_cast<std::int64_t>(random() % 40'000);
      cursor.total = cursor.given + (cursor.end ? config.end_padding : 0);
      heard += cursor.given;
      std::int64_t real = 0;
      cuda::WaveFill fill;
      for (int guard = 0; !cursor.done() && guard < 10'000; ++guard) {
        const std::int32_t slice = 1 + static_cast<std::int32_t>(random() % 64);
        cuda::WaveSegment segment{};
        const cuda::WaveFill old = fill;
        if (!planner.add(cursor, clock, 0, slice, fill, segment)) {
          ASSERT_GT(fill.segments, 0) << "an empty wave must take something";
          fill = {};
          continue;
        }
        ASSERT_EQ(segment.first_row, old.rows);
        ASSERT_LE(fill.rows, rows);
        ASSERT_LE(fill.segments, segments);
        ASSERT_LE(fill.stem_rows, stem_rows);
        ASSERT_LE(fill.samples, most_samples);
        ASSERT_LT(segment.tail, config.features.window_length);
        ASSERT_LE(segment.features_kept, 2);
        ASSERT_LE(segment.conv1_kept, 2);
        ASSERT_LE(segment.stem_left, config.stem.lookahead);
        const int region = cuda::region_rows(segment.stem_new);
        ASSERT_LE(segment.conv1_kept + segment.conv1_new, 2 * region);
        ASSERT_LE(2 * segment.conv1_kept + segment.features_kept + segment.features_new, 4 * region);
        real += segment.pcm_samples;
        frames += segment.rows;
      }
      ASSERT_TRUE(cursor.done());
      ASSERT_EQ(real, cursor.given);
    }
    EXPECT_EQ(frames, config.total_frames(heard));
    EXPECT_EQ(clock.samples, heard + config.end_padding);
  }
}

}  // namespace
}  // namespace sidewinder
