// Casing and punctuation by a streaming Mamba over the pieces of words. A word's style is decided once
// words_ahead (config.json) more words, or a pause, have been heard. Trained by model/training/punctuation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/config.h"
#include "model/state_layout.h"
#include "model/text/punctuator.h"
#include "model/tokenizer.h"

namespace sidewinder {

class MambaPunctuator final : public Punctuator {
 public:
  // Loads the folder: the weights, and the working memory of one thread. Throws ModelError.
  explicit MambaPunctuator(const std::filesystem::path& folder);
  ~MambaPunctuator() override;

  PunctuatorState fresh() const override { return {std::vector<float>(layout_.size), 0}; }
  void hear(PunctuatorState& state, std::span<const std::string_view> words,
            std::vector<WordStyle>& decided) override;

  // Heard as words_ahead events.
  void pause(PunctuatorState& state, std::vector<WordStyle>& decided) override;

  bool fits(const PunctuatorState& state, std::size_t waiting) const noexcept override;

  // The pieces of a word: the longest that fits, from left to right; for tests.
  std::vector<std::int32_t> pieces_of(std::string_view word) const;

 private:
  struct Network;
  // A word or a pause whose last piece is in the tile.
  struct Event {
    int row;
    bool is_word;
  };

  // Puts a piece into the tile; runs the tile when it is full.
  void add(PunctuatorState& state, std::int32_t piece, std::vector<WordStyle>& decided);
  void end_event(bool is_word) { events_.push_back({rows_ - 1, is_word}); }
  void run(PunctuatorState& state, std::vector<WordStyle>& decided);

  ModelConfig config_;
  StateLayout layout_;
  Tokenizer tokenizer_;
  std::unordered_map<std::string_view, std::int32_t> starts_, inner_;  // pieces that begin a word, and others
  std::size_t longest_ = 0;                                            // bytes a piece
  std::unique_ptr<Network> network_;
  std::vector<Event> events_;  // of the tile that is being filled
  int rows_ = 0;               // of it, filled
};

}  // namespace sidewinder
