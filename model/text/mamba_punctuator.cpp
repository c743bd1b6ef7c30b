#include "model/text/mamba_punctuator.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "model/cpu/encoder.h"
#include "model/error.h"
#include "model/weights.h"

namespace sidewinder {
namespace {

constexpr int kTileRows = 48;  // pieces in one pass over the weights
constexpr int kOutputs = kCasings + kMarks;
constexpr std::int32_t kPause = 0, kUnknown = 1;  // ids, as model/training/punctuation/pieces.py has them

ModelConfig load_punctuation_config(const std::filesystem::path& file) {
  ModelConfig config = load_config(file);
  if (config.kind != ModelKind::Punctuation)
    throw ModelError(
        file.string() +
        ": \"model_type\" must be \"streaming-mamba-punctuation\"; this is another kind of model");
  return config;
}

}  // namespace

// The weights, and one tile's working memory.
struct MambaPunctuator::Network {
  Network(const ModelConfig& config, const StateLayout& layout, const Weights& weights)
      : embeddings(weights.tensor("backbone.embeddings.weight").to_floats()),
        encoder(config, weights, layout),
        head(weights.tensor("head.weight")),
        head_bias(weights.tensor("head.bias").to_floats()),
        scratch(config, kTileRows),
        x(static_cast<std::size_t>(kTileRows) * config.d_model),
        normed(x.size()),
        logits(static_cast<std::size_t>(kTileRows) * kOutputs) {}

  std::vector<float> embeddings;  // (vocab, d_model)
  cpu::Encoder encoder;
  cpu::PackedMatrix head;        // (kOutputs, d_model)
  std::vector<float> head_bias;  // (kOutputs)
  cpu::Encoder::Scratch scratch;
  std::vector<float> x, normed;  // (rows, d_model)
  std::vector<float> logits;     // (rows, kOutputs)
};

MambaPunctuator::MambaPunctuator(const std::filesystem::path& folder)
    : config_(load_punctuation_config(folder / "config.json")),
      layout_(config_),
      tokenizer_(folder / "tokens.txt", config_.vocab_size),
      network_(std::make_unique<Network>(config_, layout_, Weights(config_, folder / "model.safetensors"))) {
  events_.reserve(kTileRows);
  for (auto [id, name] : {std::pair{kPause, "<pause>"}, {kUnknown, "<unk>"}})
    if (id >= tokenizer_.size() || tokenizer_.piece(id).text != name)
      throw ModelError((folder / "tokens.txt").string() + ": piece " + std::to_string(id) + " must be " +
                       name + "; export the model again");
  for (int id = 0; id < tokenizer_.size(); ++id) {
    const Tokenizer::Piece& piece = tokenizer_.piece(id);
    if (piece.is_special || piece.text.empty()) continue;
    (piece.starts_word ? starts_ : inner_).emplace(piece.text, id);
    longest_ = std::max(longest_, piece.text.size());
  }
}

MambaPunctuator::~MambaPunctuator() = default;

std::vector<std::int32_t> MambaPunctuator::pieces_of(std::string_view word) const {
  std::vector<std::int32_t> pieces;
  for (std::size_t at = 0; at < word.size();) {
    const auto& table = pieces.empty() ? starts_ : inner_;
    std::size_t length = std::min(longest_, word.size() - at);
    auto found = table.end();
    while (length > 0 && (found = table.find(word.substr(at, length))) == table.end()) --length;
    pieces.push_back(length > 0 ? found->second : kUnknown);
    at += std::max<std::size_t>(length, 1);
  }
  if (pieces.empty()) pieces.push_back(kUnknown);
  return pieces;
}

void MambaPunctuator::hear(PunctuatorState& state, std::span<const std::string_view> words,
                           std::vector<WordStyle>& decided) {
  for (std::string_view word : words) {
    for (std::int32_t piece : pieces_of(word)) add(state, piece, decided);
    end_event(true);
  }
  run(state, decided);
}

void MambaPunctuator::pause(PunctuatorState& state, std::vector<WordStyle>& decided) {
  for (int i = 0; i < config_.words_ahead; ++i) {
    add(state, kPause, decided);
    end_event(false);
  }
  run(state, decided);
}

bool MambaPunctuator::fits(const PunctuatorState& state, std::size_t waiting) const noexcept {
  const std::uint32_t ahead = (std::uint32_t{1} << config_.words_ahead) - 1;
  return state.blocks.size() == layout_.size &&
         waiting == static_cast<std::size_t>(std::popcount(state.history & ahead)) &&
         std::all_of(state.blocks.begin(), state.blocks.end(),
                     [](float value) { return std::isfinite(value); });
}

void MambaPunctuator::add(PunctuatorState& state, std::int32_t piece, std::vector<WordStyle>& decided) {
  if (rows_ == kTileRows) run(state, decided);
  const std::ptrdiff_t d = config_.d_model;
  std::copy_n(network_->embeddings.data() + piece * d, d, network_->x.data() + rows_ * d);
  ++rows_;
}

void MambaPunctuator::run(PunctuatorState& state, std::vector<WordStyle>& decided) {
  if (rows_ == 0) return;
  Network& n = *network_;
  const cpu::Segment segment{0, rows_, state.blocks.data()};
  for (int layer = 0; layer < n.encoder.layers(); ++layer)
    n.encoder.forward_layer(layer, n.x.data(), rows_, {&segment, 1}, n.scratch);
  n.encoder.normalise(n.x.data(), rows_, n.normed.data());
  n.head.multiply(n.normed.data(), config_.d_model, rows_, n.logits.data(), kOutputs);
  for (const Event& event : events_) {
    state.history = state.history << 1 | static_cast<std::uint32_t>(event.is_word);
    if ((state.history >> config_.words_ahead & 1) == 0) continue;
    float* logits = n.logits.data() + static_cast<std::ptrdiff_t>(event.row) * kOutputs;
    for (int i = 0; i < kOutputs; ++i) logits[i] += n.head_bias[static_cast<std::size_t>(i)];
    const auto* casing = std::max_element(logits, logits + kCasings);
    const auto* mark = std::max_element(logits + kCasings, logits + kOutputs);
    decided.push_back({static_cast<Casing>(casing - logits), static_cast<Mark>(mark - logits - kCasings)});
  }
  rows_ = 0;
  events_.clear();
}

}  // namespace sidewinder
