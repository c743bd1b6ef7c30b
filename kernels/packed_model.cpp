#include "kernels/packed_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numbers>
#include <span>
#include <string>

#include <Eigen/Core>
#include <cuda_fp8.h>

#include "model/error.h"
#include "model/json_fields.h"

namespace sidewinder::cuda {
namespace {

constexpr int kGroup = 16;     // outputs
constexpr int kInputPad = 64;  // inputs, one step of the tensor-core kernel
constexpr int kFloat8Inputs = 512;
constexpr float kMostFloat8 = 448.0f;
constexpr float kFloat8Room = 8.0f;  // at least this much louder than the calibration
constexpr std::size_t kAlign = 256;
constexpr float kNever = -1e30f;  // below any logit

int round_up(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Output held by row `row` of a group of 16, see PackedMatrix.
int output_of_row(int row, bool dealt) {
  if (!dealt) return row;
  int tile = row / 8, q = row % 8 / 2, bit = row % 2;
  return 4 * q + 2 * tile + bit;
}

class Packer {
 public:
  Packer(const Weights& weights, PackedModel& model) : weights_(weights), model_(model) {}

  template <typename T>
  std::size_t add(std::span<const T> values) {
    std::size_t offset = (model_.bytes.size() + kAlign - 1) / kAlign * kAlign;
    model_.bytes.resize(offset + values.size_bytes());
    std::memcpy(model_.bytes.data() + offset, values.data(), values.size_bytes());
    return offset;
  }
  template <typename T>
  std::size_t add(const std::vector<T>& values) {
    return add(std::span<const T>(values));
  }

  std::size_t vector(const std::string& name) { return add(weights_.tensor(name).to_floats()); }

  // (channels, ..., taps) as stored -> (taps, channels)
  std::size_t transposed(const std::string& name) { return add(transposed_values(name)); }

  std::vector<float> transposed_values(const std::string& name) {
    const TensorView& tensor = weights_.tensor(name);
    std::vector<float> stored = tensor.to_floats(), out(stored.size());
    std::size_t taps = tensor.shape.back(), channels = stored.size() / taps;
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t k = 0; k < taps; ++k) out[k * channels + c] = stored[c * taps + k];
    return out;
  }

  // Outputs from `first` to `last` are multiplied with `gain`.
  PackedMatrix matrix(const std::string& name, bool gated = false, float gain = 1.0f, int first = 0,
                      int last = 0) {
    const TensorView& tensor = weights_.tensor(name);
    std::vector<float> values = tensor.to_floats();
    const std::size_t inputs = values.size() / tensor.shape[0];
    for (std::size_t at = first * inputs; at < last * inputs; ++at) values[at] *= gain;
    return matrix(values, static_cast<int>(tensor.shape[0]), gated);
  }

  // Of inputs that come times `gain`. In Float8 e4m3, else as all are.
  PackedMatrix narrow_matrix(const std::string& name, float gain) {
    if (model_.precision != CudaPrecision::Float8) return matrix(name);
    const TensorView& tensor = weights_.tensor(name);
    std::vector<float> values = tensor.to_floats(), scales;
    const int outputs = static_cast<int>(tensor.shape[0]);
    PackedMatrix packed = shape_of(values, outputs, kFloat8Inputs);
    for (int output = 0; output < outputs; ++output) {
      const std::span<float> row(values.data() + static_cast<std::ptrdiff_t>(output) * packed.inputs,
                                 static_cast<std::size_t>(packed.inputs));
      float most = 0.0f;
      for (float value : row) most = std::max(most, std::abs(value));
      const float scale = most > 0.0f ? most / kMostFloat8 : 1.0f;
      for (float& value : row) value /= scale;
      scales.push_back(scale / gain);
    }
    std::vector<__nv_fp8_storage_t> rows;
    for (float value : arranged(values, packed, outputs, false))
      rows.push_back(__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3));
    packed.offset = add(rows);
    packed.scale = add(scales);
    return packed;
  }

  std::size_t multiplied(const std::string& name, float gain) {
    std::vector<float> values = weights_.tensor(name).to_floats();
    for (float& value : values) value *= gain;
    return add(values);
  }

