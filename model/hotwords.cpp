#include "model/hotwords.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <fstream>
#include <map>
#include <set>

namespace sidewinder {
namespace {

constexpr char kWordStart = ' ';

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// Printable and short, whatever came in.
std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 40;
  std::string out = "\"";
  for (char c : text.substr(0, kLongest)) out += (c >= ' ' && c <= '~') ? c : '?';
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

// " word word", lower case: how a phrase is spelt in the automaton.
std::string spelling(const Hotword& word, const std::set<char>& letters, const std::string& where) {
  if (word.phrase.size() > Hotwords::kMostPhraseBytes)
    throw HotwordError(where + printable(word.phrase) + " is longer than " +
                       std::to_string(Hotwords::kMostPhraseBytes) + " bytes; give a shorter phrase");
  if (!(word.boost > 0) || word.boost > Hotwords::kMostBoost)
    throw HotwordError(where + printable(word.phrase) + ": the boost must be above 0 and at most " +
                       std::to_string(static_cast<int>(Hotwords::kMostBoost)) + "; 1 is usual");
  std::string text;
  bool between = true;
  for (char c : word.phrase) {
    if (c == ' ' || c == '\t' || c == '\r') {
      between = true;
      continue;
    }
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!letters.contains(c))
      throw HotwordError(where + printable(word.phrase) + " has " +
                         (c >= '0' && c <= '9'
                              ? "a digit; write numbers as words"
                              : "a character that the model does not know; write it with letters, "
                                "spaces and apostrophes"));
    if (between) text += kWordStart;
    between = false;
    text += c;
  }
  if (text.empty()) throw HotwordError(where + "an empty phrase; leave it out");
  return text;
}

// The tree while it is being built.
struct Branch {
  std::map<char, Hotwords::State> children;
  float per_letter = 0;  // the strongest boost of the phrases that pass here
  bool ends = false;     // a phrase ends here
};

}  // namespace

std::vector<Hotword> parse_hotwords(std::string_view text, const std::string& origin) {
  std::vector<Hotword> words;
  int number = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    ++number;
    if (trimmed(line).empty() || trimmed(line).front() == '#') continue;
    Hotword word;
    const auto tab = line.rfind('\t');
    word.phrase = trimmed(line.substr(0, tab));
    if (tab != line.npos) {
      const std::string_view boost = trimmed(line.substr(tab + 1));
      const auto [stop, error] = std::from_chars(boost.data(), boost.data() + boost.size(), word.boost);
      if (error != std::errc() || stop != boost.data() + boost.size() || !std::isfinite(word.boost))
        throw HotwordError(origin + ":" + std::to_string(number) + ": " + printable(boost) +
                           " is no number; a line is a phrase, or a phrase, a tab and its boost");
    }
    words.push_back(std::move(word));
  }
  return words;
}

