#include "model/text/rule_punctuator.h"

#include <fstream>

#include "model/error.h"

namespace sidewinder {
namespace {

// PunctuatorState::history: whether a word waits, and its casing above.
constexpr std::uint32_t kWaits = 1;

Casing waiting_casing(const PunctuatorState& state) {
  return static_cast<Casing>(state.history >> 1);
}

}  // namespace

RulePunctuator::RulePunctuator(const std::filesystem::path& names) {
  std::ifstream in(names);
  if (!in) throw ModelError(names.string() + ": can't be read; check its permissions");
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    std::string name;
    bool all_capitals = line.size() > 1;
    for (char c : line) {
      const bool capital = c >= 'A' && c <= 'Z';
      if (!capital && c != '\'' && (c < 'a' || c > 'z'))
        throw ModelError(names.string() + ":" + std::to_string(number) +
                         ": a name has the letters A to Z, a to z and apostrophes alone; correct the file");
      all_capitals = all_capitals && (capital || c == '\'');
      name += static_cast<char>(capital ? c - 'A' + 'a' : c);
    }
    if (!name.empty()) names_.emplace(name, all_capitals ? Casing::Capitals : Casing::Capitalised);
  }
}

void RulePunctuator::hear(PunctuatorState& state, std::span<const std::string_view> words,
                          std::vector<WordStyle>& decided) {
  for (std::string_view word : words) {
    if (state.history & kWaits) decided.push_back({waiting_casing(state), Mark::None});
    const auto name = names_.find(std::string(word));
    const Casing casing = name == names_.end() ? Casing::Lower : name->second;
    state.history = static_cast<std::uint32_t>(casing) << 1 | kWaits;
  }
}

void RulePunctuator::pause(PunctuatorState& state, std::vector<WordStyle>& decided) {
  if (state.history & kWaits) decided.push_back({waiting_casing(state), Mark::Period});
  state.history = 0;
}

bool RulePunctuator::fits(const PunctuatorState& state, std::size_t waiting) const noexcept {
  return state.blocks.empty() && waiting == (state.history & kWaits) && state.history >> 1 < kCasings;
}

}  // namespace sidewinder
