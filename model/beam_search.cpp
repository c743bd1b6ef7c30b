#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "model/decoder.h"
#include "model/hotwords.h"
#include "model/ngram.h"
#include "model/word_model.h"

namespace sidewinder {
namespace {

constexpr double kNever = -1e30;  // log of no probability

// Tokens of a hypothesis that are not settled yet. Speech has 6 a second.
constexpr int kMostPending = 32;

// log(exp(a) + exp(b))
double log_add(double a, double b) noexcept {
  if (a < b) std::swap(a, b);
  const double difference = b - a;
  return difference < -40 ? a : a + std::log1p(std::exp(difference));
}

// One row of tokens since the stream's start, of which the settled ones are no longer listed. Plain bytes, so
// that it can go into a capsule.
struct Hypothesis {
  double blank = kNever;   // log probability of all alignments that end in a blank
  double token = kNever;   // of those that end in the last token
  double bonus = 0;        // language model, token and word bonuses, hotwords
  std::uint64_t hash = 0;  // of all its tokens
  NGram::State lm = NGram::kEmpty;
  Hotwords::State hot = Hotwords::kNothing;
  // Of its last word, settled or not.
  std::uint64_t word = WordModel::kNoLetters;   // its letters
  double spelled = 0;                           // what the model over pieces gave them
  double ending = 0;                            // bonus if it ends here
  WordModel::State before = WordModel::kEmpty;  // the words before it
  WordModel::State with = WordModel::kEmpty;    // and it
  std::int32_t last = 0;                        // its last token, settled or not; the blank if there is none
  std::int32_t pending = 0;
  std::array<HeardToken, kMostPending> tokens{};  // (pending), oldest first

  double total() const noexcept { return log_add(blank, token) + bonus; }
};
static_assert(std::is_trivially_copyable_v<Hypothesis>);

// A hypothesis of the next frame, before it is known to be among the best.
struct Candidate {
  double total = 0;
  double blank = kNever;
  double token = kNever;
  double bonus = 0;
  double spelled = 0;
  std::uint64_t hash = 0;
  NGram::State lm = NGram::kEmpty;
  Hotwords::State hot = Hotwords::kNothing;
  std::int32_t parent = 0;
  std::int32_t added = 0;  // token, or the blank: none
  bool again = false;  // its last token is more likely to begin in this frame than where it was heard first
};

std::uint64_t extended(std::uint64_t hash, std::int32_t token) noexcept {
  hash ^= static_cast<std::uint64_t>(token) + 0x9e3779b97f4a7c15u;  // splitmix64 (Steele et al. 2014)
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 31);
}

class BeamSearchDecoder final : public Decoder {
 public:
  BeamSearchDecoder(const ModelConfig& config, const Tokenizer& tokenizer, const BeamModels& models,
                    const BeamOptions& options)
      : tokenizer_(tokenizer),
        lm_(models.pieces),
        lexicon_(models.words),
        options_(options),
        vocab_(config.vocab_size),
        blank_(config.blank),
        words_(config, tokenizer) {
    const auto beam = static_cast<std::size_t>(options_.beam);
    const auto tries = static_cast<std::size_t>(options_.frame_tokens);
    hypotheses_.reserve(beam);
    next_.reserve(beam);
    candidates_.reserve(beam * (tries + 1));
    order_.reserve(candidates_.capacity());
    tried_.reserve(static_cast<std::size_t>(vocab_));
    text_.reserve(WordBuilder::kMostWordBytes + kMostPending * (Tokenizer::kMostPieceBytes + 1));
    heard_.resize(static_cast<std::size_t>(vocab_));
    off_ = without_prior(models.log_priors);
    hypotheses_.push_back({});
    hypotheses_.front().blank = 0;
    hypotheses_.front().last = blank_;
  }