Hotwords::Hotwords(std::span<const Hotword> phrases, const Tokenizer& tokenizer, const std::string& origin)
    : list_(phrases.begin(), phrases.end()) {
  if (phrases.empty()) throw HotwordError(origin + ": no phrase; give at least one, or no list");
  if (phrases.size() > kMostPhrases)
    throw HotwordError(origin + ": " + std::to_string(phrases.size()) + " phrases; at most " +
                       std::to_string(kMostPhrases) + " can be favoured at once");
  std::set<char> letters;
  for (int id = 0; id < tokenizer.size(); ++id)
    if (!tokenizer.piece(id).is_special)
      letters.insert(tokenizer.piece(id).text.begin(), tokenizer.piece(id).text.end());

  std::vector<Branch> branches(1);
  identity_ = 14695981039346656037u;  // FNV-1a over spellings and boosts
  auto note = [&](const void* bytes, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      identity_ = (identity_ ^ static_cast<const unsigned char*>(bytes)[i]) * 1099511628211u;
  };
  for (const Hotword& word : phrases) {
    const std::string text = spelling(word, letters, origin + ": ");
    note(text.data(), text.size());
    note(&word.boost, sizeof(word.boost));
    State at = 0;
    for (char letter : text) {
      auto [edge, added] = branches[static_cast<std::size_t>(at)].children.try_emplace(
          letter, static_cast<State>(branches.size()));
      at = edge->second;
      if (added) branches.emplace_back();
      float& boost = branches[static_cast<std::size_t>(at)].per_letter;
      boost = std::max(boost, word.boost);
    }
    branches[static_cast<std::size_t>(at)].ends = true;
    most_ = std::max(most_, word.boost);
  }
  identity_ |= 1;

  nodes_.resize(branches.size() + 1);
  edges_.reserve(branches.size());
  for (std::size_t i = 0; i < branches.size(); ++i) {
    nodes_[i].first_edge = static_cast<std::int32_t>(edges_.size());
    for (auto [letter, to] : branches[i].children) edges_.push_back({letter, to});
  }
  nodes_.back().first_edge = static_cast<std::int32_t>(edges_.size());

  // Breadth first, so that a node's parent and every shorter suffix are done before it.
  std::vector<State> suffixes(branches.size());  // node of the longest proper suffix that is one
  std::vector<int> depths(branches.size()), kept_depths(branches.size()), ended_depths(branches.size());
  std::deque<State> open{0};
  while (!open.empty()) {
    const auto at = static_cast<std::size_t>(open.front());
    open.pop_front();
    for (auto [letter, target] : branches[at].children) {
      const auto to = static_cast<std::size_t>(target);
      const Branch& branch = branches[to];
      Node& node = nodes_[to];
      const int word_start = letter == kWordStart;
      node.value = nodes_[at].value + (word_start ? 0 : branch.per_letter);
      depths[to] = depths[at] + 1;
      node.kept[0] = nodes_[at].kept[word_start];
      kept_depths[to] = word_start ? ended_depths[at] : kept_depths[at];
      node.kept[1] = branch.ends ? node.value : node.kept[0];
      ended_depths[to] = branch.ends ? depths[to] : kept_depths[to];
      for (auto suffix = at; suffix != 0 && suffixes[to] == kNothing;) {
        suffix = static_cast<std::size_t>(suffixes[suffix]);
        suffixes[to] = child(static_cast<State>(suffix), letter);
      }
      for (int word_end : {0, 1}) {
        const int most = depths[to] - (word_end ? ended_depths[to] : kept_depths[to]);
        State& leave = node.leave[word_end];
        leave = suffixes[to];
        while (depths[static_cast<std::size_t>(leave)] > most)
          leave = suffixes[static_cast<std::size_t>(leave)];
      }
      open.push_back(target);
    }
  }
}

float Hotwords::advance(State& state, const Tokenizer::Piece& piece) const noexcept {
  float change = piece.starts_word ? step(state, kWordStart) : 0;
  for (char letter : piece.text) change += step(state, letter);
  return change;
}

float Hotwords::step(State& state, char letter) const noexcept {
  float change = 0;
  while (true) {
    const Node& node = nodes_[static_cast<std::size_t>(state)];
    if (const State next = child(state, letter); next != kNothing) {
      change += nodes_[static_cast<std::size_t>(next)].value - node.value;
      state = next;
      return change;
    }
    if (state == kNothing) return change;
    const int word_end = letter == kWordStart;
    change += node.kept[word_end] + nodes_[static_cast<std::size_t>(node.leave[word_end])].value - node.value;
    state = node.leave[word_end];
  }
}

Hotwords::State Hotwords::child(State of, char letter) const noexcept {
  const Edge* begin = edges_.data() + nodes_[static_cast<std::size_t>(of)].first_edge;
  const Edge* end = edges_.data() + nodes_[static_cast<std::size_t>(of) + 1].first_edge;
  const Edge* found = std::lower_bound(begin, end, letter,
                                       [](const Edge& edge, char wanted) { return edge.letter < wanted; });
  return found != end && found->letter == letter ? found->to : kNothing;
}

Hotwords load_hotwords(const std::filesystem::path& file, const Tokenizer& tokenizer) {
  constexpr std::uintmax_t kLargest = 1 << 20;
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) throw HotwordError(file.string() + ": " + error.message() + "; check the path");
  if (size > kLargest) throw HotwordError(file.string() + ": over 1 MiB, so not a list of phrases");
  std::ifstream in(file, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size)))
    throw HotwordError(file.string() + ": can't be read; check its permissions");
  return {parse_hotwords(text, file.string()), tokenizer, file.string()};
}

}  // namespace sidewinder