  // (outputs, channels, taps) as stored -> inputs in the order (taps, channels), as rows follow in time.
  PackedMatrix time_convolution(const std::string& name) {
    const TensorView& tensor = weights_.tensor(name);
    std::vector<float> stored = tensor.to_floats(), values(stored.size());
    std::size_t channels = tensor.shape[1], taps = tensor.shape[2];
    for (std::size_t at = 0; at < stored.size(); ++at) {
      std::size_t out = at / (channels * taps), channel = at / taps % channels, tap = at % taps;
      values[out * channels * taps + tap * channels + channel] = stored[at];
    }
    return matrix(values, static_cast<int>(tensor.shape[0]), false);
  }

 private:
  static PackedMatrix shape_of(const std::vector<float>& values, int outputs, int input_pad) {
    PackedMatrix packed;
    packed.inputs = static_cast<int>(values.size()) / outputs;
    packed.inputs_padded = round_up(packed.inputs, input_pad);
    packed.outputs = round_up(outputs, kGroup);
    return packed;
  }

  // values: (outputs, inputs) -> (packed.outputs, packed.inputs_padded) as PackedMatrix says
  std::vector<float> arranged(const std::vector<float>& values, const PackedMatrix& packed, int outputs,
                              bool gated) const {
    const bool dealt = model_.precision != CudaPrecision::Float32;
    std::vector<float> rows(static_cast<std::size_t>(packed.outputs) * packed.inputs_padded);
    for (int row = 0; row < packed.outputs; ++row) {
      int group = row / kGroup;
      if (gated) group = group / 2 + (group % 2 == 0 ? 0 : outputs / 2 / kGroup);
      int output = group * kGroup + output_of_row(row % kGroup, dealt);
      if (output >= outputs) continue;
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(output) * packed.inputs, packed.inputs,
                  rows.begin() + static_cast<std::ptrdiff_t>(row) * packed.inputs_padded);
    }
    return rows;
  }

  // values: (outputs, inputs)
  PackedMatrix matrix(const std::vector<float>& values, int outputs, bool gated) {
    PackedMatrix packed = shape_of(values, outputs, kInputPad);
    const std::vector<float> rows = arranged(values, packed, outputs, gated);
    switch (model_.precision) {
      case CudaPrecision::Float16:
      case CudaPrecision::Float8:
        packed.offset = add(to_half(rows));
        break;
      case CudaPrecision::BFloat16:
        packed.offset = add(std::vector<Eigen::bfloat16>(rows.begin(), rows.end()));
        break;
      case CudaPrecision::Float32:
        packed.offset = add(rows);
        break;
    }
    return packed;
  }

  static std::vector<Eigen::half> to_half(const std::vector<float>& values) {
    std::vector<Eigen::half> out;
    out.reserve(values.size());
    for (float value : values) {
      if (std::abs(value) > 65504.0f)
        throw ModelError("cuda engine: a weight of " + std::to_string(value) +
                         " does not fit float16; run this model in bfloat16 or float32");
      out.emplace_back(value);
    }
    return out;
  }

  const Weights& weights_;
  PackedModel& model_;
};

double hz_to_mel(double hz) {
  return 2595.0 * std::log10(1.0 + hz / 700.0);
}
double mel_to_hz(double mel) {
  return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0);
}