  void advance(const StreamOutput& frames, std::vector<Word>& settled) override {
    for (std::uint32_t i = 0; i < frames.frames; ++i)
      step(frames.log_probs + static_cast<std::size_t>(i) * static_cast<std::size_t>(vocab_),
           frames.tokens[i], frames.first_frame + i, settled);
  }

  void finish(std::vector<Word>& settled) override {
    end_words();
    while (hypotheses_.front().pending > 0) settle_first(settled);
    words_.finish(settled);
  }

  Tentative tentative() const noexcept override {
    const Hypothesis& best = hypotheses_.front();
    text_ = words_.text();
    for (int i = 0; i < best.pending; ++i) {
      const Tokenizer::Piece& piece = tokenizer_.piece(best.tokens[static_cast<std::size_t>(i)].id);
      if (piece.starts_word && !text_.empty()) text_ += ' ';
      text_ += piece.text;
    }
    if (words_.is_open()) return {text_, words_.begin(), words_.continues()};
    if (best.pending == 0) return {};
    return {text_, words_.begin_of(best.tokens[0].first_frame), words_.would_continue(best.tokens[0].id)};
  }

  int pause_frames() const noexcept override { return options_.pause_frames; }

  void set_hotwords(const Hotwords* hotwords) noexcept override {
    forget_hotwords();
    hotwords_ = hotwords;
  }

  std::size_t state_bytes() const noexcept override {
    return sizeof(Head) + sizeof(WordBuilder::State) +
           static_cast<std::size_t>(options_.beam) * sizeof(Hypothesis);
  }

  void save(std::span<std::byte> into) const noexcept override {
    const Head head{.hypotheses = static_cast<std::int64_t>(hypotheses_.size()),
                    .blanks = blanks_,
                    .hotwords = hotwords_ != nullptr ? hotwords_->identity() : 0};
    std::byte* at = into.data();
    std::memset(at, 0, state_bytes());
    std::memcpy(at, &head, sizeof(head));
    at += sizeof(head);
    std::memcpy(at, &words_.state(), sizeof(WordBuilder::State));
    at += sizeof(WordBuilder::State);
    for (const Hypothesis& hypothesis : hypotheses_) {
      std::memcpy(at, &hypothesis, used_bytes(hypothesis));
      at += sizeof(Hypothesis);
    }
  }

  void load(std::span<const std::byte> state) noexcept override {
    const auto [head, words, hypotheses] = read_head(state);
    const std::byte* at = hypotheses;
    words_.set_state(words);
    blanks_ = head.blanks;
    hypotheses_.resize(static_cast<std::size_t>(head.hypotheses));
    for (Hypothesis& hypothesis : hypotheses_) {
      std::memcpy(&hypothesis, at, sizeof(hypothesis));
      at += sizeof(hypothesis);
      // Another list's nodes mean nothing here.
      if (hotwords_ == nullptr || hotwords_->identity() != head.hotwords) hypothesis.hot = Hotwords::kNothing;
    }
  }

  bool valid(std::span<const std::byte> state) const noexcept override {
    if (state.size() != state_bytes()) return false;
    const auto [head, words, hypotheses] = read_head(state);
    const std::byte* at = hypotheses;
    if (head.hypotheses < 1 || head.hypotheses > options_.beam || head.blanks < 0 ||
        head.blanks >= WordBuilder::kMostFrames || !words_.valid(words))
      return false;
    const bool favours = hotwords_ != nullptr && hotwords_->identity() == head.hotwords;
    for (std::int64_t i = 0; i < head.hypotheses; ++i, at += sizeof(Hypothesis)) {
      Hypothesis hypothesis;
      std::memcpy(&hypothesis, at, sizeof(hypothesis));
      if (!valid(hypothesis, favours ? hotwords_->states() : INT32_MAX)) return false;
    }
    return true;
  }

 private:
  struct Head {
    std::int64_t hypotheses = 0;
    std::int64_t blanks = 0;
    std::uint64_t hotwords = 0;
  };

