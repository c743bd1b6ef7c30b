#include "model/decoding.h"

#include <cmath>
#include <numeric>
#include <set>

#include <xxhash.h>

#include "model/error.h"
#include "model/json_fields.h"

namespace sidewinder {
namespace {

constexpr char kFile[] = "decoder.json";

void refuse_unknown(const Fields& fields, const std::set<std::string>& known) {
  for (const auto& [key, value] : fields.object().items())
    if (!known.contains(key)) fields.fail(key, "is unknown");
}

// What a profile of stability may say too.
void read_patience(const Fields& fields, BeamOptions& beam) {
  beam.pause_frames = fields.integer_or("pause_frames", beam.pause_frames, 1, 1000);
  beam.settle_frames =
      fields.integer_or("settle_frames", beam.settle_frames, 1, BeamOptions::kMostSettleFrames);
}

BeamOptions read_beam(const Fields& fields) {
  refuse_unknown(
      fields, {"beam", "frame_tokens", "token_threshold", "beam_threshold", "lm_weight", "prior_weight",
               "word_share", "token_bonus", "word_bonus", "hotword_weight", "pause_frames", "settle_frames"});
  BeamOptions beam;
  beam.beam = fields.integer_or("beam", beam.beam, 1, BeamOptions::kMostBeam);
  beam.frame_tokens = fields.integer_or("frame_tokens", beam.frame_tokens, 1, BeamOptions::kMostFrameTokens);
  beam.token_threshold = fields.real_or("token_threshold", beam.token_threshold, 0, 100);
  beam.beam_threshold = fields.real_or("beam_threshold", beam.beam_threshold, 0, 100);
  beam.lm_weight = fields.real_or("lm_weight", beam.lm_weight, 0, 10);
  beam.prior_weight = fields.real_or("prior_weight", beam.prior_weight, 0, 10);
  beam.word_share = fields.real_or("word_share", beam.word_share, 0, 0.99);
  beam.token_bonus = fields.real_or("token_bonus", beam.token_bonus, -10, 10);
  beam.word_bonus = fields.real_or("word_bonus", beam.word_bonus, -10, 10);
  beam.hotword_weight = fields.real_or("hotword_weight", beam.hotword_weight, 0, 10);
  read_patience(fields, beam);
  return beam;
}

// {"counts": one for each token}, of the text that the encoder learnt (model/training/lm/prior.py); each
// counts once more, so that none is impossible.
std::vector<float> read_log_priors(const std::filesystem::path& file, int vocab_size) {
  const nlohmann::json document = parse_json(read_json_file(file), file.string());
  const Fields top(document, file.string(), "");
  refuse_unknown(top, {"counts"});
  const std::vector<double> counts = top.reals("counts", static_cast<std::size_t>(vocab_size), 0, 1e12);
  const double all = std::accumulate(counts.begin(), counts.end(), static_cast<double>(counts.size()));
  std::vector<float> logs;
  for (const double count : counts) logs.push_back(static_cast<float>(std::log((count + 1) / all)));
  return logs;
}

DecodingConfig chosen(const std::filesystem::path& folder, const DecodingChoice& choice) {
  DecodingConfig decoding;
  const std::filesystem::path file = folder / kFile;
  if (std::filesystem::exists(file)) decoding = parse_decoding_config(read_json_file(file), file.string());
  if (choice.kind) decoding.kind = *choice.kind;
  if (choice.stability) {
    auto found = decoding.stability.find(*choice.stability);
    if (found == decoding.stability.end()) {
      std::string names;
      for (const auto& [name, beam] : decoding.stability) names += (names.empty() ? "" : ", ") + name;
      throw ModelError(file.string() + ": has no stability profile \"" + *choice.stability + "\"; " +
                       (names.empty() ? "it has none, so leave the choice out" : "choose one of " + names));
    }
    decoding.beam = found->second;
  }
  return decoding;
}

}  // namespace

DecodingConfig parse_decoding_config(std::string_view text, const std::string& origin) {
  const nlohmann::json document = parse_json(text, origin);
  const Fields top(document, origin, "");
  refuse_unknown(top, {"decoder", "lm", "words", "prior", "beam", "stability"});
  DecodingConfig decoding;
  if (top.has("decoder")) {
    const std::string kind = top.text("decoder");
    if (kind != "best-path" && kind != "beam") top.fail("decoder", "must be \"best-path\" or \"beam\"");
    decoding.kind = kind == "beam" ? DecoderKind::Beam : DecoderKind::BestPath;
  }
  if (top.has("lm")) decoding.lm = top.text("lm");
  if (top.has("words")) {
    if (decoding.lm.empty()) top.fail("words", "corrects what \"lm\" says of a word, which is not there");
    decoding.words = top.text("words");
  }
  if (top.has("prior")) decoding.prior = top.text("prior");
  if (top.has("beam")) decoding.beam = read_beam(top.child("beam"));
  if (top.has("stability")) {
    const Fields profiles = top.child("stability");
    for (const auto& [name, value] : profiles.object().items()) {
      const Fields profile = profiles.child(name.c_str());
      refuse_unknown(profile, {"settle_frames", "pause_frames"});
      BeamOptions& beam = decoding.stability[name] = decoding.beam;
      read_patience(profile, beam);
    }
  }
  return decoding;
}

Decoding::Decoding(const std::filesystem::path& folder, const ModelConfig& config, const Tokenizer& tokenizer,
                   const DecodingChoice& choice)
    : Decoding(chosen(folder, choice), folder, config, tokenizer) {}

Decoding::Decoding(const DecodingConfig& decoding, const std::filesystem::path& lm_folder,
                   const ModelConfig& config, const Tokenizer& tokenizer)
    : config_(config), tokenizer_(tokenizer), decoding_(decoding) {
  if (decoding_.kind == DecoderKind::Beam && !decoding_.lm.empty())
    lm_.emplace(lm_folder / decoding_.lm, config_.vocab_size);
  if (lm_ && !decoding_.words.empty()) words_.emplace(lm_folder / decoding_.words);
  if (kind() == DecoderKind::Beam && !decoding_.prior.empty())
    log_priors_ = read_log_priors(lm_folder / decoding_.prior, config_.vocab_size);
  const std::int64_t shape[] = {static_cast<std::int64_t>(kind()),
                                kind() == DecoderKind::Beam ? decoding_.beam.beam : 0};
  identity_ = XXH3_64bits(shape, sizeof(shape));
  if (lm_) identity_ = XXH3_64bits_withSeed(lm_->bytes().data(), lm_->bytes().size(), identity_);
  identity_ = XXH3_64bits_withSeed(log_priors_.data(), log_priors_.size() * sizeof(float), identity_);
  if (words_) identity_ = XXH3_64bits_withSeed(words_->bytes().data(), words_->bytes().size(), identity_);
}

std::unique_ptr<Decoder> Decoding::make() const {
  if (decoding_.kind == DecoderKind::BestPath) return make_best_path_decoder(config_, tokenizer_);
  return make_beam_search_decoder(
      config_, tokenizer_,
      {.pieces = lm_ ? &*lm_ : nullptr, .words = words_ ? &*words_ : nullptr, .log_priors = log_priors_},
      decoding_.beam);
}

}  // namespace sidewinder
