#include <cstring>

#include "model/decoder.h"

namespace sidewinder {
namespace {

class BestPathDecoder final : public Decoder {
 public:
  BestPathDecoder(const ModelConfig& config, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), blank_(config.blank), previous_(config.blank), words_(config, tokenizer) {}

  void advance(const StreamOutput& frames, std::vector<Word>& settled) override {
    for (std::uint32_t i = 0; i < frames.frames; ++i)
      take(frames.tokens[i], frames.scores[i], frames.first_frame + i, settled);
  }

  void finish(std::vector<Word>& settled) override { words_.finish(settled); }

  Tentative tentative() const noexcept override {
    return {words_.text(), words_.begin(), words_.continues()};
  }

  std::size_t state_bytes() const noexcept override { return sizeof(previous_) + sizeof(WordBuilder::State); }
  void save(std::span<std::byte> into) const noexcept override {
    std::memcpy(into.data(), &previous_, sizeof(previous_));
    std::memcpy(into.data() + sizeof(previous_), &words_.state(), sizeof(WordBuilder::State));
  }
  void load(std::span<const std::byte> state) noexcept override {
    WordBuilder::State words;
    std::memcpy(&previous_, state.data(), sizeof(previous_));
    std::memcpy(&words, state.data() + sizeof(previous_), sizeof(words));
    words_.set_state(words);
  }

  bool valid(std::span<const std::byte> state) const noexcept override {
    if (state.size() != state_bytes()) return false;
    std::int64_t previous = 0;
    WordBuilder::State words;
    std::memcpy(&previous, state.data(), sizeof(previous));
    std::memcpy(&words, state.data() + sizeof(previous), sizeof(words));
    return previous >= 0 && previous < tokenizer_.size() && words_.valid(words);
  }

 private:
  void take(std::int32_t token, float score, std::int64_t frame, std::vector<Word>& settled) {
    const bool repeated = token == previous_;
    previous_ = token;
    if (token == blank_ || tokenizer_.piece(token).is_special) return;
    // After finish() a repeat of what was settled has no word to belong to.
    if (!repeated)
      words_.take({.first_frame = frame, .last_frame = frame, .score = score, .id = token}, settled);
    else if (words_.is_open())
      words_.repeat(frame, score);
  }

  const Tokenizer& tokenizer_;
  std::int32_t blank_;
  std::int64_t previous_;  // token of the frame before, blank at the start
  WordBuilder words_;
};

}  // namespace

std::unique_ptr<Decoder> make_best_path_decoder(const ModelConfig& config, const Tokenizer& tokenizer) {
  return std::make_unique<BestPathDecoder>(config, tokenizer);
}

}  // namespace sidewinder