  // A saved state's fixed part, and where its hypotheses begin.
  static std::tuple<Head, WordBuilder::State, const std::byte*> read_head(
      std::span<const std::byte> state) noexcept {
    Head head;
    WordBuilder::State words;
    std::memcpy(&head, state.data(), sizeof(head));
    std::memcpy(&words, state.data() + sizeof(head), sizeof(words));
    return {head, words, state.data() + sizeof(head) + sizeof(words)};
  }

  // `hot_states`: of the hotwords that it was saved with, where they are set; load() drops states of others.
  bool valid(const Hypothesis& h, Hotwords::State hot_states) const noexcept {
    const auto is_token = [&](std::int32_t id) { return id >= 0 && id < vocab_; };
    const auto is_state = [&](WordModel::State state) {
      return state >= 0 && state < (lexicon_ != nullptr ? lexicon_->states() : 1);
    };
    const bool numbers = std::isfinite(h.blank) && std::isfinite(h.token) && std::isfinite(h.bonus) &&
                         std::isfinite(h.spelled) && std::isfinite(h.ending);
    const bool states = is_state(h.before) && is_state(h.with) && h.lm >= 0 &&
                        h.lm < (lm_ != nullptr ? lm_->states() : 1) && h.hot >= 0 && h.hot < hot_states;
    if (!numbers || !states || !is_token(h.last) || h.pending < 0 || h.pending >= kMostPending) return false;
    return std::all_of(h.tokens.begin(), h.tokens.begin() + h.pending, [&](const HeardToken& token) {
      return is_token(token.id) && std::isfinite(token.score) && token.first_frame >= 0 &&
             token.last_frame >= token.first_frame && token.last_frame < WordBuilder::kMostFrames;
    });
  }

  static std::size_t used_bytes(const Hypothesis& hypothesis) noexcept {
    return offsetof(Hypothesis, tokens) + static_cast<std::size_t>(hypothesis.pending) * sizeof(HeardToken);
  }

  static void copy(const Hypothesis& from, Hypothesis& to) noexcept {
    std::memcpy(&to, &from, used_bytes(from));
  }

  // What is added to each token's log probability so that it weighs how it sounds and less how common it is:
  // the posterior over part of the prior (Bourlard and Morgan 1994). Tokens keep their mean against the
  // blank.
  std::vector<float> without_prior(std::span<const float> log_priors) const {
    std::vector<float> off(static_cast<std::size_t>(vocab_), 0.0f);
    double mean = 0;
    for (const float log_prior : log_priors) mean += std::exp(log_prior) * log_prior;
    for (std::size_t id = 0; id < log_priors.size(); ++id)
      off[id] = static_cast<float>(options_.prior_weight * (mean - log_priors[id]));
    off[static_cast<std::size_t>(blank_)] = 0;
    return off;
  }

  // log_probs: (vocab) of one frame; most_likely: its best token.
  void step(const float* log_probs, std::int32_t most_likely, std::int64_t frame,
            std::vector<Word>& settled) {
    const bool silent = most_likely == blank_ || tokenizer_.piece(most_likely).is_special;
    blanks_ = silent ? blanks_ + 1 : 0;
    for (std::size_t id = 0; id < off_.size(); ++id) heard_[id] = log_probs[id] + off_[id];
    choose_tokens(heard_.data(), most_likely);
    stay(heard_.data());
    extend(heard_.data());
    take_best(log_probs, frame);
    settle(frame, settled);
  }

  // tried_: the tokens worth trying in this frame, the likeliest first, the lower id of equals.
  void choose_tokens(const float* log_probs, std::int32_t most_likely) {
    tried_.clear();
    const float least = log_probs[most_likely] - options_.token_threshold;
    for (std::int32_t id = 0; id < vocab_; ++id)
      if (log_probs[id] > least && id != blank_ && !tokenizer_.piece(id).is_special) tried_.push_back(id);
    const auto likelier = [&](std::int32_t a, std::int32_t b) {
      return log_probs[a] != log_probs[b] ? log_probs[a] > log_probs[b] : a < b;
    };
    const auto most = static_cast<std::size_t>(options_.frame_tokens);
    if (tried_.size() > most) {
      std::partial_sort(tried_.begin(), tried_.begin() + options_.frame_tokens, tried_.end(), likelier);
      tried_.resize(most);
    }
  }

