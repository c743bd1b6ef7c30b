#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/gemm.cuh"
#include "kernels/head.cuh"
#include "kernels/mixer.cuh"
#include "kernels/network.h"

namespace sidewinder::cuda {
namespace {

// With few rows a kernel less is worth more (7 % of a step of one stream); with many, two kernels overlap
// better with the other lane's (2 % of a step of 65,536). No bit depends on it.
constexpr std::int32_t kMostFusedRows = 2'048;

std::size_t element_bytes(const PackedModel& model) {
  return model.precision == CudaPrecision::Float32 ? 4 : 2;
}

// T: activations; Narrow: those that out_proj and fc2 read, and these products' weights.
template <typename T, typename Narrow = T>
class NetworkOf final : public Network {
 public:
  NetworkOf(const PackedModel& model, const StateLayout& layout, const CudaOptions& options)
      : config_(model.config),
        choice_(choose_products(options)),
        fuse_convolution_(options.fuse_convolution),
        memory_(model.bytes.size()) {
    check(cudaMemcpy(memory_.as<void>(), model.bytes.data(), model.bytes.size(), cudaMemcpyHostToDevice),
          "uploading the weights");
    const FeatureConfig& shape = config_.features;
    tables_ = {floats(model.window),
               at<float2>(model.twiddles),
               at<std::int32_t>(model.mel_first),
               at<std::int32_t>(model.mel_start),
               floats(model.mel_weights),
               floats(model.mean),
               floats(model.inv_std),
               shape.window_length,
               shape.hop_length,
               shape.n_mels,
               shape.log_floor};
    front_state_ = {static_cast<std::int64_t>(layout.samples),
                    static_cast<std::int64_t>(layout.features),
                    static_cast<std::int64_t>(layout.conv1),
                    static_cast<std::int64_t>(layout.lookahead),
                    shape.window_length,
                    shape.hop_length,
                    shape.n_mels,
                    config_.d_model,
                    config_.stem.lookahead};
    conv1_ = matrix(model.conv1);
    conv1_bias_ = floats(model.conv1_bias);
    conv2_ = matrix(model.conv2);
    conv2_bias_ = floats(model.conv2_bias);
    stem_norm_ = floats(model.stem_norm);
    if (config_.stem.lookahead > 0) {
      lookahead_weight_ = floats(model.lookahead_weight);
      lookahead_bias_ = floats(model.lookahead_bias);
    }
    for (std::size_t i = 0; i < model.layers.size(); ++i)
      layers_.push_back(layer(model.layers[i], layout.layers[i]));
    final_norm_ = floats(model.final_norm);
    head_ = matrix(model.head);
    head_bias_ = floats(model.head_bias);
  }

  const ProductChoice& products() const override { return choice_; }

  void run(const DeviceWave& wave, const Workspace& workspace, const StepOutputs& out, cudaStream_t stream,
           GroupListener* listener) const override {
    auto done = [&](const char* group) {
      if (listener != nullptr) listener->after(group, stream);
    };
    front_end(wave, workspace, stream, done);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const float* next_norm = i + 1 < layers_.size() ? layers_[i + 1].norm : final_norm_;
      block(layers_[i], next_norm, wave, workspace, stream, done);
    }
    head(wave, workspace, out, stream, done);
  }

 private:
  struct Layer {
    const float* norm;
    MixerShape shape;
    Matrix<T> in_proj, x_proj, fc1;
    Matrix<Narrow> out_proj, fc2;
    const float *conv_weight, *conv_bias;
    ScanWeights scan;
    const float* norm2;
  };

  template <typename U>
  const U* at(std::size_t offset) const {
    return reinterpret_cast<const U*>(memory_.template as<std::byte>() + offset);
  }
  const float* floats(std::size_t offset) const { return at<float>(offset); }
  template <typename Weight = T>
  Matrix<Weight> matrix(const PackedMatrix& packed) const {
    return {at<Weight>(packed.offset), packed.inputs, packed.inputs_padded, packed.outputs,
            floats(packed.scale)};
  }

  Layer layer(const PackedLayer& packed, const LayerState& state) const {
    Layer layer{};
    layer.norm = floats(packed.norm);
    layer.shape = {config_.d_inner(), config_.ssm.dt_rank, static_cast<std::int64_t>(state.conv),
                   static_cast<std::int64_t>(state.ssm)};
    layer.in_proj = matrix(packed.in_proj);
    layer.conv_weight = floats(packed.conv_weight);
    layer.conv_bias = floats(packed.conv_bias);
    layer.x_proj = matrix(packed.x_proj);
    layer.scan = {floats(packed.dt_weight), floats(packed.dt_bias), floats(packed.decay),
                  floats(packed.skip)};
    layer.out_proj = matrix<Narrow>(packed.out_proj);
    if (config_.d_intermediate == 0) return layer;
    layer.norm2 = floats(packed.norm2);
    layer.fc1 = matrix(packed.fc1);
    layer.fc2 = matrix<Narrow>(packed.fc2);
    return layer;
  }

