#include "model/word_builder.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace sidewinder {

static_assert(std::is_trivially_copyable_v<WordBuilder::State>);

WordBuilder::WordBuilder(const ModelConfig& config, const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      hop_(config.frame_hop()),
      // A frame stands for the hop in the middle of the samples it sees.
      offset_((config.first_frame_samples() - config.frame_hop()) / 2) {}

void WordBuilder::take(const HeardToken& token, std::vector<Word>& settled) {
  const Tokenizer::Piece& piece = tokenizer_.piece(token.id);
  if (piece.starts_word || word_.bytes + piece.text.size() > kMostWordBytes) close(settled);
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

void WordBuilder::close(std::vector<Word>& settled) {
  if (word_.bytes > 0)
    settled.push_back({std::string(text()), begin(), frame_begin(word_.last_frame + 1),
                       static_cast<float>(std::exp(word_.log_probability / word_.tokens)), continues()});
  word_.tokens = 0;
  word_.bytes = 0;
  word_.log_probability = 0;
  word_.continues = 0;
}

void WordBuilder::finish(std::vector<Word>& settled) {
  if (is_open()) word_.cut = 1;
  close(settled);
}

bool WordBuilder::would_continue(std::int32_t token) const noexcept {
  return word_.tokens == 0 && word_.cut != 0 && !tokenizer_.piece(token).starts_word;
}

}  // namespace sidewinder
