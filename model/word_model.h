// A lexicon and an n-gram over its words. The beam search asks it at each word's end: the n-gram over pieces
// reaches over two words and spells what nobody says; this one knows words.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "model/ngram.h"

namespace sidewinder {

// Immutable after construction; any thread. model/training/lm/pack.py writes the file and describes it.
class WordModel {
 public:
  using State = NGram::State;
  static constexpr State kEmpty = NGram::kEmpty;

  // Maps the file and checks it. Throws ModelError.
  explicit WordModel(const std::filesystem::path& file);

  // A word is known by its letters' hash (FNV-1a, 64 bits; Fowler, Noll and Vo), taken piece by piece:
  // `letters`, in lower case, behind those of `word`.
  static constexpr std::uint64_t kNoLetters = 0xcbf29ce484222325u;
  static std::uint64_t extended(std::uint64_t word, std::string_view letters) noexcept;

  // Natural log of the word's probability after `context`, minus infinity if it is not in the lexicon; `next`
  // is the context with it.
  float score(State context, std::uint64_t word, State& next) const noexcept;

  State states() const noexcept { return ngram_.states(); }
  std::span<const std::byte> bytes() const noexcept { return ngram_.bytes(); }  // of the file

 private:
  NGram ngram_;
};

}  // namespace sidewinder
