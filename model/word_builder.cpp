#include "model/word_builder.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace sidewinder {

namespace {

// WordFit's map; the identity where nothing was fitted.
float calibrated(double probability, const WordFit& fit) {
  if (fit.confidence_scale == 1 && fit.confidence_offset == 0) return static_cast<float>(probability);
  constexpr double kLeast = 1e-4;  // as the fit had it
  const double p = std::clamp(probability, kLeast, 1 - kLeast);
  const double logit = std::log(p / (1 - p));
  return static_cast<float>(1 / (1 + std::exp(-(fit.confidence_scale * logit + fit.confidence_offset))));
}

}  // namespace

static_assert(std::is_trivially_copyable_v<WordBuilder::State>);

WordBuilder::WordBuilder(const ModelConfig& config, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      hop_(config.frame_hop()),
      // A frame stands for the hop in the middle of the samples it sees.
      offset_((config.first_frame_samples() - config.frame_hop()) / 2),
      fit_(config.words) {}

void WordBuilder::take(const HeardToken& token, std::vector<Word>& settled) {
  const Tokenizer::Piece& piece = tokenizer_.piece(token.id);
  if (piece.starts_word || word_.bytes + piece.text.size() > kMostWordBytes)
    close(token.first_frame, settled);
  if (word_.tokens == 0) {
    word_.first_frame = token.first_frame;
    word_.continues = would_continue(token.id);
    word_.cut = 0;
  }
  std::copy(piece.text.begin(), piece.text.end(), word_.text.begin() + word_.bytes);
  word_.bytes += static_cast<std::int32_t>(piece.text.size());
  word_.tokens += 1;
  word_.last_frame = token.last_frame;
  word_.log_probability += token.score;
  word_.token_score = token.score;
}

void WordBuilder::repeat(std::int64_t frame, float score) noexcept {
  word_.log_probability += std::max(0.0f, score - word_.token_score);
  word_.token_score = std::max(word_.token_score, score);
  word_.last_frame = frame;
}

void WordBuilder::close(std::int64_t next, std::vector<Word>& settled) {
  if (word_.bytes > 0) {
    const std::int64_t fitted = (word_.last_frame + 1) * hop_ + offset_ + fit_.end_shift;
    const std::int64_t end = std::max(begin(), std::min(fitted, begin_of(next)));
    const double probability = std::exp(word_.log_probability / word_.tokens);
    settled.push_back({std::string(text()), begin(), end, calibrated(probability, fit_), continues()});
    word_.previous_end = end;
  }
  word_.tokens = 0;
  word_.bytes = 0;
  word_.log_probability = 0;
  word_.continues = 0;
}

void WordBuilder::finish(std::vector<Word>& settled) {
  if (is_open()) word_.cut = 1;
  close(kUnknown, settled);
}

bool WordBuilder::valid(const State& state) const noexcept {
  const auto is_frame = [](std::int64_t frame) { return frame >= 0 && frame < kMostFrames; };
  return is_frame(state.first_frame) && is_frame(state.last_frame) && state.previous_end > -kMostFrames &&
         state.previous_end < kMostFrames * hop_ && std::isfinite(state.log_probability) &&
         std::isfinite(state.token_score) && state.tokens >= 0 && state.bytes >= 0 &&
         state.bytes <= static_cast<std::int32_t>(kMostWordBytes);
}

bool WordBuilder::would_continue(std::int32_t token) const noexcept {
  return word_.tokens == 0 && word_.cut != 0 && !tokenizer_.piece(token).starts_word;
}

}  // namespace sidewinder
