// How a model's output is decoded: decoder.json and the language model of a model folder, and the decoders
// made of them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/decoder.h"
#include "model/ngram.h"
#include "model/tokenizer.h"
#include "model/word_model.h"

namespace sidewinder {

enum class DecoderKind { BestPath, Beam };

// decoder.json. Every key is optional; README.md lists them.
struct DecodingConfig {
  DecoderKind kind = DecoderKind::BestPath;      // "decoder": "best-path" or "beam"
  std::string lm;                                // "lm": file beside decoder.json; empty: none
  std::string words;                             // "words": likewise, the model over words
  std::string prior;                             // "prior": likewise, the tokens' counts
  BeamOptions beam;                              // "beam": settle_frames is the default profile's
  std::map<std::string, BeamOptions> stability;  // "stability": `beam` with each profile's own settings
};

// Throws ModelError: not JSON, an unknown key, a value out of range.
DecodingConfig parse_decoding_config(std::string_view json, const std::string& origin);

// What a user chose; nothing: as decoder.json says.
struct DecodingChoice {
  std::optional<DecoderKind> kind;
  std::optional<std::string> stability;  // a profile's name
};

// Immutable after construction; any thread.
class Decoding {
 public:
  // From a model folder; without a decoder.json in it, the defaults above. Throws ModelError: what
  // parse_decoding_config() and NGram throw, or a profile that decoder.json does not have. `tokenizer` must
  // outlive it.
  Decoding(const std::filesystem::path& folder, const ModelConfig& config, const Tokenizer& tokenizer,
           const DecodingChoice& choice);

  // `lm_folder` is where config.lm is.
  Decoding(const DecodingConfig& decoding, const std::filesystem::path& lm_folder, const ModelConfig& config,
           const Tokenizer& tokenizer);

  DecoderKind kind() const noexcept { return decoding_.kind; }
  const Tokenizer& tokenizer() const noexcept { return tokenizer_; }
  // Of the kind of decoder, its beam and its language models and priors: where they are equal, a decoder's
  // saved state means the same.
  std::uint64_t identity() const noexcept { return identity_; }
  bool needs_log_probs() const noexcept { return kind() == DecoderKind::Beam; }
  bool takes_hotwords() const noexcept { return kind() == DecoderKind::Beam; }

  // A decoder for one stream; must not outlive this.
  std::unique_ptr<Decoder> make() const;

 private:
  const ModelConfig config_;
  const Tokenizer& tokenizer_;
  DecodingConfig decoding_;
  std::optional<NGram> lm_;
  std::optional<WordModel> words_;
  std::vector<float> log_priors_;  // (vocab), or empty
  std::uint64_t identity_ = 0;
};

}  // namespace sidewinder
