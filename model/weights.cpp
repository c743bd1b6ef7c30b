#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <openssl/evp.h>

#include "model/error.h"
#include "model/text/word_style.h"

namespace sidewinder {
namespace {

constexpr char kWayOut[] = "; export the model again, config.json and model.safetensors together";

using Shape = std::vector<std::int64_t>;
using Shapes = std::map<std::string, Shape>;

// Every tensor the config calls for. Shapes as in state-spaces/mamba: (rows, columns), products are x W^T.
Shapes expected_shapes(const ModelConfig& config) {
  Shapes shapes;
  std::int64_t d = config.d_model, e = config.d_inner(), ff = config.d_intermediate;
  std::int64_t n = config.ssm.d_state, rank = config.ssm.dt_rank;
  if (config.kind == ModelKind::StreamingCtc) {
    std::int64_t mels = config.features.n_mels, kernel = config.stem.kernel, vocab = config.vocab_size;
    shapes = {{"features.mean", {mels}},
              {"features.inv_std", {mels}},
              {"stem.conv1.weight", {d, mels, kernel}},
              {"stem.conv1.bias", {d}},
              {"stem.conv2.weight", {d, d, kernel}},
              {"stem.conv2.bias", {d}},
              {"stem.norm.weight", {d}},
              {"ctc_head.weight", {vocab, d}},
              {"ctc_head.bias", {vocab}}};
    if (config.stem.lookahead > 0) {
      shapes["stem.lookahead.weight"] = {d, 1, config.stem.lookahead + 1};
      shapes["stem.lookahead.bias"] = {d};
    }
  }
  if (config.kind == ModelKind::Punctuation) {
    shapes["backbone.embeddings.weight"] = {config.vocab_size, d};
    shapes["head.weight"] = {kCasings + kMarks, d};
    shapes["head.bias"] = {kCasings + kMarks};
  }
  for (int i = 0; i < config.n_layer; ++i) {
    std::string layer = "backbone.layers." + std::to_string(i) + ".";
    std::string mixer = layer + "mixer.";
    shapes[layer + "norm.weight"] = {d};
    shapes[mixer + "in_proj.weight"] = {2 * e, d};
    shapes[mixer + "conv1d.weight"] = {e, 1, config.ssm.d_conv};
    shapes[mixer + "conv1d.bias"] = {e};
    shapes[mixer + "x_proj.weight"] = {rank + 2 * n, e};
    shapes[mixer + "dt_proj.weight"] = {e, rank};
    shapes[mixer + "dt_proj.bias"] = {e};
    shapes[mixer + "A_log"] = {e, n};
    shapes[mixer + "D"] = {e};
    shapes[mixer + "out_proj.weight"] = {d, e};
    if (ff > 0) {
      shapes[layer + "norm2.weight"] = {d};
      shapes[layer + "mlp.fc1.weight"] = {2 * ff, d};
      shapes[layer + "mlp.fc2.weight"] = {d, ff};
    }
  }
  shapes["backbone.norm_f.weight"] = {d};
  return shapes;
}

// Hugging Face's bare MambaModel leaves out "backbone."; its token tables are no part of the encoder.
std::string canonical_name(const ModelConfig& config, const std::string& name) {
  if (config.kind != ModelKind::Backbone) return name;
  bool bare = name.starts_with("layers.") || name.starts_with("norm_f.") || name.starts_with("embeddings.");
  return bare ? "backbone." + name : name;
}

bool is_token_table(const std::string& name) {
  return name.starts_with("backbone.embeddings.") || name.starts_with("lm_head.");
}

void check_finite(const std::string& origin, const std::string& name, const TensorView& view) {
  std::vector<float> values = view.to_floats();
  auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end())
    throw ModelError(origin + ": " + tensor_text(name) + " holds a NaN or an infinity at element " +
                     std::to_string(bad - values.begin()) + "; export the model again");
}

std::map<std::string, TensorView> checked_tensors(const ModelConfig& config, const MappedFile& file,
                                                  const std::string& origin) {
  std::map<std::string, TensorView> tensors;
  for (auto& [name, view] : parse_safetensors(file.bytes(), origin)) {
    std::string canonical = canonical_name(config, name);
    if (config.kind == ModelKind::Backbone && is_token_table(canonical)) continue;
    if (!tensors.emplace(canonical, std::move(view)).second)
      throw ModelError(origin + ": " + tensor_text(canonical) + " is there with and without \"backbone.\"" +
                       kWayOut);
  }
  Shapes shapes = expected_shapes(config);
  for (const auto& [name, shape] : shapes) {
    auto found = tensors.find(name);
    if (found == tensors.end())
      throw ModelError(origin + ": " + tensor_text(name) + " is missing, though config.json calls for it" +
                       kWayOut);
    const TensorView& view = found->second;
    if (view.shape != shape)
      throw ModelError(origin + ": " + tensor_text(name) + " has shape " + shape_text(view.shape) +
                       ", config.json calls for " + shape_text(shape) + kWayOut);
    if (view.dtype != DType::F32 && view.dtype != DType::F16 && view.dtype != DType::BF16)
      throw ModelError(origin + ": " + tensor_text(name) + " is of type " + dtype_name(view.dtype) +
                       ", but weights must be F32, F16 or BF16" + kWayOut);
    check_finite(origin, name, view);
  }
  for (const auto& [name, view] : tensors)
    if (!shapes.contains(name))
      throw ModelError(origin + ": " + tensor_text(name) + " is not one that config.json calls for" +
                       kWayOut);
  return tensors;
}

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }

  void update(std::span<const std::byte> bytes) {
    EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
  }

  ModelHash finish() {
    ModelHash hash;
    EVP_DigestFinal_ex(context_.get(), hash.data(), nullptr);
    return hash;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

ModelHash hash_folder(const std::filesystem::path& folder) {
  Sha256 sha;
  for (const char* name : {"config.json", "model.safetensors", "tokens.txt"}) {
    MappedFile file(folder / name);
    std::uint64_t size = file.bytes().size();
    sha.update(std::as_bytes(std::span(&size, 1)));
    sha.update(file.bytes());
  }
  return sha.finish();
}

}  // namespace

std::string hex(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Weights::Weights(const ModelConfig& config, const std::filesystem::path& file)
    : file_(file), tensors_(checked_tensors(config, file_, file.string())) {}

Model load_model(const std::filesystem::path& folder) {
  ModelConfig config = load_config(folder / "config.json");
  if (config.kind != ModelKind::StreamingCtc)
    throw ModelError((folder / "config.json").string() +
                     ": \"model_type\" must be \"streaming-mamba-ctc\" to read speech; this is " +
                     (config.kind == ModelKind::Backbone ? "a bare backbone" : "a model for punctuation"));
  return {folder, config, Weights(config, folder / "model.safetensors"), hash_folder(folder)};
}

}  // namespace sidewinder