  // Every hypothesis as it is, after a blank or its last token once more: candidate i comes of hypothesis i.
  void stay(const float* log_probs) {
    candidates_.clear();
    for (std::size_t i = 0; i < hypotheses_.size(); ++i) {
      const Hypothesis& from = hypotheses_[i];
      both_[i] = log_add(from.blank, from.token);
      Candidate to{.blank = both_[i] + log_probs[blank_],
                   .bonus = from.bonus,
                   .hash = from.hash,
                   .lm = from.lm,
                   .hot = from.hot,
                   .parent = static_cast<std::int32_t>(i),
                   .added = blank_};
      if (from.last != blank_) to.token = from.token + log_probs[from.last];
      candidates_.push_back(to);
    }
  }

  // Every hypothesis with every token tried behind it.
  void extend(const float* log_probs) {
    const std::size_t stays = candidates_.size();
    double best = kNever;
    for (std::size_t i = 0; i < stays; ++i)
      best = std::max(best, log_add(candidates_[i].blank, candidates_[i].token) + candidates_[i].bonus);
    for (std::size_t i = 0; i < stays; ++i) {
      const Hypothesis& from = hypotheses_[i];
      for (const std::int32_t token : tried_) {
        // A token that follows itself needs a blank between.
        const double heard = (token == from.last ? from.blank : both_[i]) + log_probs[token];
        const bool begins = tokenizer_.piece(token).starts_word;
        const double ending = begins ? from.ending : 0;
        if (heard + from.bonus + ending + most_bonus(token) < best - options_.beam_threshold) continue;
        const std::uint64_t hash = extended(from.hash, token);
        if (Candidate* same = find_stay(hash, stays)) {
          same->again = heard > log_add(same->blank, same->token);
          same->token = log_add(same->token, heard);
          continue;
        }
        Candidate to{.token = heard,
                     .bonus = from.bonus + ending,
                     .spelled = begins ? 0 : from.spelled,
                     .hash = hash,
                     .lm = from.lm,
                     .hot = from.hot,
                     .parent = static_cast<std::int32_t>(i),
                     .added = token};
        add_bonus(token, to);
        candidates_.push_back(to);
      }
    }
  }

  // The row of tokens may be in the beam already, come from this one in an earlier frame.
  Candidate* find_stay(std::uint64_t hash, std::size_t stays) noexcept {
    for (std::size_t i = 0; i < stays; ++i)
      if (candidates_[i].hash == hash) return &candidates_[i];
    return nullptr;
  }

  // At least what add_bonus() can give; a language model only takes.
  double most_bonus(std::int32_t token) const noexcept {
    const Tokenizer::Piece& piece = tokenizer_.piece(token);
    double bonus = options_.token_bonus + (piece.starts_word ? options_.word_bonus : 0.0f);
    if (hotwords_ != nullptr)
      bonus +=
          options_.hotword_weight * hotwords_->most_per_letter() * static_cast<double>(piece.text.size());
    return bonus;
  }

  void add_bonus(std::int32_t token, Candidate& to) const noexcept {
    const Tokenizer::Piece& piece = tokenizer_.piece(token);
    to.bonus += options_.token_bonus + (piece.starts_word ? options_.word_bonus : 0.0f);
    if (lm_ != nullptr) {
      const float said = lm_->score(to.lm, token, to.lm);
      to.bonus += options_.lm_weight * said;
      to.spelled += said;
    }
    if (hotwords_ != nullptr) to.bonus += options_.hotword_weight * hotwords_->advance(to.hot, piece);
  }

