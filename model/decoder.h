// Engine output to words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/engine.h"
#include "model/tokenizer.h"

namespace sidewinder {

struct Word {
  std::string text;
  std::int64_t begin = 0;  // samples at the model's rate, from the stream's start
  std::int64_t end = 0;    // exclusive
  float confidence = 0;    // 0 to 1: geometric mean of its tokens' probabilities
};

// One stream's decoder. Thread rule: one thread at a time. The words depend on the frames alone, not on how
// they were cut into calls.
class Decoder {
 public:
  virtual ~Decoder() = default;

  // Takes in the next frames and appends the words that are now settled, in order.
  virtual void advance(const StreamOutput& frames, std::vector<Word>& settled) = 0;

  // The stream's end: appends what was still open.
  virtual void finish(std::vector<Word>& settled) = 0;

  // The text heard but not settled yet; valid until the next call.
  virtual std::string_view tentative() const noexcept = 0;

  // The decoder's part of the state capsule: a fixed number of bytes for each kind of decoder.
  virtual std::size_t state_bytes() const noexcept = 0;
  virtual void save(std::span<std::byte> into) const noexcept = 0;
  virtual void load(std::span<const std::byte> state) noexcept = 0;
};

// CTC best path (Graves et al. 2006): the most likely token of each frame, repeats merged, blanks dropped. A
// word is settled once the next one begins. `tokenizer` must outlive the decoder.
std::unique_ptr<Decoder> make_best_path_decoder(const ModelConfig& config, const Tokenizer& tokenizer);

}  // namespace sidewinder
