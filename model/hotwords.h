// Phrases that a stream's decoder favours.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace sidewinder {

// A list of phrases that can't be used. what() names the line, the rule it broke and the way out.
struct HotwordError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Hotword {
  std::string phrase;  // words; letters in either case
  float boost = 1;     // how strongly it is favoured: 1 is usual, 2 twice as strong
};

// One phrase a line; behind it, after a tab, its boost if it is not 1. Empty lines and lines that begin with
// # are skipped. `origin` names the text in errors. Throws HotwordError.
std::vector<Hotword> parse_hotwords(std::string_view text, const std::string& origin);

// Phrases compiled to an automaton over letters (Aho and Corasick 1975), so that it does not matter into
// which pieces a word falls apart. A phrase matches whole words only. While one is being spoken its
// hypothesis carries a bonus of boost for each letter so far, which is taken back if the phrase does not come
// to its end. Immutable after construction; any thread. A step costs the same however many phrases there are.
class Hotwords {
 public:
  static constexpr std::size_t kMostPhrases = 2'000;
  static constexpr std::size_t kMostPhraseBytes = 100;
  static constexpr float kMostBoost = 10;

  // Throws HotwordError: no phrase, too many, a phrase that is empty, too long or has a character that is in
  // none of the tokenizer's pieces, a boost that is not from 0 (exclusive) to kMostBoost. `origin` as above.
  Hotwords(std::span<const Hotword> phrases, const Tokenizer& tokenizer, const std::string& origin);

  using State = std::int32_t;  // a node: how much of which phrases has been heard
  static constexpr State kNothing = 0;

  // Goes on by a piece and returns by how much the bonus changes.
  float advance(State& state, const Tokenizer::Piece& piece) const noexcept;

  // The part of the bonus that is not earned until the phrase comes to its end.
  float pending(State state) const noexcept { return nodes_[static_cast<std::size_t>(state)].value; }

  float most_per_letter() const noexcept { return most_; }
  std::size_t phrases() const noexcept { return list_.size(); }
  const std::vector<Hotword>& list() const noexcept { return list_; }  // as given
  State states() const noexcept { return static_cast<State>(nodes_.size() - 1); }
  std::uint64_t identity() const noexcept { return identity_; }  // equal for equal lists; never 0

 private:
  struct Node {
    std::int32_t first_edge = 0;  // edges_[first_edge] to edges_[next node's first_edge - 1]
    float value = 0;              // bonus carried here
    // What stays of it if the next letter leads away (a phrase that has ended), and the node to go on from:
    // of the longest suffix that is one and has none of the letters that stay. The second of each if a word
    // ends here.
    float kept[2] = {0, 0};
    State leave[2] = {0, 0};
  };
  struct Edge {
    char letter;
    State to;
  };

  float step(State& state, char letter) const noexcept;
  State child(State of, char letter) const noexcept;  // or kNothing

  std::vector<Node> nodes_;  // and one more, which closes the last one's edges
  std::vector<Edge> edges_;  // a node's sorted by letter
  float most_ = 0;
  std::vector<Hotword> list_;
  std::uint64_t identity_ = 0;
};

// A file of phrases as parse_hotwords() takes them. Throws HotwordError, also when it can't be read or has
// over 1 MiB.
Hotwords load_hotwords(const std::filesystem::path& file, const Tokenizer& tokenizer);

}  // namespace sidewinder