// The tables of dsp/log_mel.h's formula.
void pack_features(Packer& packer, PackedModel& model) {
  const FeatureConfig& shape = model.config.features;
  std::vector<float> window, twiddles, weights;
  for (int n = 0; n < shape.window_length; ++n)
    window.push_back(
        static_cast<float>(0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * n / (shape.window_length - 1))));
  for (int k = 0; k < shape.fft_length; ++k) {
    double angle = -2.0 * std::numbers::pi * k / shape.fft_length;
    twiddles.push_back(static_cast<float>(std::cos(angle)));
    twiddles.push_back(static_cast<float>(std::sin(angle)));
  }
  std::vector<std::int32_t> first, start;
  const double low_mel = hz_to_mel(shape.f_min), high_mel = hz_to_mel(shape.f_max);
  auto corner = [&](int i) { return mel_to_hz(low_mel + (high_mel - low_mel) * i / (shape.n_mels + 1)); };
  for (int m = 0; m < shape.n_mels; ++m) {
    const double low = corner(m), peak = corner(m + 1), high = corner(m + 2);
    first.push_back(0);
    start.push_back(static_cast<std::int32_t>(weights.size()));
    for (int k = 0; k <= shape.fft_length / 2; ++k) {
      const double hz = static_cast<double>(k) * model.config.sample_rate / shape.fft_length;
      const double weight = std::min((hz - low) / (peak - low), (high - hz) / (high - peak));
      if (weight <= 0.0) continue;
      if (static_cast<std::size_t>(start.back()) == weights.size()) first.back() = k;
      weights.push_back(static_cast<float>(weight));
    }
  }
  start.push_back(static_cast<std::int32_t>(weights.size()));
  model.window = packer.add(window);
  model.twiddles = packer.add(twiddles);
  model.mel_first = packer.add(first);
  model.mel_start = packer.add(start);
  model.mel_weights = packer.add(weights);
  model.mean = packer.vector("features.mean");
  model.inv_std = packer.vector("features.inv_std");
}

// What the inputs of a layer's out_proj and fc2 are multiplied with.
struct Gains {
  float out_proj = 1.0f, fc2 = 1.0f;
};

// Powers of two, so that nothing is rounded by them but weights too small for float16's full precision.
std::vector<Gains> read_gains(const Model& source) {
  const std::filesystem::path file = source.folder / "float8.json";
  const std::string origin = file.string();
  if (!std::filesystem::exists(file))
    throw ModelError(
        "cuda engine: float8 needs " + origin +
        ", the loudest inputs of the model's products; let model/training/float8.py write it, or run "
        "the model in float16");
  const nlohmann::json json = parse_json(read_json_file(file), origin);
  const Fields peaks(json, origin, "");
  const std::size_t layers = static_cast<std::size_t>(source.config.n_layer);
  auto gains_of = [&](const char* name) {
    std::vector<float> gains;
    for (const double peak : peaks.reals(name, layers, 1e-4, 1e4))
      gains.push_back(
          std::exp2(std::floor(std::log2(kMostFloat8 / (kFloat8Room * static_cast<float>(peak))))));
    return gains;
  };
  const std::vector<float> out_proj = gains_of("out_proj");
  const std::vector<float> fc2 =
      source.config.d_intermediate > 0 ? gains_of("fc2") : std::vector<float>(layers, 1.0f);
  std::vector<Gains> gains;
  for (std::size_t i = 0; i < layers; ++i) gains.push_back({out_proj[i], fc2[i]});
  return gains;
}

PackedLayer pack_layer(Packer& packer, const ModelConfig& config, int index, const Gains& gains) {
  const std::string name = "backbone.layers." + std::to_string(index) + ".", mixer = name + "mixer.";
  PackedLayer layer{};
  layer.norm = packer.vector(name + "norm.weight");
  layer.in_proj = packer.matrix(mixer + "in_proj.weight");
  layer.conv_weight = packer.transposed(mixer + "conv1d.weight");
  layer.conv_bias = packer.vector(mixer + "conv1d.bias");
  const int first_c = config.ssm.dt_rank + config.ssm.d_state;
  layer.x_proj =
      packer.matrix(mixer + "x_proj.weight", false, gains.out_proj, first_c, first_c + config.ssm.d_state);
  layer.dt_weight = packer.transposed(mixer + "dt_proj.weight");
  layer.dt_bias = packer.vector(mixer + "dt_proj.bias");
  std::vector<float> decay = packer.transposed_values(mixer + "A_log");
  for (float& rate : decay)
    rate = static_cast<float>(-std::exp(static_cast<double>(rate)) * std::numbers::log2e);
  layer.decay = packer.add(decay);
  layer.skip = packer.multiplied(mixer + "D", gains.out_proj);
  layer.out_proj = packer.narrow_matrix(mixer + "out_proj.weight", gains.out_proj);
  if (config.d_intermediate == 0) return layer;
  layer.norm2 = packer.vector(name + "norm2.weight");
  layer.fc1 = packer.matrix(name + "mlp.fc1.weight", true, gains.fc2, 0, config.d_intermediate);
  layer.fc2 = packer.narrow_matrix(name + "mlp.fc2.weight", gains.fc2);
  return layer;
}

}  // namespace

