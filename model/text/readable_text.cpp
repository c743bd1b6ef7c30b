#include "model/text/readable_text.h"

#include <algorithm>
#include <utility>

#include "model/text/numbers.h"

namespace sidewinder {
namespace {

constexpr std::size_t kLongestNumber = 24;  // words; a longer row of figures goes on as the next
// Letters. Longer words in capitals are headings, in the text that models learn from; nobody speaks one.
constexpr std::size_t kLongestAcronym = 5;

void capitalise(std::string& text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
}

// Before a name they are abbreviated. A recogniser may have learnt to spell them so, too.
struct Title {
  std::string_view said, spelt, written;
};
constexpr Title kTitles[] = {{"mister", "mr", "Mr."}, {"missus", "mrs", "Mrs."}};

const Title* title_of(std::string_view word) {
  const auto* found =
      std::ranges::find_if(kTitles, [&](const Title& t) { return word == t.said || word == t.spelt; });
  return found == std::end(kTitles) ? nullptr : found;
}

std::string in_casing(std::string text, Casing casing) {
  if (casing == Casing::Capitals)
    for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  else if (casing == Casing::Capitalised)
    capitalise(text);
  return text;
}

}  // namespace

TextOptions text_options(TextStyle style, const ModelConfig& config) {
  // The decoder moves where words begin and end, so that between them lies less or more than the blanks.
  return {.numbers = style == TextStyle::Numbers || style == TextStyle::Readable,
          .pause_samples = std::int64_t{kTextPauseMs} * config.sample_rate / 1000 + config.words.begin_shift -
                           config.words.end_shift};
}

std::unique_ptr<Punctuator> make_punctuator(TextStyle style, const std::filesystem::path& model) {
  const bool punctuated = style == TextStyle::Punctuated || style == TextStyle::Readable;
  return punctuated ? make_punctuator(model / "punctuation") : nullptr;
}

TextToken plain_token(const Word& word) {
  return {word.text, Mark::None, {word}};
}

ReadableText::ReadableText(Punctuator* punctuator, const TextOptions& options)
    : punctuator_(punctuator), options_(options) {
  reset();
}

void ReadableText::reset() {
  state_ = {};
  if (punctuator_ != nullptr) state_.punctuation = punctuator_->fresh();
}

bool ReadableText::fits(const State& state) const noexcept {
  const bool punctuated = punctuator_ != nullptr
                              ? punctuator_->fits(state.punctuation, state.undecided.size())
                              : state.undecided.empty() && state.punctuation.blocks.empty();
  return punctuated && state.number.size() < kLongestNumber;
}

void ReadableText::hear(std::span<const Word> words, std::vector<TextToken>& decided) {
  std::size_t first = 0;  // of those that follow each other without a pause
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!state_.paused && words[i].begin - state_.last_end >= options_.pause_samples) {
      hear_together(words.subspan(first, i - first), decided);
      pause(decided);
      first = i;
    }
    state_.last_end = words[i].end;
    state_.paused = false;
  }
  hear_together(words.subspan(first), decided);
}

void ReadableText::pause(std::vector<TextToken>& decided) {
  if (state_.paused) return;
  state_.paused = true;
  if (punctuator_ != nullptr) {
    punctuator_->pause(state_.punctuation, styles_);
    take_styles(decided);
  }
  close_number(decided);
}

void ReadableText::hear_together(std::span<const Word> words, std::vector<TextToken>& decided) {
  if (punctuator_ == nullptr) {
    for (const Word& word : words) take({word, {}}, decided);
    return;
  }
  std::vector<std::string_view> texts;
  for (const Word& word : words) {
    state_.undecided.push_back(word);
    const Title* title = title_of(word.text);
    texts.push_back(title != nullptr ? title->said : std::string_view(word.text));
  }
  punctuator_->hear(state_.punctuation, texts, styles_);
  take_styles(decided);
}

void ReadableText::take_styles(std::vector<TextToken>& decided) {
  for (WordStyle style : styles_) {
    Word word = std::move(state_.undecided.front());
    state_.undecided.pop_front();
    if (style.casing == Casing::Capitals && word.text.size() > kLongestAcronym)
      style.casing = Casing::Capitalised;
    if (word.text == "i" || word.text.starts_with("i'")) style.casing = Casing::Capitalised;
    take({std::move(word), style}, decided);
  }
  styles_.clear();
}

void ReadableText::take(Styled styled, std::vector<TextToken>& decided) {
  const std::string& text = styled.word.text;
  const bool part =
      options_.numbers && (state_.number.empty() ? may_begin_number(text) : may_continue_number(text));
  if (!part) {
    close_number(decided);
    const Title* title = options_.numbers ? title_of(text) : nullptr;
    const bool before_a_name = styled.style.casing != Casing::Lower && styled.style.mark == Mark::None;
    std::string written = title != nullptr && before_a_name ? std::string(title->written)
                                                            : in_casing(text, styled.style.casing);
    write({&styled, 1}, std::move(written), decided);
    return;
  }
  const Mark mark = styled.style.mark;
  const bool goes_on = mark == Mark::None || (mark == Mark::Comma && is_scale(text));
  state_.number.push_back(std::move(styled));
  if (!goes_on || state_.number.size() == kLongestNumber) close_number(decided);
}

// Words that might have been a number: numbers where they are, words elsewhere.
void ReadableText::close_number(std::vector<TextToken>& decided) {
  std::vector<std::string_view> texts;
  for (const Styled& styled : state_.number) texts.push_back(styled.word.text);
  for (std::size_t at = 0; at < texts.size();) {
    const auto number = read_number(std::span(texts).subspan(at), state_.before);
    const std::size_t count = number ? number->words : 1;
    std::span<Styled> part = std::span(state_.number).subspan(at, count);
    write(part, number ? number->text : in_casing(part[0].word.text, part[0].style.casing), decided);
    at += count;
  }
  state_.number.clear();
}

void ReadableText::write(std::span<Styled> styled, std::string text, std::vector<TextToken>& decided) {
  const Styled& last = styled.back();
  if (punctuator_ != nullptr && state_.sentence_begins) capitalise(text);
  state_.sentence_begins = ends_sentence(last.style.mark);
  // Only as a name: "you may first" is no date.
  const bool is_verb =
      (last.word.text == "may" || last.word.text == "march") && last.style.casing == Casing::Lower;
  state_.before = is_verb ? std::string() : last.word.text;
  TextToken token{std::move(text), last.style.mark, {}};
  token.text += to_text(token.mark);
  for (Styled& each : styled) token.words.push_back(std::move(each.word));
  decided.push_back(std::move(token));
}

}  // namespace sidewinder
