// Casing and punctuation, word by word: what decides them for many streams, one after the other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "model/text/word_style.h"

namespace sidewinder {

// What one stream carries from word to word. Plain values: a copy is a fork.
struct PunctuatorState {
  std::vector<float> blocks;  // of the Mamba: StateLayout
  std::uint32_t history = 0;  // bits about the last words; each punctuator's own
};

// Thread rule: one thread at a time.
class Punctuator {
 public:
  virtual ~Punctuator() = default;

  // Of a stream that has heard nothing.
  virtual PunctuatorState fresh() const = 0;

  // Hears words (lower case) and appends the styles that this decides: those of the oldest undecided words,
  // in order; what is decided never changes. The styles depend on the words and pauses alone, not on how they
  // were cut into calls.
  virtual void hear(PunctuatorState& state, std::span<const std::string_view> words,
                    std::vector<WordStyle>& decided) = 0;

  // A pause: decides every word before it.
  virtual void pause(PunctuatorState& state, std::vector<WordStyle>& decided) = 0;

  // Whether a state that came from outside (a capsule) is one of this punctuator, with `waiting` words heard
  // and not decided. Any thread.
  virtual bool fits(const PunctuatorState& state, std::size_t waiting) const noexcept = 0;
};

// What the folder holds: a Mamba (config.json, model.safetensors, tokens.txt: mamba_punctuator.h), else rules
// (names.txt: rule_punctuator.h). Throws ModelError.
std::unique_ptr<Punctuator> make_punctuator(const std::filesystem::path& folder);

}  // namespace sidewinder
