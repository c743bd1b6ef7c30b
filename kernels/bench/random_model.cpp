#include "kernels/bench/random_model.h"

#include <cmath>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace sidewinder {
namespace {

// Tensors of float32, written as they come.
class File {
 public:
  explicit File(std::uint64_t seed) : random_(seed) {}

  template <typename Value>
  void add(const std::string& name, const std::vector<int>& shape, Value&& value) {
    std::size_t count = 1;
    std::string text;
    for (int size : shape) {
      count *= static_cast<std::size_t>(size);
      if (!text.empty()) text += ',';
      text += std::to_string(size);
    }
    std::size_t begin = 4 * data_.size();
    for (std::size_t i = 0; i < count; ++i) data_.push_back(value(i));
    header_ += header_.empty() ? '{' : ',';
    header_ += "\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + text + "],\"data_offsets\":[" +
               std::to_string(begin) + "," + std::to_string(4 * data_.size()) + "]}";
  }
  void uniform(const std::string& name, const std::vector<int>& shape, float most) {
    add(name, shape, [&](std::size_t) { return spread(-most, most); });
  }
  void constant(const std::string& name, int size, float value) {
    add(name, {size}, [&](std::size_t) { return value; });
  }
  float spread(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_); }

  void write(const std::filesystem::path& path) {
    std::string header = header_ + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::uint64_t length = header.size();
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof(length));
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    out.write(reinterpret_cast<const char*>(data_.data()), static_cast<std::streamsize>(4 * data_.size()));
    if (!out.flush()) throw std::runtime_error("random model: cannot write " + path.string());
  }

 private:
  std::mt19937_64 random_;
  std::string header_;
  std::vector<float> data_;
};

}  // namespace

void write_random_model(const std::filesystem::path& folder, const RandomModelShape& shape,
                        std::uint64_t seed) {
  std::filesystem::create_directories(folder);
  const int d = shape.d_model, e = 2 * d, n = 16, rank = shape.dt_rank, ff = shape.d_intermediate;
  std::ofstream config(folder / "config.json");
  config << R"({"model_type": "streaming-mamba-ctc", "sample_rate": 16000,
 "features": {"kind": "log_mel", "window": "hann_symmetric", "window_length": 400, "hop_length": 160,
  "fft_length": 512, "n_mels": 80, "mel_scale": "htk", "f_min": 20.0, "f_max": 7600.0, "log_floor": 1e-06,
  "center": false},
 "stem": {"kernel": 3, "stride": 2, "lookahead": 8}, "frame_hop": 640, "d_model": )"
         << d << ", \"n_layer\": " << shape.n_layer << ", \"d_intermediate\": " << ff
         << ", \"vocab_size\": " << shape.vocab_size << R"(, "blank": 0, "norm_eps": 1e-05,
 "ssm_cfg": {"layer": "Mamba1", "d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": )"
         << rank << "}}\n";
  if (!config.flush()) throw std::runtime_error("random model: cannot write " + folder.string());
  std::ofstream tokens(folder / "tokens.txt");
  tokens << "<blank> 0\n";
  for (int i = 1; i < shape.vocab_size; ++i) tokens << "\xe2\x96\x81W" << i << " " << i << "\n";
  if (!tokens.flush()) throw std::runtime_error("random model: cannot write " + folder.string());

  File file(seed);
  auto fan_in = [](int inputs) { return 1.7f / std::sqrt(static_cast<float>(inputs)); };
  file.constant("features.mean", 80, -8.0f);
  file.constant("features.inv_std", 80, 0.25f);
  file.uniform("stem.conv1.weight", {d, 80, 3}, fan_in(240));
  file.uniform("stem.conv1.bias", {d}, 0.1f);
  file.uniform("stem.conv2.weight", {d, d, 3}, fan_in(3 * d));
  file.uniform("stem.conv2.bias", {d}, 0.1f);
  file.constant("stem.norm.weight", d, 1.0f);
  file.uniform("stem.lookahead.weight", {d, 1, 9}, 0.3f);
  file.uniform("stem.lookahead.bias", {d}, 0.1f);
  for (int i = 0; i < shape.n_layer; ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i) + ".", mixer = layer + "mixer.";
    file.constant(layer + "norm.weight", d, 1.0f);
    file.uniform(mixer + "in_proj.weight", {2 * e, d}, fan_in(d));
    file.uniform(mixer + "conv1d.weight", {e, 1, 4}, 0.5f);
    file.uniform(mixer + "conv1d.bias", {e}, 0.1f);
    file.uniform(mixer + "x_proj.weight", {rank + 2 * n, e}, fan_in(e));
    file.uniform(mixer + "dt_proj.weight", {e, rank}, 1.0f / std::sqrt(static_cast<float>(rank)));
    // dt from 0.001 to 0.1 before the input has its say: the published initialisation.
    file.add(mixer + "dt_proj.bias", {e}, [&](std::size_t) {
      const float dt = std::exp(file.spread(std::log(0.001f), std::log(0.1f)));
      return std::log(std::expm1(dt));
    });
    file.add(mixer + "A_log", {e, n},
             [&](std::size_t at) { return std::log(static_cast<float>(at % 16 + 1)); });
    file.constant(mixer + "D", e, 1.0f);
    file.uniform(mixer + "out_proj.weight", {d, e}, fan_in(e));
    if (ff == 0) continue;
    file.constant(layer + "norm2.weight", d, 1.0f);
    file.uniform(layer + "mlp.fc1.weight", {2 * ff, d}, fan_in(d));
    file.uniform(layer + "mlp.fc2.weight", {d, ff}, fan_in(ff));
  }
  file.constant("backbone.norm_f.weight", d, 1.0f);
  file.uniform("ctc_head.weight", {shape.vocab_size, d}, fan_in(d));
  file.uniform("ctc_head.bias", {shape.vocab_size}, 0.1f);
  file.write(folder / "model.safetensors");
}

}  // namespace sidewinder
