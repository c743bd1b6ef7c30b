#include "model/ngram.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>

#include "model/error.h"

namespace sidewinder {
namespace {

constexpr std::int64_t kValues = 256;
constexpr std::int64_t kMostNodes = 1 << 28;
// In 16 bits beside 0, the empty context, and one number for all other words.
constexpr std::int64_t kMostWords = 65'533;

[[noreturn]] void fail(const std::string& origin, const std::string& rule) {
  throw ModelError(origin + ": " + rule + "; pack the language model again (model/training/lm/pack.py)");
}

// How much a list has, which must be there and not be empty nor longer than `most`.
std::int64_t length(const std::map<std::string, TensorView>& tensors, const char* name, const char* what,
                    std::int64_t most, const std::string& origin) {
  auto found = tensors.find(name);
  if (found == tensors.end() || found->second.shape.size() != 1 || found->second.shape[0] < 1 ||
      found->second.shape[0] > most)
    fail(origin, tensor_text(name) + " must list the " + what + ", 1 to " + std::to_string(most));
  return found->second.shape[0];
}

template <typename T>
const T* column(const std::map<std::string, TensorView>& tensors, const char* name, DType type,
                std::int64_t size, const std::string& origin) {
  auto found = tensors.find(name);
  if (found == tensors.end()) fail(origin, tensor_text(name) + " is missing");
  const TensorView& view = found->second;
  if (view.dtype != type || view.shape.size() != 1 || view.shape[0] != size)
    fail(origin, tensor_text(name) + " must be " + dtype_name(type) + " [" + std::to_string(size) +
                     "], not " + dtype_name(view.dtype) + " " + shape_text(view.shape));
  if (reinterpret_cast<std::uintptr_t>(view.bytes.data()) % sizeof(T) != 0)
    fail(origin, tensor_text(name) + " is not aligned to its elements");
  return reinterpret_cast<const T*>(view.bytes.data());
}

}  // namespace

NGram::NGram(const std::filesystem::path& file, int vocab_size) : file_(file) {
  const std::string origin = file.string();
  const auto tensors = parse_safetensors(file_.bytes(), origin);
  const std::int64_t nodes = length(tensors, "tokens", "nodes", kMostNodes, origin);
  nodes_ = static_cast<std::int32_t>(nodes);
  if (vocab_size == kOverWords) {
    read_words(tensors, origin);
    vocab_size = static_cast<int>(words_.size()) + 2;  // and what is no word of the list
  }
  const DType type = tensors.at("tokens").dtype == DType::U16 ? DType::U16 : DType::I16;
  tokens_ = column<std::uint16_t>(tensors, "tokens", type, nodes, origin);
  first_child_ = column<std::int32_t>(tensors, "first_child", DType::I32, nodes + 1, origin);
  suffix_ = column<std::int32_t>(tensors, "suffix", DType::I32, nodes, origin);
  log_probs_ = column<std::uint8_t>(tensors, "log_probs", DType::U8, nodes, origin);
  backoffs_ = column<std::uint8_t>(tensors, "backoffs", DType::U8, nodes, origin);
  log_prob_values_ = column<float>(tensors, "log_prob_values", DType::F32, kValues, origin);
  backoff_values_ = column<float>(tensors, "backoff_values", DType::F32, kValues, origin);
  check(origin, vocab_size);
  file_.load_pages();  // all of it now, so that memory does not grow with what is said
}

void NGram::read_words(const std::map<std::string, TensorView>& tensors, const std::string& origin) {
  const std::int64_t count = length(tensors, "words", "words' hashes", kMostWords, origin);
  words_ = {column<std::int64_t>(tensors, "words", DType::I64, count, origin),
            static_cast<std::size_t>(count)};
  if (std::adjacent_find(words_.begin(), words_.end(), std::greater_equal<>{}) != words_.end())
    fail(origin, "tensor \"words\" is not sorted, or lists one twice");
}

// One pass over the nodes: afterwards no look-up can leave the tree or go in circles.
void NGram::check(const std::string& origin, int vocab_size) const {
  for (int i = 0; i < kValues; ++i)
    if (!std::isfinite(log_prob_values_[i]) || !std::isfinite(backoff_values_[i]))
      fail(origin, "a value is not finite");
  if (first_child_[0] != 1 || first_child_[nodes_] != nodes_) fail(origin, "the nodes are not one tree");
  for (std::int32_t i = 0; i < nodes_; ++i) {
    if (first_child_[i + 1] < first_child_[i] || first_child_[i + 1] > nodes_ || first_child_[i] <= i)
      fail(origin, "node " + std::to_string(i) + "'s children are not behind it");
    if (i > 0 && (suffix_[i] < 0 || suffix_[i] >= i))
      fail(origin, "node " + std::to_string(i) + "'s suffix is not before it");
    if (i > 0 && (tokens_[i] < 1 || tokens_[i] >= vocab_size))
      fail(origin, "node " + std::to_string(i) + "'s token is not one of the model's 1 to " +
                       std::to_string(vocab_size - 1));
    for (std::int32_t c = first_child_[i] + 1; c < first_child_[i + 1]; ++c)
      if (tokens_[c] <= tokens_[c - 1])
        fail(origin, "node " + std::to_string(i) + "'s children are not sorted");
  }
}

NGram::State NGram::child(State of, std::uint16_t token) const noexcept {
  const std::uint16_t* begin = tokens_ + first_child_[of];
  const std::uint16_t* end = tokens_ + first_child_[of + 1];
  const std::uint16_t* found = std::lower_bound(begin, end, token);
  return found != end && *found == token ? static_cast<State>(found - tokens_) : kEmpty;
}

float NGram::score(State context, std::int32_t token, State& next) const noexcept {
  float backed_off = 0;
  for (State from = context;; from = suffix_[from]) {
    if (const State to = child(from, static_cast<std::uint16_t>(token)); to != kEmpty) {
      // A node without children and without a back-off tells nothing that its suffix does not.
      next = to;
      while (next != kEmpty && first_child_[next] == first_child_[next + 1] && backoffs_[next] == 0)
        next = suffix_[next];
      return backed_off + log_prob_values_[log_probs_[to]];
    }
    if (from == kEmpty) break;
    backed_off += backoff_values_[backoffs_[from]];
  }
  next = kEmpty;
  return kUnlisted;
}

}  // namespace sidewinder
