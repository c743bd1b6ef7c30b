// Casing and punctuation by rules, where no model is at hand: a pause ends a sentence, and names have
// capitals.
#pragma once

#include <filesystem>
#include <string>
#include <unordered_map>

#include "model/text/punctuator.h"

namespace sidewinder {

class RulePunctuator final : public Punctuator {
 public:
  // `names`: a name or abbreviation a line, as it is written (London, NATO). Throws ModelError.
  explicit RulePunctuator(const std::filesystem::path& names);

  PunctuatorState fresh() const override { return {}; }

  // Decides each word when the next is heard.
  void hear(PunctuatorState& state, std::span<const std::string_view> words,
            std::vector<WordStyle>& decided) override;
  void pause(PunctuatorState& state, std::vector<WordStyle>& decided) override;
  bool fits(const PunctuatorState& state, std::size_t waiting) const noexcept override;

 private:
  std::unordered_map<std::string, Casing> names_;  // by the name in lower case
};

}  // namespace sidewinder
