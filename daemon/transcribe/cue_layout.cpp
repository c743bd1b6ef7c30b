#include "daemon/transcribe/cue_layout.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

namespace sidewinder {
namespace {

using Tokens = std::span<const CueToken>;

constexpr double kPause = 0.8;    // seconds of silence that end a cue
constexpr double kLastCue = 0.1;  // seconds that a cue of the last instant shows at least
constexpr double kMostTime = 28;  // seconds that may wait
constexpr std::size_t kMostTokens = 80;

// What a break costs, by where it stands; a cue more costs kCue, so that cues fill up where nothing better
// offers.
constexpr double kAfterSentence = 0, kAfterMark = 1, kBeforePhrase = 2.5, kAnywhere = 4, kWithinPhrase = 8;
constexpr double kCue = 2, kAlone = 8, kTooShort = 20, kUneven = 3, kEmptiness = 2;

bool begins_character(char c) {  // in UTF-8
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

// The first `count` characters of the text, in bytes.
std::size_t prefix(std::string_view text, std::size_t count) {
  std::size_t at = 0;
  while (at < text.size() && (!begins_character(text[at]) || count-- > 0)) ++at;
  return at;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

// Words that begin a phrase: a break goes before them.
bool begins_phrase(std::string_view text) {
  static constexpr std::string_view kWords[] = {
      "and",    "but",   "or",      "nor",  "so",    "yet",   "because", "although", "though", "while",
      "if",     "when",  "where",   "who",  "which", "that",  "than",    "as",       "until",  "since",
      "unless", "after", "before",  "to",   "of",    "in",    "on",      "at",       "by",     "for",
      "from",   "with",  "without", "into", "over",  "under", "about",   "then"};
  return std::find(std::begin(kWords), std::end(kWords), lower_case(text)) != std::end(kWords);
}

// Words that belong to the next one: no break after them.
bool leans_on_next(std::string_view text) {
  static constexpr std::string_view kWords[] = {
      "a",     "an",    "the",   "my",  "your", "his",    "her", "its",  "our", "their", "this",
      "these", "those", "of",    "to",  "in",   "on",     "at",  "by",   "for", "from",  "with",
      "and",   "or",    "but",   "i",   "mr.",  "mister", "is",  "are",  "was", "were",  "will",
      "would", "can",   "could", "not", "no",   "very",   "has", "have", "had"};
  return std::find(std::begin(kWords), std::end(kWords), lower_case(text)) != std::end(kWords);
}

// Of a break between two tokens.
double break_cost(const CueToken& left, const CueToken& right) {
  if (ends_sentence(left.mark)) return kAfterSentence;
  if (left.mark != Mark::None) return kAfterMark;
  if (leans_on_next(left.text)) return kWithinPhrase;
  return begins_phrase(right.text) ? kBeforePhrase : kAnywhere;
}

// Characters of a line with these tokens.
std::size_t width(Tokens tokens) {
  std::size_t sum = tokens.size() - 1;
  for (const CueToken& token : tokens) sum += characters(token.text);
  return sum;
}

struct Lines {
  std::size_t first = 0;  // tokens on the first line; all of them: there is no second
  double cost = std::numeric_limits<double>::infinity();
};

// One line where it fits, else the two that read best.
Lines lines_of(Tokens tokens) {
  const std::size_t all = width(tokens);
  if (all <= CueLayout::kLineCharacters) return {tokens.size(), 0};
  Lines best;
  if (all > CueLayout::kLines * CueLayout::kLineCharacters + 1) return best;
  for (std::size_t k = 1; k < tokens.size(); ++k) {
    const std::size_t top = width(tokens.first(k)), bottom = width(tokens.subspan(k));
    if (top > CueLayout::kLineCharacters || bottom > CueLayout::kLineCharacters) continue;
    const double uneven = std::abs(static_cast<double>(top) - static_cast<double>(bottom)) /
                          static_cast<double>(CueLayout::kLineCharacters);
    const double alone = k == 1 || k + 1 == tokens.size() ? kAlone : 0;
    const double cost = break_cost(tokens[k - 1], tokens[k]) + kUneven * uneven + alone;
    if (cost < best.cost) best = {k, cost};
  }
  return best;
}

std::string joined(Tokens tokens) {
  std::string text;
  for (const CueToken& token : tokens) text += (text.empty() ? "" : " ") + token.text;
  return text;
}

// Of tokens [from, to) as one cue of all that waits; infinite where they don't fit.
double cue_cost(Tokens all, std::size_t from, std::size_t to, double latest) {
  const Tokens tokens = all.subspan(from, to - from);
  const double time = tokens.back().end - tokens.front().begin;
  const double lines = lines_of(tokens).cost;
  if (std::isinf(lines) || (time > CueLayout::kLongest && tokens.size() > 1))
    return std::numeric_limits<double>::infinity();
  const double shown = (to < all.size() ? all[to].begin : latest) - tokens.front().begin;
  const double fill = static_cast<double>(width(tokens)) / (CueLayout::kLines * CueLayout::kLineCharacters);
  double cost = kCue + lines + kEmptiness * (1 - fill) * (1 - fill);
  if (shown < CueLayout::kShortest) cost += kTooShort * (CueLayout::kShortest - shown);
  if (tokens.size() == 1 && all.size() > 1) cost += kAlone;
  if (to < all.size()) cost += break_cost(all[to - 1], all[to]);
  return cost;
}

}  // namespace

// A token too long for a line goes on in the next, each piece with its share of the time.
void CueLayout::add(const CueToken& token, std::vector<Cue>& cues) {
  const double pace = (token.end - token.begin) / static_cast<double>(token.text.size());
  for (std::size_t at = 0; at < token.text.size();) {
    const std::size_t bytes = prefix(std::string_view(token.text).substr(at), kLineCharacters);
    const bool last = at + bytes == token.text.size();
    take({token.text.substr(at, bytes), token.begin + pace * static_cast<double>(at),
          token.begin + pace * static_cast<double>(at + bytes), last ? token.mark : Mark::None},
         cues);
    at += bytes;
  }
}

void CueLayout::take(CueToken token, std::vector<Cue>& cues) {
  if (!waiting_.empty()) {
    const CueToken& last = waiting_.back();
    const double time = last.end - waiting_.front().begin;
    const bool sentence = ends_sentence(last.mark) && time >= kShortest && waiting_.size() > 1;
    const bool pause = token.begin - last.end >= kPause && token.begin - waiting_.front().begin >= kShortest;
    if (sentence || pause)
      lay_out(token.begin, std::numeric_limits<std::size_t>::max(), cues);
    else if (waiting_.size() >= kMostTokens || time > kMostTime)
      lay_out(token.begin, 1, cues);
  }
  waiting_.push_back(std::move(token));
}

void CueLayout::finish(double audio, std::vector<Cue>& cues) {
  if (waiting_.empty()) return;
  lay_out(std::max(audio, waiting_.back().begin + kLastCue), std::numeric_limits<std::size_t>::max(), cues);
}

// The cheapest way to cut what waits into cues, by dynamic programming from the end; gives the first `most`
// of them. The last may show until `latest`.
void CueLayout::lay_out(double latest, std::size_t most, std::vector<Cue>& cues) {
  const Tokens all = waiting_;
  const std::size_t count = all.size();
  std::vector<double> cost(count + 1, std::numeric_limits<double>::infinity());
  std::vector<std::size_t> next(count + 1, count);
  cost[count] = 0;
  for (std::size_t from = count; from-- > 0;)
    for (std::size_t to = from + 1; to <= count; ++to) {
      const double here = cue_cost(all, from, to, latest);
      if (std::isinf(here)) break;  // and longer ones fit no better
      if (here + cost[to] < cost[from]) {
        cost[from] = here + cost[to];
        next[from] = to;
      }
    }
  std::size_t from = 0;
  for (; from < count && most > 0; --most) {
    const std::size_t to = next[from];
    const Tokens tokens = all.subspan(from, to - from);
    const double begin = tokens.front().begin, until = to < count ? all[to].begin : latest;
    const double end = std::min(tokens.back().end, begin + kLongest);
    const std::size_t first = lines_of(tokens).first;
    // One too short to read stays up longer, but never into the next.
    Cue cue{begin, std::max(end, std::min(begin + kShortest, until)), {joined(tokens.first(first))}};
    if (first < tokens.size()) cue.lines.push_back(joined(tokens.subspan(first)));
    cues.push_back(std::move(cue));
    from = to;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(from));
}

}  // namespace sidewinder
