#include "model/word_model.h"

#include <algorithm>
#include <limits>

namespace sidewinder {

WordModel::WordModel(const std::filesystem::path& file) : ngram_(file, NGram::kOverWords) {}

std::uint64_t WordModel::extended(std::uint64_t word, std::string_view letters) noexcept {
  for (const char letter : letters) word = (word ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  return word;
}

float WordModel::score(State context, std::uint64_t word, State& next) const noexcept {
  const auto words = ngram_.words();
  const auto found = std::lower_bound(words.begin(), words.end(), static_cast<std::int64_t>(word));
  if (found == words.end() || *found != static_cast<std::int64_t>(word)) {
    next = kEmpty;
    return -std::numeric_limits<float>::infinity();
  }
  return ngram_.score(context, static_cast<std::int32_t>(found - words.begin()) + 1, next);
}

}  // namespace sidewinder
