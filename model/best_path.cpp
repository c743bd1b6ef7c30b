#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "model/decoder.h"

namespace sidewinder {
namespace {

// A word longer than this is cut here and goes on as the next one; real ones end long before.
constexpr std::size_t kMostWordBytes = 256;

// The word being built; plain bytes, so that it can go into a capsule.
struct OpenWord {
  std::int64_t first_frame = 0;
  std::int64_t last_frame = 0;
  double log_probability = 0;  // sum over the finished tokens
  float token_score = 0;       // best frame of the token being repeated
  std::int32_t tokens = 0;     // 0: no word is open
  std::int32_t previous = 0;   // token of the frame before, blank at the start
  std::int32_t bytes = 0;
  std::array<char, kMostWordBytes> text{};
};
static_assert(std::is_trivially_copyable_v<OpenWord>);

class BestPathDecoder final : public Decoder {
 public:
  BestPathDecoder(const ModelConfig& config, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        blank_(config.blank),
        hop_(config.frame_hop()),
        // A frame stands for the hop in the middle of the samples it sees.
        offset_((config.first_frame_samples() - config.frame_hop()) / 2) {
    word_.previous = blank_;
  }

  void advance(const StreamOutput& frames, std::vector<Word>& settled) override {
    for (std::uint32_t i = 0; i < frames.frames; ++i)
      take(frames.tokens[i], frames.scores[i], frames.first_frame + i, settled);
  }

  void finish(std::vector<Word>& settled) override { close(settled); }

  std::string_view tentative() const noexcept override {
    return {word_.text.data(), static_cast<std::size_t>(word_.bytes)};
  }

  std::size_t state_bytes() const noexcept override { return sizeof(word_); }
  void save(std::span<std::byte> into) const noexcept override {
    std::memcpy(into.data(), &word_, sizeof(word_));
  }
  void load(std::span<const std::byte> state) noexcept override {
    std::memcpy(&word_, state.data(), sizeof(word_));
  }

 private:
  void take(std::int32_t token, float score, std::int64_t frame, std::vector<Word>& settled) {
    const bool repeated = token == word_.previous;
    word_.previous = token;
    const Tokenizer::Piece& piece = tokenizer_.piece(token);
    if (token == blank_ || piece.is_special) return;
    if (repeated) {
      word_.log_probability += std::max(0.0f, score - word_.token_score);
      word_.token_score = std::max(word_.token_score, score);
      word_.last_frame = frame;
      return;
    }
    if (piece.starts_word || word_.bytes + piece.text.size() > kMostWordBytes) close(settled);
    if (word_.tokens == 0) word_.first_frame = frame;
    std::copy(piece.text.begin(), piece.text.end(), word_.text.begin() + word_.bytes);
    word_.bytes += static_cast<std::int32_t>(piece.text.size());
    word_.tokens += 1;
    word_.last_frame = frame;
    word_.log_probability += score;
    word_.token_score = score;
  }

  void close(std::vector<Word>& settled) {
    if (word_.bytes > 0)
      settled.push_back({std::string(tentative()), word_.first_frame * hop_ + offset_,
                         (word_.last_frame + 1) * hop_ + offset_,
                         static_cast<float>(std::exp(word_.log_probability / word_.tokens))});
    word_.tokens = 0;
    word_.bytes = 0;
    word_.log_probability = 0;
  }

  const Tokenizer& tokenizer_;
  std::int32_t blank_;
  std::int64_t hop_;     // samples a frame
  std::int64_t offset_;  // samples
  OpenWord word_;
};

}  // namespace

std::unique_ptr<Decoder> make_best_path_decoder(const ModelConfig& config, const Tokenizer& tokenizer) {
  return std::make_unique<BestPathDecoder>(config, tokenizer);
}

}  // namespace sidewinder
