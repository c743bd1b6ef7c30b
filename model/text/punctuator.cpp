#include "model/text/punctuator.h"

#include "model/error.h"
#include "model/text/mamba_punctuator.h"
#include "model/text/rule_punctuator.h"

namespace sidewinder {

std::unique_ptr<Punctuator> make_punctuator(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "config.json")) return std::make_unique<MambaPunctuator>(folder);
  if (std::filesystem::exists(folder / "names.txt"))
    return std::make_unique<RulePunctuator>(folder / "names.txt");
  throw ModelError(
      folder.string() +
      ": holds neither a punctuation model nor names.txt; take the words as they were heard (--text "
      "words or numbers, or style = \"words\" under [text]), or another model");
}

}  // namespace sidewinder