  // The best candidates become the hypotheses, the best first, scores relative to it.
  void take_best(const float* log_probs, std::int64_t frame) {
    order_.clear();
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      candidates_[i].total = log_add(candidates_[i].blank, candidates_[i].token) + candidates_[i].bonus;
      order_.push_back(static_cast<std::int32_t>(i));
    }
    const auto better = [&](std::int32_t a, std::int32_t b) {
      const double left = candidates_[static_cast<std::size_t>(a)].total;
      const double right = candidates_[static_cast<std::size_t>(b)].total;
      return left != right ? left > right : a < b;
    };
    const auto most = std::min(order_.size(), static_cast<std::size_t>(options_.beam));
    std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(most), order_.end(),
                      better);
    const Candidate& best = candidates_[static_cast<std::size_t>(order_.front())];
    const double heard = log_add(best.blank, best.token), bonus = best.bonus;
    const double least = best.total - options_.beam_threshold;
    next_.clear();
    for (std::size_t i = 0; i < most; ++i) {
      const Candidate& from = candidates_[static_cast<std::size_t>(order_[i])];
      if (from.total < least) break;
      const Hypothesis& parent = hypotheses_[static_cast<std::size_t>(from.parent)];
      Hypothesis& to = next_.emplace_back();
      copy(parent, to);
      to.blank = std::max(from.blank - heard, kNever);
      to.token = std::max(from.token - heard, kNever);
      to.bonus = from.bonus - bonus;
      to.hash = from.hash;
      to.lm = from.lm;
      to.hot = from.hot;
      if (from.added != blank_) {
        to.last = from.added;
        to.spelled = from.spelled;
        if (lexicon_ != nullptr) lengthen_word(tokenizer_.piece(from.added), to);
        to.tokens[static_cast<std::size_t>(to.pending++)] = heard_in(frame, from.added, log_probs);
      } else if (to.pending > 0) {
        HeardToken& last = to.tokens[static_cast<std::size_t>(to.pending - 1)];
        if (from.again) {
          last = heard_in(frame, last.id, log_probs);
        } else if (from.token > from.blank) {
          last.last_frame = frame;
          last.score = std::max(last.score, log_probs[last.id]);
        }
      }
    }
    hypotheses_.swap(next_);
  }

  // The hypothesis's last word goes on with the piece, or begins with it; and what it is worth if it ends
  // there: the two models' probabilities of the word, mixed, in place of the spelled one's.
  void lengthen_word(const Tokenizer::Piece& piece, Hypothesis& to) const noexcept {
    if (piece.starts_word) {
      to.word = WordModel::kNoLetters;
      to.before = to.with;
    }
    to.word = WordModel::extended(to.word, piece.text);
    const double known = lexicon_->score(to.before, to.word, to.with);
    const double share = options_.word_share;
    const double mixed = log_add(std::log(1 - share) + to.spelled, std::log(share) + known);
    to.ending = options_.lm_weight * (mixed - to.spelled);
  }

  static HeardToken heard_in(std::int64_t frame, std::int32_t id, const float* log_probs) noexcept {
    return {.first_frame = frame, .last_frame = frame, .score = log_probs[id], .id = id};
  }

  // Settles what all hypotheses begin with, and what can't wait.
  void settle(std::int64_t frame, std::vector<Word>& settled) {
    const bool pause = blanks_ >= options_.pause_frames;
    if (pause) end_words();
    while (hypotheses_.front().pending > 0) {
      const Hypothesis& best = hypotheses_.front();
      // The last token may go on.
      const bool heard = best.pending > 1 || best.blank >= best.token;
      const bool due = pause || frame - best.tokens[0].first_frame >= options_.settle_frames || is_full();
      if (!due && !(heard && all_begin_with(best.tokens[0].id))) break;
      settle_first(settled);
    }
    // The best has none left; another, full of what the best does not have, has no room to go on.
    std::erase_if(hypotheses_, [](const Hypothesis& h) { return h.pending == kMostPending; });
    const bool word_ends = std::all_of(hypotheses_.begin(), hypotheses_.end(), [&](const Hypothesis& h) {
      return h.pending > 0 && tokenizer_.piece(h.tokens[0].id).starts_word;
    });
    if (word_ends) words_.close(hypotheses_.front().tokens[0].first_frame, settled);
  }

  // The last words have come to their ends: of the hypotheses only the best one stays.
  void end_words() {
    const auto best = std::max_element(
        hypotheses_.begin(), hypotheses_.end(),
        [](const Hypothesis& a, const Hypothesis& b) { return a.total() + a.ending < b.total() + b.ending; });
    if (best != hypotheses_.begin()) copy(*best, hypotheses_.front());
    hypotheses_.resize(1);
  }

  bool all_begin_with(std::int32_t token) const noexcept {
    return std::all_of(hypotheses_.begin(), hypotheses_.end(),
                       [&](const Hypothesis& h) { return h.pending > 0 && h.tokens[0].id == token; });
  }

  bool is_full() const noexcept {
    return std::any_of(hypotheses_.begin(), hypotheses_.end(),
                       [](const Hypothesis& h) { return h.pending == kMostPending; });
  }

  // The best hypothesis's first token is settled, and what began otherwise is given up.
  void settle_first(std::vector<Word>& settled) {
    const HeardToken token = hypotheses_.front().tokens[0];
    std::erase_if(hypotheses_,
                  [&](const Hypothesis& h) { return h.pending == 0 || h.tokens[0].id != token.id; });
    for (Hypothesis& hypothesis : hypotheses_) {
      hypothesis.pending -= 1;
      std::memmove(hypothesis.tokens.data(), hypothesis.tokens.data() + 1,
                   static_cast<std::size_t>(hypothesis.pending) * sizeof(HeardToken));
    }
    words_.take(token, settled);
  }

  // Bonuses of phrases that have not come to their end are taken back.
  void forget_hotwords() noexcept {
    if (hotwords_ == nullptr) return;
    for (Hypothesis& hypothesis : hypotheses_) {
      hypothesis.bonus -= options_.hotword_weight * hotwords_->pending(hypothesis.hot);
      hypothesis.hot = Hotwords::kNothing;
    }
    std::sort(hypotheses_.begin(), hypotheses_.end(),
              [](const Hypothesis& a, const Hypothesis& b) { return a.total() > b.total(); });
  }

  const Tokenizer& tokenizer_;
  const NGram* lm_;
  const WordModel* lexicon_;
  const Hotwords* hotwords_ = nullptr;
  const BeamOptions options_;
  std::vector<float> off_;  // (vocab) added to a frame's log probabilities
  const std::int32_t vocab_;
  const std::int32_t blank_;

  // The state.
  std::vector<Hypothesis> hypotheses_;  // at least one, the best first
  std::int64_t blanks_ = 0;             // so many frames since the last whose best token has text
  WordBuilder words_;

  // Working memory of a frame.
  std::vector<float> heard_;  // (vocab) the frame's log probabilities without the priors
  std::vector<Hypothesis> next_;
  std::vector<Candidate> candidates_;
  std::vector<std::int32_t> order_;                    // of candidates_, the best first
  std::vector<std::int32_t> tried_;                    // tokens
  std::array<double, BeamOptions::kMostBeam> both_{};  // (hypotheses): blank and token added up
  mutable std::string text_;                           // tentative()'s
};

}  // namespace

std::unique_ptr<Decoder> make_beam_search_decoder(const ModelConfig& config, const Tokenizer& tokenizer,
                                                  const BeamModels& models, const BeamOptions& options) {
  return std::make_unique<BeamSearchDecoder>(config, tokenizer, models, options);
}

}  // namespace sidewinder