  template <typename Done>
  void front_end(const DeviceWave& wave, const Workspace& space, cudaStream_t stream, Done&& done) const {
    const int d = config_.d_model, mels = config_.features.n_mels;
    T* features = static_cast<T*>(space.features);
    T* conv1 = static_cast<T*>(space.conv1);
    compute_features(wave, tables_, front_state_, features, stream);
    done("features");
    const Rows<T> windows{features, 2 * mels, &wave.counts->conv1_rows, 2 * wave.most_stem_rows};
    multiply(windows, conv1_, StoreBiasSilu<T>{conv1, d, conv1_bias_}, choice_, stream);
    done("stem products");
    turn_over_features(wave, front_state_, features, conv1, stream);
    done("stem state");
    const Rows<T> pairs{conv1, 2 * d, &wave.counts->stem_rows, wave.most_stem_rows};
    stem_product(pairs, space.stem, stream);
    done("stem products");
    look_ahead(wave, front_state_, space.stem, lookahead_weight_, lookahead_bias_, first_norm(),
               config_.norm_eps, space.x, static_cast<T*>(space.normed), space.row_segment, stream);
    save_front_state(wave, front_state_, conv1, space.stem, stream);
    done("stem state");
  }

  const float* first_norm() const { return layers_.empty() ? final_norm_ : layers_.front().norm; }

  void stem_product(const Rows<T>& pairs, float* stem, cudaStream_t stream) const {
    const int d = config_.d_model;
    if constexpr (!std::is_same_v<T, float>) {
      if (d == kRowOutputs) {
        multiply_rows<true>(pairs, conv2_,
                            RowEpilogue<T>{stem, conv2_bias_, stem_norm_, config_.norm_eps, nullptr}, choice_,
                            stream);
        return;
      }
    }
    multiply(pairs, conv2_, StoreBiasSilu<float>{stem, d, conv2_bias_}, choice_, stream);
    rms_norm(stem, stem_norm_, d, config_.norm_eps, stem, pairs.count, pairs.most, stream);
  }

  // x += w in; normed = rms(x, norm)
  void residual_product(const Rows<Narrow>& in, const Matrix<Narrow>& w, const Workspace& space,
                        const float* norm, cudaStream_t stream) const {
    const int d = config_.d_model;
    T* normed = static_cast<T*>(space.normed);
    const RowEpilogue<T> epilogue{space.x, nullptr, norm, config_.norm_eps, normed};
    if constexpr (!std::is_same_v<T, Narrow>) {
      multiply_rows_float8(in, w, epilogue, choice_, stream);
    } else {
      if constexpr (!std::is_same_v<T, float>) {
        if (d == kRowOutputs) {
          multiply_rows<false>(in, w, epilogue, choice_, stream);
          return;
        }
      }
      multiply(in, w, AddTo{space.x, d}, choice_, stream);
      rms_norm(space.x, norm, d, config_.norm_eps, normed, in.count, in.most, stream);
    }
  }

  // One block; `normed` holds the rows through the block's norm before, through the next one's after.
  template <typename Done>
  void block(const Layer& layer, const float* next_norm, const DeviceWave& wave, const Workspace& space,
             cudaStream_t stream, Done&& done) const {
    const int d = config_.d_model, e = config_.d_inner(), ff = config_.d_intermediate;
    T* normed = static_cast<T*>(space.normed);
    T* wide = static_cast<T*>(space.wide);
    T* u = static_cast<T*>(space.u);
    Narrow* y = static_cast<Narrow*>(space.y);
    Narrow* gated = static_cast<Narrow*>(space.wide);
    auto rows = [&]<typename Value>(const Value* data, int width) {
      return Rows<Value>{data, width, &wave.counts->rows, wave.most_rows};
    };
    multiply(rows(normed, d), layer.in_proj, StoreActivation<T>{wide, 2 * e, e}, choice_, stream);
    done("in_proj");
    project(layer, wave, space, stream, done);
    scan(wave, layer.shape, layer.scan, wide, space.projection, u, y, choice_.multiprocessors, stream);
    done("scan");
    residual_product(rows(y, e), layer.out_proj, space, ff > 0 ? layer.norm2 : next_norm, stream);
    done("out_proj + norm");
    if (ff == 0) return;
    multiply(rows(normed, d), layer.fc1, StoreGated<Narrow>{gated, ff}, choice_, stream);
    done("fc1 + gate");
    residual_product(rows(gated, ff), layer.fc2, space, next_norm, stream);
    done("fc2 + norm");
  }

