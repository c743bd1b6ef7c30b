// A model folder, loaded: config.json, model.safetensors (memory-mapped, every shape checked) and its
// identity.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/safetensors.h"

namespace sidewinder {

using ModelHash = std::array<std::uint8_t, 32>;  // SHA-256

std::string hex(std::span<const std::uint8_t> bytes);

// The tensors of one model, by name; const after construction, so any thread may read them.
class Weights {
 public:
  // Maps the folder's model.safetensors and checks it against the config: every tensor the config calls for
  // is there with its shape, nothing else is, every value is finite. Throws ModelError.
  Weights(const ModelConfig& config, const std::filesystem::path& file);

  // The tensor of that name, its shape already checked. Names are those of state-spaces/mamba
  // ("backbone.layers.0.mixer.in_proj.weight"), also where the file left out "backbone.".
  const TensorView& tensor(const std::string& name) const { return tensors_.at(name); }
  bool has(const std::string& name) const { return tensors_.contains(name); }

  // After an engine has packed its own copy the mapped pages need not stay resident.
  void release_pages() const noexcept { file_.release_pages(); }

 private:
  MappedFile file_;
  std::map<std::string, TensorView> tensors_;
};

// Everything that a model folder holds but the tokenizer.
struct Model {
  std::filesystem::path folder;
  ModelConfig config;
  Weights weights;
  ModelHash hash;  // SHA-256 over config.json, model.safetensors and tokens.txt, each preceded by its length
};

// Throws ModelError.
Model load_model(const std::filesystem::path& folder);

}  // namespace sidewinder
