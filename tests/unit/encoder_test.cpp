// The CPU engine's parts against golden vectors of this model, of Hugging Face's Mamba and of CleanUMamba.
#include "model/cpu/encoder.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "model/cpu/front_end.h"
#include "model/error.h"
#include "tests/unit/support.h"
#include "tests/unit/vectors.h"

namespace sidewinder::test {
namespace {

using cpu::Encoder;
using cpu::FrontEnd;
using cpu::Segment;

constexpr double kTolerance = 1e-5;

struct GoldenEncoder : testing::TestWithParam<const char*> {
  const Model& model = default_model();
  StateLayout layout{model.config};
  Vectors golden = Vectors::load(GetParam());
  std::vector<float> state = std::vector<float>(layout.size);

  // Encoder input of the whole recording, the stream's end included.
  std::vector<float> stem_rows() {
    FrontEnd front_end(model.config, model.weights, layout);
    FrontEnd::Scratch scratch(model.config, 16);
    std::vector<float> wav = golden.pcm("wav"), rows, block(16 * model.config.d_model);
    StreamClock clock;
    auto keep = [&](int count) {
      rows.insert(rows.end(), block.begin(), block.begin() + count * model.config.d_model);
    };
    for (std::span<const float> rest = wav; !rest.empty();)
      keep(front_end.advance(state.data(), clock, rest, 16, block.data(), scratch));
    keep(front_end.flush(state.data(), clock, block.data(), scratch));
    return rows;
  }
};

TEST_P(GoldenEncoder, StemAfterLookahead) {
  EXPECT_LT(relative_error(stem_rows(), golden.floats("stem")), kTolerance);
}

TEST_P(GoldenEncoder, LayersAndTheirStates) {
  Encoder encoder(model.config, model.weights, layout);
  std::vector<float> x = golden.floats("stem");
  const int rows = static_cast<int>(golden.shape("stem")[0]), d = model.config.d_model;
  const int e = model.config.d_inner(), n = model.config.ssm.d_state, last = encoder.layers() - 1;
  Encoder::Scratch scratch(model.config, rows);
  const Segment segment{0, rows, state.data()};
  for (int layer = 0; layer <= last; ++layer) {
    encoder.forward_layer(layer, x.data(), rows, {&segment, 1}, scratch);
    std::string suffix = std::to_string(layer);
    if (!golden.has("layer" + suffix)) continue;
    EXPECT_LT(relative_error(x, golden.floats("layer" + suffix)), kTolerance) << "layer " << layer;
    std::vector<float> expected = golden.floats("ssm_state" + suffix), actual(expected.size());  // (e, n)
    for (int channel = 0; channel < e; ++channel)
      for (int i = 0; i < n; ++i) actual[channel * n + i] = state[layout.layers[layer].ssm + i * e + channel];
    EXPECT_LT(relative_error(actual, expected), kTolerance) << "state of layer " << layer;
  }
  EXPECT_TRUE(golden.has("layer" + std::to_string(last)));
  EXPECT_EQ(x.size(), static_cast<std::size_t>(rows * d));
}

INSTANTIATE_TEST_SUITE_P(Recordings, GoldenEncoder,
                         testing::Values("golden/encoder-0000.safetensors",
                                         "golden/encoder-0003.safetensors"),
                         [](const auto& instance) { return std::string(instance.param).substr(15, 4); });

// Hugging Face's MambaModel, under its own parameter names, whole and chunk by chunk.
TEST(HuggingFaceMamba, AgreesWholeAndInChunks) {
  std::filesystem::path folder = tests_folder() / "golden" / "mamba_hf";
  ModelConfig config = load_config(folder / "config.json");
  Weights weights(config, folder / "model.safetensors");
  StateLayout layout(config);
  Encoder encoder(config, weights, layout);
  Vectors vectors = Vectors::load("golden/mamba_hf/vectors.safetensors");
  const std::vector<float> expected = vectors.floats("output");
  const int rows = static_cast<int>(vectors.shape("input")[0]), d = config.d_model;

  std::vector<float> whole;
  for (int chunk : {rows, 1, 7, 32}) {
    std::vector<float> x = vectors.floats("input"), out(x.size()), state(layout.size);
    Encoder::Scratch scratch(config, chunk);
    for (int row = 0; row < rows; row += chunk) {
      int count = std::min(chunk, rows - row);
      Segment segment{0, count, state.data()};
      for (int layer = 0; layer < encoder.layers(); ++layer)
        encoder.forward_layer(layer, x.data() + row * d, count, {&segment, 1}, scratch);
      encoder.normalise(x.data() + row * d, count, out.data() + row * d);
    }
    EXPECT_LT(relative_error(out, expected), kTolerance) << "chunks of " << chunk;
    if (whole.empty()) whole = out;
    EXPECT_EQ(hash_bits(std::span<const float>(out)), hash_bits(std::span<const float>(whole)))
        << "chunks of " << chunk;
  }
}

// The bottleneck of CleanUMamba, trained by others. Its weights may not be shipped, so they lie outside the
// repository; SIDEWINDER_CLEANUMAMBA names the folder with the .npz files turned into .safetensors by ctest.
TEST(CleanUMamba, MixersAgreeWithTheirGoldenVectors) {
  std::filesystem::path weights_file = SIDEWINDER_CLEANUMAMBA_WEIGHTS;
  std::filesystem::path vectors_file = SIDEWINDER_CLEANUMAMBA_VECTORS;
  if (!std::filesystem::exists(weights_file) || !std::filesystem::exists(vectors_file))
    GTEST_SKIP() << "the CleanUMamba weights are not beside this checkout (../shared/models/cleanumamba)";
  MappedFile file(weights_file), golden_file(vectors_file);
  auto tensors = parse_safetensors(file.bytes(), weights_file.string());
  auto golden = parse_safetensors(golden_file.bytes(), vectors_file.string());

  ModelConfig config;
  config.kind = ModelKind::Backbone;
  config.d_model = 64;
  config.n_layer = 3;
  config.ssm = {.d_state = 16, .d_conv = 4, .expand = 2, .dt_rank = 4};
  StateLayout layout(config);
  const int e = config.d_inner();
  for (int i = 0; i < config.n_layer; ++i) {
    std::string prefix = "tsfm_Mamba_layers." + std::to_string(i) + ".mixer.",
                golden_prefix = "L" + std::to_string(i);
    cpu::Mamba1 mixer(config, layout.layers[i],
                      [&](const char* part) -> const TensorView& { return tensors.at(prefix + part); });
    std::vector<float> in = golden.at(golden_prefix + "_in").to_floats();
    std::vector<float> expected = golden.at(golden_prefix + "_out").to_floats();
    const int rows = static_cast<int>(in.size()) / config.d_model;
    for (int chunk : {rows, 1, 13}) {
      std::vector<float> out(in.size()), state(layout.size);
      cpu::Mamba1::Scratch scratch(config, chunk);
      for (int row = 0; row < rows; row += chunk) {
        int count = std::min(chunk, rows - row);
        Segment segment{0, count, state.data()};
        mixer.forward(in.data() + row * config.d_model, count, {&segment, 1},
                      out.data() + row * config.d_model, scratch);
      }
      EXPECT_LT(relative_error(out, expected), kTolerance) << "layer " << i << ", chunks of " << chunk;
      std::span<const float> conv(state.data() + layout.layers[i].conv, 3 * e);
      EXPECT_LT(relative_error(conv, golden.at(golden_prefix + "_conv_state").to_floats()), kTolerance);
      std::vector<float> ssm_golden = golden.at(golden_prefix + "_ssm_state").to_floats(),
                         ssm(ssm_golden.size());
      for (int channel = 0; channel < e; ++channel)
        for (int n = 0; n < 16; ++n) ssm[channel * 16 + n] = state[layout.layers[i].ssm + n * e + channel];
      EXPECT_LT(relative_error(ssm, ssm_golden), kTolerance);
    }
  }
}

}  // namespace
}  // namespace sidewinder::test