void check_covered(const ModelConfig& config, CudaPrecision precision) {
  auto require = [](bool holds, const std::string& rule, int got) {
    if (!holds)
      throw ModelError("cuda engine: " + rule + ", this model has " + std::to_string(got) +
                       "; run it with the cpu engine");
  };
  const SsmConfig& ssm = config.ssm;
  require(config.kind == ModelKind::StreamingCtc, "the model must read speech (streaming-mamba-ctc)", 0);
  require(config.features.fft_length == 512, "fft_length must be 512", config.features.fft_length);
  require(config.features.n_mels % 8 == 0 && config.features.n_mels <= 256,
          "n_mels must be a multiple of 8 up to 256", config.features.n_mels);
  require(config.stem.kernel == 3, "the stem's kernel must be 3", config.stem.kernel);
  require(config.stem.stride == 2, "the stem's stride must be 2", config.stem.stride);
  require(config.stem.lookahead <= 32, "lookahead must be at most 32", config.stem.lookahead);
  require(config.d_model % 16 == 0, "d_model must be a multiple of 16", config.d_model);
  require(config.d_inner() % 128 == 0, "d_inner must be a multiple of 128", config.d_inner());
  require(config.d_intermediate % 16 == 0, "d_intermediate must be a multiple of 16", config.d_intermediate);
  require(ssm.d_state == 16, "d_state must be 16", ssm.d_state);
  require(ssm.d_conv == 4, "d_conv must be 4", ssm.d_conv);
  require(ssm.dt_rank % 16 == 0 && ssm.dt_rank <= 64, "dt_rank must be 16, 32, 48 or 64", ssm.dt_rank);
  if (precision != CudaPrecision::Float8) return;
  auto require_float8 = [](bool holds, const std::string& rule, int got) {
    if (!holds)
      throw ModelError("cuda engine: in float8 " + rule + ", this model has " + std::to_string(got) +
                       "; run it in float16");
  };
  require_float8(config.d_model == 256, "d_model must be 256", config.d_model);
  require_float8(config.d_inner() <= kFloat8Inputs, "d_inner must be at most 512", config.d_inner());
  require_float8(config.d_intermediate <= kFloat8Inputs, "d_intermediate must be at most 512",
                 config.d_intermediate);
}

PackedModel pack_model(const Model& source, CudaPrecision precision) {
  check_covered(source.config, precision);
  PackedModel model{};
  model.config = source.config;
  model.precision = precision;
  Packer packer(source.weights, model);
  pack_features(packer, model);
  model.conv1 = packer.time_convolution("stem.conv1.weight");
  model.conv1_bias = packer.vector("stem.conv1.bias");
  model.conv2 = packer.time_convolution("stem.conv2.weight");
  model.conv2_bias = packer.vector("stem.conv2.bias");
  model.stem_norm = packer.vector("stem.norm.weight");
  if (model.config.stem.lookahead > 0) {
    model.lookahead_weight = packer.transposed("stem.lookahead.weight");
    model.lookahead_bias = packer.vector("stem.lookahead.bias");
  }
  const std::vector<Gains> gains = precision == CudaPrecision::Float8
                                       ? read_gains(source)
                                       : std::vector<Gains>(static_cast<std::size_t>(model.config.n_layer));
  for (int i = 0; i < model.config.n_layer; ++i)
    model.layers.push_back(pack_layer(packer, model.config, i, gains[static_cast<std::size_t>(i)]));
  model.final_norm = packer.vector("backbone.norm_f.weight");
  model.head = packer.matrix("ctc_head.weight");
  std::vector<float> bias = source.weights.tensor("ctc_head.bias").to_floats();
  bias.resize(static_cast<std::size_t>(model.head.outputs), kNever);
  model.head_bias = packer.add(bias);
  source.weights.release_pages();
  return model;
}

}  // namespace sidewinder::cuda
