// A model as the daemon runs it: all that one model folder brings, and the readout of each slot.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "daemon/engine_choice.h"
#include "daemon/live/config.h"
#include "daemon/live/readout.h"
#include "daemon/live/stream_capsule.h"
#include "model/decoding.h"
#include "model/engine.h"
#include "model/error.h"
#include "model/hotwords.h"
#include "model/text/readable_text.h"
#include "model/tokenizer.h"
#include "model/weights.h"

namespace sidewinder::live {

// The folder is sound, but not for these settings. what() names the setting and what to do.
struct UnsuitableModel : ModelError {
  using ModelError::ModelError;
};

// What results say about their model.
struct ModelIdentity {
  std::string hash;  // SHA-256, hexadecimal
  int rate = 0;      // Hz
  int hop = 0;       // samples a frame
  int width = 0;     // floats an encoder frame
  std::filesystem::path folder{};
};

// The engine's options that the scheduler needs; log_probs: the decoders do.
EngineOptions scheduler_engine_options(const Config& config, const ModelConfig& model, bool log_probs);

// The streams that the scheduler puts into one step of that engine.
std::size_t most_batch(const Engine& engine);

// Thread rule: any thread may read what is const; the engine and the readouts belong to the scheduler once it
// runs, the punctuator to the publisher. A stream's slot is the same in every model.
struct LoadedModel {
  // `model` is not needed afterwards. All memory is allocated here, the capacity measured, unless `stop` is
  // requested meanwhile. Throws UnsuitableModel, ModelError, HotwordError, EngineUnavailable,
  // std::invalid_argument.
  LoadedModel(const Config& settings, const Model& model, const std::stop_token& stop = {});

  // The same phrases with this model's tokenizer; those that it can't spell, and all of them where the
  // decoder takes none, are appended to `left_out`. Null: none is left.
  std::unique_ptr<const Hotwords> respelled(const Hotwords& hotwords,
                                            std::vector<std::string>& left_out) const;

  Engine& engine() const noexcept { return *chosen.engine; }
  const Hotwords* configured_hotwords() const noexcept { return hotwords ? &*hotwords : nullptr; }
  CapsuleHost capsule_host() const { return {hash, config, decoding}; }

  const ModelConfig config;
  const ModelHash hash;
  const ModelIdentity identity;
  const Tokenizer tokenizer;
  const Decoding decoding;
  const std::optional<Hotwords> hotwords;  // for streams that bring none
  const TextOptions text;
  const std::unique_ptr<Punctuator> punctuator;  // null: the style needs none
  ChosenEngine chosen;
  std::vector<Readout> readouts;        // by slot
  const std::size_t capacity;           // live streams that the engine carries; 0: not measured
  std::atomic<std::size_t> streams{0};  // that are on it; the table and the scheduler count
};

}  // namespace sidewinder::live
