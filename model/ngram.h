// An n-gram language model over the recogniser's pieces, or over words, mapped into memory. Katz-style
// back-off as in ARPA files: log p(w | h) is the n-gram's own value if it is listed, else h's back-off plus
// log p(w | h without its first piece).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "model/safetensors.h"

namespace sidewinder {

// Immutable after construction; any thread. model/training/lm/pack.py writes the file and describes it.
class NGram {
 public:
  // The longest context that the model tells from shorter ones: a node of its tree.
  using State = std::int32_t;
  static constexpr State kEmpty = 0;  // no context

  // Maps the file and checks it: shapes, and that every index leads to an earlier level or into the tree.
  // vocab_size: of the recogniser's pieces; kOverWords: the file's own, which lists words. Throws ModelError.
  NGram(const std::filesystem::path& file, int vocab_size);
  static constexpr int kOverWords = 0;

  // Natural log of the token's probability after `context`; `next` is the context with it. Tokens: 1 to
  // the vocabulary's size - 1; one that is not listed gets kUnlisted and leads to the empty context.
  float score(State context, std::int32_t token, State& next) const noexcept;

  State states() const noexcept { return nodes_; }
  // Of a model over words: word i's hash (WordModel) is the bits of words()[i - 1]; in order, each once.
  std::span<const std::int64_t> words() const noexcept { return words_; }
  std::span<const std::byte> bytes() const noexcept { return file_.bytes(); }  // of the file

  static constexpr float kUnlisted = -20;

 private:
  void read_words(const std::map<std::string, TensorView>& tensors, const std::string& origin);
  void check(const std::string& origin, int vocab_size) const;
  State child(State of, std::uint16_t token) const noexcept;  // or kEmpty

  MappedFile file_;
  std::int32_t nodes_ = 0;
  std::span<const std::int64_t> words_;
  const std::uint16_t* tokens_ = nullptr;      // (nodes)
  const std::int32_t* first_child_ = nullptr;  // (nodes + 1)
  const std::int32_t* suffix_ = nullptr;       // (nodes)
  const std::uint8_t* log_probs_ = nullptr;    // (nodes), into log_prob_values_
  const std::uint8_t* backoffs_ = nullptr;     // (nodes), into backoff_values_
  const float* log_prob_values_ = nullptr;     // (256)
  const float* backoff_values_ = nullptr;      // (256)
};

}  // namespace sidewinder