  // u = SiLU(convolution of wide's left half); projection = x_proj u
  template <typename Done>
  void project(const Layer& layer, const DeviceWave& wave, const Workspace& space, cudaStream_t stream,
               Done&& done) const {
    const T* wide = static_cast<const T*>(space.wide);
    T* u = static_cast<T*>(space.u);
    if (fuse_convolution_ && wave.most_rows <= kMostFusedRows &&
        convolve_and_project(wave, layer.shape, space.row_segment, wide, layer.conv_weight, layer.conv_bias,
                             layer.x_proj, u, space.projection, stream)) {
      done("convolution + x_proj");
      return;
    }
    convolve(wave, layer.shape, space.row_segment, wide, layer.conv_weight, layer.conv_bias, u, stream);
    done("convolution");
    const Rows<T> rows{u, layer.shape.d_inner, &wave.counts->rows, wave.most_rows};
    multiply_narrow(rows, layer.x_proj, StoreFloat{space.projection, layer.x_proj.outputs}, stream);
    done("x_proj");
  }

  template <typename Done>
  void head(const DeviceWave& wave, const Workspace& space, const StepOutputs& out, cudaStream_t stream,
            Done&& done) const {
    const int d = config_.d_model;
    float* logits = static_cast<float*>(space.wide);
    const Rows<T> rows{static_cast<const T*>(space.normed), d, &wave.counts->rows, wave.most_rows};
    multiply(rows, head_, StoreFloat{logits, head_.outputs}, choice_, stream);
    read_tokens(wave, space.row_segment, logits, head_bias_, head_.outputs, config_.vocab_size,
                {out.tokens, out.log_probs}, stream);
    if (out.encodings != nullptr)
      write_encodings(wave, space.row_segment, space.x, final_norm_, d, config_.norm_eps, out.encodings,
                      stream);
    done("head");
  }

  ModelConfig config_;
  ProductChoice choice_;
  bool fuse_convolution_;
  DeviceMemory memory_;
  FeatureTables tables_{};
  FrontState front_state_{};
  Matrix<T> conv1_, conv2_, head_;
  const float *conv1_bias_, *conv2_bias_, *stem_norm_;
  const float *lookahead_weight_ = nullptr, *lookahead_bias_ = nullptr;
  std::vector<Layer> layers_;
  const float *final_norm_, *head_bias_;
};

}  // namespace

std::size_t Workspace::place(const PackedModel& model, const WaveLimits& limits, std::byte* base) {
  const ModelConfig& config = model.config;
  const std::size_t t = element_bytes(model), rows = limits.rows, stem_rows = limits.stem_rows;
  const std::size_t d = config.d_model, e = config.d_inner(), mels = config.features.n_mels;
  const std::size_t wide_row =
      std::max({2 * e * t, config.d_intermediate * t, model.head.outputs * sizeof(float)});
  // One row behind each: windows of the last rows reach past the regions.
  constexpr std::size_t kSlack = 8;
  std::size_t used = 0;
  auto take = [&](std::size_t bytes) {
    std::byte* at = base + used;
    used += (bytes + 255) / 256 * 256;
    return at;
  };
  features = take((4 * stem_rows + kSlack) * mels * t);
  conv1 = take((2 * stem_rows + kSlack) * d * t);
  stem = reinterpret_cast<float*>(take(stem_rows * d * sizeof(float)));
  row_segment = reinterpret_cast<std::int32_t*>(take(rows * sizeof(std::int32_t)));
  x = reinterpret_cast<float*>(take(rows * d * sizeof(float)));
  normed = take(rows * d * t);
  wide = take(rows * wide_row);
  u = take(rows * e * t);
  y = model.precision == CudaPrecision::Float8 ? take(rows * e) : u;
  projection = reinterpret_cast<float*>(take(rows * model.layers.front().x_proj.outputs * sizeof(float)));
  return used;
}

std::size_t Workspace::bytes(const PackedModel& model, const WaveLimits& limits) {
  Workspace measured;
  return measured.place(model, limits, nullptr);
}

Workspace::Workspace(const PackedModel& model, const WaveLimits& limits) : memory_(bytes(model, limits)) {
  place(model, limits, memory_.as<std::byte>());
}

std::unique_ptr<Network> make_network(const PackedModel& model, const StateLayout& layout,
                                      const CudaOptions& options) {
  switch (model.precision) {
    case CudaPrecision::Float16:
      return std::make_unique<NetworkOf<__half>>(model, layout, options);
    case CudaPrecision::BFloat16:
      return std::make_unique<NetworkOf<__nv_bfloat16>>(model, layout, options);
    case CudaPrecision::Float8:
      return std::make_unique<NetworkOf<__half, __nv_fp8_e4m3>>(model, layout, options);
    default:
      return std::make_unique<NetworkOf<float>>(model, layout, options);
  }
}

}  // namespace sidewinder::cuda
