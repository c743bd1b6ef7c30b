// An n-gram language model over the recogniser's pieces, mapped into memory. Katz-style back-off as in ARPA
// files: log p(w | h) is the n-gram's own value if it is listed, else h's back-off plus log p(w | h without
// its first piece).
#pragma once

#include <cstdint>
#include <filesystem>

#include "model/safetensors.h"

namespace sidewinder {

// Immutable after construction; any thread. model/training/lm/pack.py writes the file and describes it.
class NGram {
 public:
  // The longest context that the model tells from shorter ones: a node of its tree.
  using State = std::int32_t;
  static constexpr State kEmpty = 0;  // no context

  // Maps the file and checks it: shapes, and that every index leads to an earlier level or into the tree.
  // Throws ModelError.
  NGram(const std::filesystem::path& file, int vocab_size);

  // Natural log of the token's probability after `context`; `next` is the context with it. Tokens: 1 to
  // vocab_size - 1; one that is not listed gets kUnlisted and leads to the empty context.
  float score(State context, std::int32_t token, State& next) const noexcept;

  State states() const noexcept { return nodes_; }
  std::span<const std::byte> bytes() const noexcept { return file_.bytes(); }  // of the file

  static constexpr float kUnlisted = -20;

 private:
  void check(const std::string& origin, int vocab_size) const;
  State child(State of, std::int16_t token) const noexcept;  // or kEmpty

  MappedFile file_;
  std::int32_t nodes_ = 0;
  const std::int16_t* tokens_ = nullptr;       // (nodes)
  const std::int32_t* first_child_ = nullptr;  // (nodes + 1)
  const std::int32_t* suffix_ = nullptr;       // (nodes)
  const std::uint8_t* log_probs_ = nullptr;    // (nodes), into log_prob_values_
  const std::uint8_t* backoffs_ = nullptr;     // (nodes), into backoff_values_
  const float* log_prob_values_ = nullptr;     // (256)
  const float* backoff_values_ = nullptr;      // (256)
};

}  // namespace sidewinder
