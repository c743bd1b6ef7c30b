// The beam search against counting every alignment; its language model, hotwords and settings.
#include <cmath>
#include <fstream>
#include <map>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/decoding.h"
#include "model/error.h"
#include "model/hotwords.h"
#include "tests/unit/bytes.h"
#include "tests/unit/support.h"

namespace sidewinder::test {
namespace {

// A model of four pieces: a blank, and words of one letter.
constexpr int kVocab = 4;

ModelConfig tiny_config() {
  ModelConfig config = default_model().config;
  config.vocab_size = kVocab;
  config.words = {};  // times and confidences as they are
  return config;
}

std::filesystem::path scratch(const std::string& name) {
  return std::filesystem::path(testing::TempDir()) / ("decoder_test_" + name);
}

Tokenizer make_tokenizer(const std::string& name, const std::vector<std::string>& pieces) {
  const auto file = scratch(name);
  std::ofstream out(file);
  for (std::size_t i = 0; i < pieces.size(); ++i) out << pieces[i] << ' ' << i << '\n';
  out.close();
  return {file, static_cast<int>(pieces.size())};
}

struct Frames {
  int vocab = kVocab;
  std::vector<std::int32_t> tokens;
  std::vector<float> scores;
  std::vector<float> log_probs;  // (frames, vocab)

  std::size_t size() const { return tokens.size(); }

  void add(std::vector<double> weights) {
    double sum = 0;
    for (double w : weights) sum += w;
    for (double w : weights) log_probs.push_back(static_cast<float>(std::log(w / sum)));
    const auto best = std::max_element(weights.begin(), weights.end());
    tokens.push_back(static_cast<std::int32_t>(best - weights.begin()));
    scores.push_back(static_cast<float>(std::log(*best / sum)));
  }

  StreamOutput part(std::size_t begin, std::size_t count) const {
    return {.first_frame = static_cast<std::int64_t>(begin),
            .frames = static_cast<std::uint32_t>(count),
            .tokens = tokens.data() + begin,
            .scores = scores.data() + begin,
            .log_probs = log_probs.data() + begin * static_cast<std::size_t>(vocab)};
  }
};

Frames random_frames(std::mt19937& random, std::size_t count, int vocab) {
  std::exponential_distribution<double> weight;
  Frames frames{.vocab = vocab, .tokens = {}, .scores = {}, .log_probs = {}};
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<double> weights(static_cast<std::size_t>(vocab));
    for (double& w : weights) w = 1e-3 + weight(random);
    weights[0] += static_cast<double>(random() % 2);  // blanks are common
    frames.add(weights);
  }
  return frames;
}

std::string text_of(const std::vector<Word>& words) {
  std::string text;
  for (const Word& word : words) text += (text.empty() ? "" : " ") + word.text;
  return text;
}

std::string decode(Decoder& decoder, const Frames& frames) {
  std::vector<Word> words;
  decoder.advance(frames.part(0, frames.size()), words);
  decoder.finish(words);
  return text_of(words);
}

// Log probability of every row of tokens: all alignments, one by one.
std::map<std::vector<int>, double> all_rows(const Frames& frames) {
  std::map<std::vector<int>, double> rows;
  std::vector<int> path(frames.size(), 0);
  const int vocab = frames.vocab;
  while (true) {
    double p = 0;
    std::vector<int> row;
    for (std::size_t t = 0; t < path.size(); ++t) {
      p += frames.log_probs[t * static_cast<std::size_t>(vocab) + static_cast<std::size_t>(path[t])];
      if (path[t] != 0 && (t == 0 || path[t] != path[t - 1])) row.push_back(path[t]);
    }
    auto [at, added] = rows.try_emplace(row, -1e30);
    at->second = std::max(at->second, p) + std::log1p(std::exp(-std::abs(at->second - p)));
    std::size_t t = 0;
    while (t < path.size() && ++path[t] == vocab) path[t++] = 0;
    if (t == path.size()) return rows;
  }
}

std::vector<int> best_tokens(const std::map<std::vector<int>, double>& rows, const auto& bonus) {
  double best = -1e30;
  std::vector<int> most;
  for (const auto& [row, p] : rows)
    if (p + bonus(row) > best) {
      best = p + bonus(row);
      most = row;
    }
  return most;
}

std::string best_row(const std::map<std::vector<int>, double>& rows, const auto& bonus) {
  std::string text;
  for (int token : best_tokens(rows, bonus))
    text += std::string(text.empty() ? "" : " ") + static_cast<char>('a' + token - 1);
  return text;
}

// Nothing is dropped and nothing settled before the end.
BeamOptions exhaustive() {
  return {.beam = 64,
          .frame_tokens = 64,
          .token_threshold = 100,
          .beam_threshold = 100,
          .pause_frames = 100,
          .settle_frames = 100};
}

const std::vector<std::string> kLetters{"<blank>", "\u2581A", "\u2581B", "\u2581C"};

TEST(BeamSearch, FindsTheRowOfTokensWithTheMostProbability) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  std::mt19937 random(1);
  int differs = 0;
  for (int trial = 0; trial < 100; ++trial) {
    const Frames frames = random_frames(random, 3, kVocab);  // 40 rows at most: they all fit into the beam
    const auto rows = all_rows(frames);
    for (float bonus : {0.0f, 0.7f}) {
      BeamOptions options = exhaustive();
      options.token_bonus = bonus;
      const auto decoder = make_beam_search_decoder(tiny_config(), tokenizer, {}, options);
      const std::string expected = best_row(
          rows, [&](const std::vector<int>& row) { return bonus * static_cast<double>(row.size()); });
      EXPECT_EQ(decode(*decoder, frames), expected) << "trial " << trial;
      differs += expected != decode(*make_best_path_decoder(tiny_config(), tokenizer), frames);
    }
  }
  EXPECT_GT(differs, 20) << "the best path would have passed too";
}

// ---- the language model

// One n-gram of a model under test; natural logs.
struct Gram {
  std::vector<int> tokens;
  double log_prob;
  double backoff;
};

// As model/training/lm/pack.py writes it. `grams` by length, then by tokens, every prefix and single token
// listed. words: of a model over words, their hashes.
std::filesystem::path write_lm(const std::string& name, const std::vector<Gram>& grams,
                               const std::map<std::string, Bytes>& instead = {},
                               const std::vector<std::int64_t>& words = {}) {
  const std::size_t nodes = grams.size() + 1;
  auto find = [&](const std::vector<int>& tokens) {
    for (std::size_t i = 0; i < grams.size(); ++i)
      if (grams[i].tokens == tokens) return static_cast<std::int32_t>(i + 1);
    return 0;
  };
  std::vector<std::int16_t> tokens(nodes);
  std::vector<std::int32_t> first(nodes + 1, 1), suffix(nodes);
  std::vector<std::uint8_t> log_probs(nodes), backoffs(nodes);
  std::vector<float> log_prob_values(256), backoff_values(256);
  for (std::size_t i = 1; i < nodes; ++i) {
    const Gram& gram = grams[i - 1];
    tokens[i] = static_cast<std::int16_t>(gram.tokens.back());
    std::vector<int> tail(gram.tokens.begin() + 1, gram.tokens.end());
    while (!tail.empty() && find(tail) == 0) tail.erase(tail.begin());
    suffix[i] = find(tail);
    log_probs[i] = backoffs[i] = static_cast<std::uint8_t>(i);
    log_prob_values[i] = static_cast<float>(gram.log_prob);
    backoff_values[i] = static_cast<float>(gram.backoff);
    const std::vector<int> parent(gram.tokens.begin(), gram.tokens.end() - 1);
    for (std::size_t after = static_cast<std::size_t>(find(parent)) + 1; after <= nodes; ++after)
      first[after] += 1;
  }
  auto bytes = [](const auto& values) {
    return Bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  std::map<std::string, std::pair<std::string, Bytes>> tensors{
      {"first_child", {"I32", bytes(first)}},
      {"suffix", {"I32", bytes(suffix)}},
      {"log_prob_values", {"F32", bytes(log_prob_values)}},
      {"backoff_values", {"F32", bytes(backoff_values)}},
      {"tokens", {"I16", bytes(tokens)}},
      {"log_probs", {"U8", bytes(log_probs)}},
      {"backoffs", {"U8", bytes(backoffs)}}};
  if (!words.empty()) {
    tensors["words"] = {"I64", bytes(words)};
    tensors["tokens"].first = "U16";
  }
  for (const auto& [tensor, value] : instead) tensors.at(tensor).second = value;
  const std::map<std::string, std::size_t> sizes{{"I64", 8}, {"I32", 4}, {"F32", 4},
                                                 {"I16", 2}, {"U16", 2}, {"U8", 1}};
  nlohmann::ordered_json header;
  Bytes data;
  for (const char* tensor : {"words", "first_child", "suffix", "log_prob_values", "backoff_values", "tokens",
                             "log_probs", "backoffs"}) {
    if (!tensors.contains(tensor)) continue;
    const auto& [type, content] = tensors.at(tensor);
    header[tensor] = {{"dtype", type},
                      {"shape", {content.size() / sizes.at(type)}},
                      {"data_offsets", {data.size(), data.size() + content.size()}}};
    data += content;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto file = scratch(name);
  std::ofstream(file, std::ios::binary) << little<std::uint64_t>(text.size()) << text << data;
  return file;
}

const std::vector<Gram> kGrams{{{1}, -1.0, -0.5},    {{2}, -1.5, -0.25}, {{3}, -0.8, -0.125},
                               {{1, 2}, -0.3, -0.7}, {{2, 1}, -2.0, 0},  {{2, 3}, -0.4, -0.2},
                               {{1, 2, 3}, -0.1, 0}};

// log p(token | the row before it), from the definition of back-off.
double expected_log_prob(std::vector<int> row, int token) {
  auto find = [](const std::vector<int>& tokens) -> const Gram* {
    for (const Gram& gram : kGrams)
      if (gram.tokens == tokens) return &gram;
    return nullptr;
  };
  if (row.size() > 2) row.erase(row.begin(), row.end() - 2);
  for (double backoff = 0;; row.erase(row.begin())) {
    std::vector<int> whole = row;
    whole.push_back(token);
    if (const Gram* gram = find(whole)) return backoff + gram->log_prob;
    if (const Gram* context = find(row)) backoff += context->backoff;
  }
}

TEST(NGram, IsBackOffAsInArpa) {
  const NGram lm(write_lm("lm", kGrams), kVocab);
  std::mt19937 random(2);
  NGram::State state = NGram::kEmpty;
  std::vector<int> row;
  for (int i = 0; i < 500; ++i) {
    const int token = 1 + static_cast<int>(random() % 3);
    EXPECT_NEAR(lm.score(state, token, state), expected_log_prob(row, token), 1e-6) << "step " << i;
    row.push_back(token);
  }
}

TEST(NGram, DamagedFilesAreRefused) {
  const std::int32_t wrong_suffix[8] = {0, 0, 0, 0, 7, 0, 0, 0};
  const std::int32_t wrong_child[9] = {1, 4, 5, 7, 7, 9, 8, 8, 8};
  const std::int16_t wrong_token[8] = {0, 1, 2, 9, 2, 1, 3, 3};
  const std::int16_t unsorted[8] = {0, 2, 1, 3, 2, 1, 3, 3};
  auto bytes = [](const auto& values) {
    return Bytes(reinterpret_cast<const char*>(values), sizeof(values));
  };
  for (const auto& [tensor, content] :
       std::vector<std::pair<std::string, Bytes>>{{"suffix", bytes(wrong_suffix)},
                                                  {"first_child", bytes(wrong_child)},
                                                  {"tokens", bytes(wrong_token)},
                                                  {"tokens", bytes(unsorted)},
                                                  {"backoffs", Bytes(3, '\0')},
                                                  {"log_prob_values", Bytes(1024, '\xff')}})
    EXPECT_THROW(NGram(write_lm("bad_lm", kGrams, {{tensor, content}}), kVocab), ModelError) << tensor;
  EXPECT_THROW(NGram(scratch("none"), kVocab), ModelError);
}

TEST(BeamSearch, WeighsTheLanguageModelTokenByToken) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  const NGram lm(write_lm("lm", kGrams), kVocab);
  std::mt19937 random(3);
  int differs = 0;
  for (int trial = 0; trial < 100; ++trial) {
    const Frames frames = random_frames(random, 3, kVocab);
    const auto rows = all_rows(frames);
    BeamOptions options = exhaustive();
    options.lm_weight = 0.8f;
    options.word_bonus = 1.1f;
    auto bonus = [&](const std::vector<int>& row) {
      double sum = 0;
      for (std::size_t i = 0; i < row.size(); ++i)
        sum += 1.1 +
               0.8 * expected_log_prob({row.begin(), row.begin() + static_cast<std::ptrdiff_t>(i)}, row[i]);
      return sum;
    };
    const auto decoder = make_beam_search_decoder(tiny_config(), tokenizer, {.pieces = &lm}, options);
    EXPECT_EQ(decode(*decoder, frames), best_row(rows, bonus)) << "trial " << trial;
    differs += best_row(rows, bonus) != best_row(rows, [](const auto&) { return 0.0; });
  }
  EXPECT_GT(differs, 20) << "the language model changed nothing";
}

// ---- the model over words

const std::vector<std::string> kSyllables{"<blank>", "\u2581A", "B", "\u2581C"};

// The hashes of A and AB in order, and which word each is. C is no word.
std::vector<std::int64_t> two_words(std::map<std::string, int>& token) {
  std::map<std::int64_t, std::string> by_hash;
  for (const char* word : {"a", "ab"})
    by_hash[static_cast<std::int64_t>(WordModel::extended(WordModel::kNoLetters, word))] = word;
  std::vector<std::int64_t> hashes;
  for (const auto& [hash, word] : by_hash) {
    hashes.push_back(hash);
    token[word] = static_cast<int>(hashes.size());
  }
  return hashes;
}

TEST(WordModel, TakesWordsPieceByPieceAndForgetsAtAnUnknownOne) {
  EXPECT_EQ(WordModel::extended(WordModel::kNoLetters, "a"),
            0xaf63dc4c8601ec8cu);  // FNV-1a's published value
  EXPECT_EQ(WordModel::extended(WordModel::extended(WordModel::kNoLetters, "foo"), "bar"),
            0x85944171f73967e8u);
  std::map<std::string, int> token;
  const WordModel words(write_lm("words", kGrams, {}, two_words(token)));
  WordModel::State state = WordModel::kEmpty;
  std::mt19937 random(4);
  std::vector<int> row;
  for (int i = 0; i < 300; ++i) {
    const char* word = std::vector{"a", "ab", "c"}[random() % 3];
    const float score = words.score(state, WordModel::extended(WordModel::kNoLetters, word), state);
    if (!token.contains(word)) {
      EXPECT_EQ(score, -std::numeric_limits<float>::infinity());
      EXPECT_EQ(state, WordModel::kEmpty);
      row.clear();
    } else {
      EXPECT_NEAR(score, expected_log_prob(row, token[word]), 1e-6) << "step " << i;
      row.push_back(token[word]);
    }
  }
}

TEST(WordModel, DamagedFilesAreRefused) {
  std::map<std::string, int> token;
  const std::vector<std::int64_t> words = two_words(token);
  EXPECT_THROW(WordModel(write_lm("bad_words", kGrams)), ModelError) << "no words";
  EXPECT_THROW(WordModel(write_lm("bad_words", kGrams, {}, {words[1], words[0]})), ModelError)
      << "not sorted";
  EXPECT_THROW(WordModel(write_lm("bad_words", kGrams, {}, {words[0], words[0]})), ModelError) << "twice";
  EXPECT_THROW(WordModel(write_lm("bad_words", kGrams, {}, {words[0]})), ModelError) << "a token too many";
}

TEST(BeamSearch, MixesTheModelsAtAWordsEnd) {
  const Tokenizer tokenizer = make_tokenizer("syllables", kSyllables);
  std::map<std::string, int> token;
  const NGram lm(write_lm("lm", kGrams), kVocab);
  const WordModel words(write_lm("words", kGrams, {}, two_words(token)));
  BeamOptions options = exhaustive();
  options.lm_weight = 0.8f;
  options.token_bonus = 1.1f;
  options.word_share = 0.75f;

  // The words of a row of tokens, and the bonus of it: by the definition, word by word.
  auto words_of = [&](const std::vector<int>& row) {
    std::vector<std::string> result;
    for (const int id : row) {
      const Tokenizer::Piece& piece = tokenizer.piece(id);
      if (piece.starts_word || result.empty()) result.emplace_back();
      result.back() += piece.text;
    }
    return result;
  };
  auto bonus = [&](const std::vector<int>& row, bool mixed) {
    double sum = 1.1 * static_cast<double>(row.size());
    std::size_t at = 0;
    std::vector<int> before;
    for (const std::string& word : words_of(row)) {
      double spelled = 0;
      for (std::size_t i = 0; i < word.size(); ++i, ++at)
        spelled += expected_log_prob({row.begin(), row.begin() + static_cast<std::ptrdiff_t>(at)}, row[at]);
      const bool known = token.contains(word);
      const double p = known ? std::exp(expected_log_prob(before, token[word])) : 0;
      sum += 0.8 * (mixed ? std::log(0.25 * std::exp(spelled) + 0.75 * p) : spelled);
      known ? before.push_back(token[word]) : before.clear();
    }
    return sum;
  };

  std::mt19937 random(5);
  int differs = 0;
  for (int trial = 0; trial < 200; ++trial) {
    const Frames frames = random_frames(random, 3, kVocab);
    const auto rows = all_rows(frames);
    const auto best = best_tokens(rows, [&](const auto& row) { return bonus(row, true); });
    std::string expected;
    for (const std::string& word : words_of(best)) expected += (expected.empty() ? "" : " ") + word;
    const auto decoder =
        make_beam_search_decoder(tiny_config(), tokenizer, {.pieces = &lm, .words = &words}, options);
    EXPECT_EQ(decode(*decoder, frames), expected) << "trial " << trial;
    differs += best != best_tokens(rows, [&](const auto& row) { return bonus(row, false); });
  }
  EXPECT_GT(differs, 20) << "the model over words changed nothing";
}

// ---- priors

TEST(BeamSearch, TakesPriorsOff) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  const std::vector<float> log_priors{std::log(1e-9f), std::log(0.7f), std::log(0.2f), std::log(0.1f)};
  double mean = 0;
  for (std::size_t id = 1; id < 4; ++id) mean += std::exp(log_priors[id]) * log_priors[id];
  std::mt19937 random(6);
  int differs = 0;
  for (int trial = 0; trial < 100; ++trial) {
    const Frames frames = random_frames(random, 3, kVocab);
    Frames without = frames;  // the same with every letter's part taken off, by the definition
    for (std::size_t i = 0; i < without.log_probs.size(); ++i)
      if (i % kVocab != 0) without.log_probs[i] += static_cast<float>(0.5 * (mean - log_priors[i % kVocab]));
    BeamOptions options = exhaustive();
    options.prior_weight = 0.5f;
    const auto decoder =
        make_beam_search_decoder(tiny_config(), tokenizer, {.log_priors = log_priors}, options);
    const auto nothing = [](const auto&) { return 0.0; };
    EXPECT_EQ(decode(*decoder, frames), best_row(all_rows(without), nothing)) << "trial " << trial;
    differs += best_row(all_rows(without), nothing) != best_row(all_rows(frames), nothing);
  }
  EXPECT_GT(differs, 10) << "the priors changed nothing";
}

TEST(Decoding, PriorsAreChecked) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  DecodingConfig config;
  config.kind = DecoderKind::Beam;
  config.prior = "prior.json";
  const auto folder = scratch("priors");
  std::filesystem::create_directories(folder);
  auto write = [&](const char* text) { std::ofstream(folder / config.prior) << text; };
  write(R"({"counts": [0, 7, 2, 1]})");
  const Decoding with(config, folder, tiny_config(), tokenizer);
  write(R"({"counts": [0, 7, 1, 2]})");
  EXPECT_NE(with.identity(), Decoding(config, folder, tiny_config(), tokenizer).identity());
  for (const char* bad :
       {"[]", "{}", R"({"counts": 1})", R"({"counts": [0, 7, 2]})", R"({"counts": [0, 7, 2, -1]})",
        R"({"counts": [0, 7, 2, "1"]})", R"({"counts": [0, 7, 2, 1], "sum": 10})"}) {
    write(bad);
    EXPECT_THROW(Decoding(config, folder, tiny_config(), tokenizer), ModelError) << bad;
  }
}

// ---- settling

TEST(BeamSearch, SettlesWhatAllAgreeOnAndDecidesTheRestInTime) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  BeamOptions options{.beam = 8, .settle_frames = 5};
  const auto decoder = make_beam_search_decoder(tiny_config(), tokenizer, {}, options);
  Frames frames;
  frames.add({1e-9, 1, 1e-9, 1e-9});  // an A, no doubt
  frames.add({1, 1e-9, 1e-9, 1e-9});
  frames.add({1e-9, 1e-9, 1, 0.9});                              // B or C
  for (int i = 0; i < 9; ++i) frames.add({1, 1e-9, 0.5, 1e-9});  // and B's that might be
  std::vector<Word> words;
  std::vector<std::size_t> settled;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    decoder->advance(frames.part(i, 1), words);
    settled.push_back(words.size());
  }
  EXPECT_EQ(settled[1], 0u);  // it may go on
  EXPECT_EQ(settled[2], 1u);  // whatever comes, it begins another word
  EXPECT_EQ(words[0].text, "a");
  decoder->finish(words);
  EXPECT_TRUE(text_of(words).starts_with("a b"));
}

TEST(BeamSearch, TimesAndConfidencesAreThoseOfTheBestAlignment) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  const auto decoder = make_beam_search_decoder(tiny_config(), tokenizer, {}, {});
  Frames frames;
  frames.add({1, 1e-3, 1e-6, 1e-6});  // a first, unlikely hint of A
  frames.add({1, 1e-6, 1e-6, 1e-6});
  frames.add({0.2, 0.8, 1e-6, 1e-6});
  frames.add({0.1, 0.9, 1e-6, 1e-6});
  frames.add({1, 1e-6, 1e-6, 1e-6});
  std::vector<Word> words;
  decoder->advance(frames.part(0, 5), words);
  EXPECT_EQ(decoder->tentative().text, "a");
  decoder->finish(words);
  ASSERT_EQ(words.size(), 1u);
  EXPECT_EQ(words[0].begin, 2 * 640 + 360);
  EXPECT_EQ(words[0].end, 4 * 640 + 360);
  EXPECT_NEAR(words[0].confidence, 0.9, 1e-3);
}

TEST(BeamSearch, AWordCutByFinishGoesOnInTheNext) {
  const Tokenizer tokenizer = make_tokenizer("pieces", {"<blank>", "\u2581SUN", "NY", "\u2581DAY"});
  for (auto kind : {DecoderKind::BestPath, DecoderKind::Beam}) {
    DecodingConfig config;
    config.kind = kind;
    const Decoding decoding(config, {}, tiny_config(), tokenizer);
    const auto decoder = decoding.make();
    Frames frames;
    frames.add({0, 1, 0, 0});
    frames.add({1, 0, 0, 0});
    frames.add({0, 0, 1, 0});
    frames.add({0, 0, 0, 1});
    for (float& p : frames.log_probs) p = std::max(p, -30.0f);
    std::vector<Word> words;
    decoder->advance(frames.part(0, 2), words);
    decoder->finish(words);
    decoder->advance(frames.part(2, 2), words);
    decoder->finish(words);
    ASSERT_EQ(words.size(), 3u);
    EXPECT_EQ(words[0].text, "sun");
    EXPECT_EQ(words[1].text, "ny");
    EXPECT_FALSE(words[0].continues);
    EXPECT_TRUE(words[1].continues);
    EXPECT_FALSE(words[2].continues);
  }
}

// ---- the default model

struct Heard {
  Frames frames;
  explicit Heard(const std::string& clip) {
    frames.vocab = default_model().config.vocab_size;
    const auto samples = read_clip(clip);
    auto engine = make_cpu_engine(
        default_model(), {.max_samples = static_cast<std::uint32_t>(samples.size()), .want_log_probs = true});
    const StreamInput input{0, samples, true};
    StreamOutput out;
    engine->reset(0);
    engine->step({&input, 1}, {&out, 1});
    frames.tokens.assign(out.tokens, out.tokens + out.frames);
    frames.scores.assign(out.scores, out.scores + out.frames);
    frames.log_probs.assign(out.log_probs,
                            out.log_probs + out.frames * static_cast<std::size_t>(frames.vocab));
  }
};

const Frames& speech() {
  static const Heard heard("northanger.flac");
  return heard.frames;
}

const Tokenizer& default_tokenizer() {
  static const Tokenizer tokenizer(default_model_folder() / "tokens.txt", default_model().config.vocab_size);
  return tokenizer;
}

Decoding beam_decoding() {
  return {default_model_folder(),
          default_model().config,
          default_tokenizer(),
          {.kind = DecoderKind::Beam, .stability = {}}};
}

std::uint64_t hash_words(const std::vector<Word>& words) {
  std::uint64_t hash = 1;
  for (const Word& word : words) {
    hash = hash_bits(std::span<const char>(word.text), hash);
    const std::int64_t place[2] = {word.begin, word.end};
    hash = hash_bits(std::span<const std::int64_t>(place), hash);
    hash = hash_bits(std::span<const float>(&word.confidence, 1), hash);
  }
  return hash;
}

const std::vector<Hotword> kPhrases{{"Catherine Morland"}, {"heroine", 2}, {"infancy"}, {"zebra"}};

TEST(BeamSearch, SameBitsForAnyChunksAndAfterAnyRestart) {
  const Decoding decoding = beam_decoding();
  const Hotwords hotwords(kPhrases, default_tokenizer(), "test");
  const Frames& frames = speech();
  for (const Hotwords* favoured : {static_cast<const Hotwords*>(nullptr), &hotwords}) {
    auto whole = decoding.make();
    whole->set_hotwords(favoured);
    std::vector<Word> expected;
    whole->advance(frames.part(0, frames.size()), expected);
    whole->finish(expected);
    ASSERT_GT(expected.size(), 5u);
    for (std::size_t chunk : {1, 2, 4, 8, 48}) {
      auto decoder = decoding.make();
      decoder->set_hotwords(favoured);
      std::vector<Word> words;
      std::vector<std::byte> state(decoder->state_bytes());
      for (std::size_t at = 0; at < frames.size(); at += chunk) {
        decoder->advance(frames.part(at, std::min(chunk, frames.size() - at)), words);
        if (at / chunk % 5 != 0) continue;
        // The process ends here, and another goes on.
        decoder->save(state);
        decoder = decoding.make();
        decoder->set_hotwords(favoured);
        decoder->load(state);
        std::vector<std::byte> again(state.size());
        decoder->save(again);
        EXPECT_EQ(again, state);
      }
      decoder->finish(words);
      EXPECT_EQ(hash_words(words), hash_words(expected)) << "chunks of " << chunk << " frames";
    }
  }
}

TEST(BeamSearch, AStateWithOtherHotwordsIsTakenWithoutThem) {
  const Decoding decoding = beam_decoding();
  const Hotwords hotwords(kPhrases, default_tokenizer(), "test");
  const Hotwords other(std::vector<Hotword>{{"zzz"}}, default_tokenizer(), "test");
  const Frames& frames = speech();
  auto decoder = decoding.make();
  decoder->set_hotwords(&hotwords);
  std::vector<Word> words;
  std::vector<std::byte> state(decoder->state_bytes());
  for (std::size_t at = 0; at < frames.size(); ++at) {
    decoder->advance(frames.part(at, 1), words);
    decoder->save(state);
    if (at % 10 != 0) continue;
    std::vector<Word> with_other, with_none;
    for (auto [list, rest] :
         {std::pair{&other, &with_other}, {static_cast<const Hotwords*>(nullptr), &with_none}}) {
      auto next = decoding.make();
      next->set_hotwords(list);
      next->load(state);  // the state's nodes are not in the other list's tree
      next->advance(frames.part(at + 1, std::min<std::size_t>(20, frames.size() - at - 1)), *rest);
      next->finish(*rest);
    }
    EXPECT_EQ(hash_words(with_other), hash_words(with_none)) << "after frame " << at;
  }
}

// ---- hotwords

TEST(Hotwords, CountWholePhrasesInWhateverPieces) {
  const Tokenizer pieces = make_tokenizer("hot", {"<blank>", "\u2581FAN", "NY", "\u2581F", "ANNY", "\u2581",
                                                  "PRICE", "\u2581PRICE", "S", "\u2581OF", "'"});
  const std::vector<Hotword> phrases{{"Fanny  Price"}, {"price", 2}, {"Fanny Price's fan"}, {"of fan"}};
  const Hotwords hotwords(phrases, pieces, "test");
  auto bonus = [&](const std::vector<int>& ids) {
    Hotwords::State state = Hotwords::kNothing;
    float sum = 0;
    for (int id : ids) sum += hotwords.advance(state, pieces.piece(id));
    return sum;
  };
  EXPECT_FLOAT_EQ(bonus({1}), 3);  // so far
  EXPECT_FLOAT_EQ(bonus({1, 2}), 5);
  EXPECT_FLOAT_EQ(bonus({3, 4}), 5);             // other pieces, the same letters
  EXPECT_FLOAT_EQ(bonus({1, 2, 9}), 2);          // not what followed; but OF may go on
  EXPECT_FLOAT_EQ(bonus({1, 2, 7, 9}), 10 + 2);  // earned, once
  EXPECT_FLOAT_EQ(bonus({1, 2, 5, 6, 9}), 10 + 2);
  EXPECT_FLOAT_EQ(bonus({1, 2, 7, 1, 9}), 10 + 2);  // FAN was not the end of the longer phrase
  EXPECT_FLOAT_EQ(bonus({7, 9}), 10 + 2);           // and OF begins another phrase
  EXPECT_FLOAT_EQ(bonus({7, 9, 7}), 10 + 10);       // which did not come
  EXPECT_FLOAT_EQ(bonus({7, 8, 9}), 2);             // PRICES is another word
  EXPECT_FLOAT_EQ(bonus({9, 7, 9, 7, 9}), 20 + 2);
  EXPECT_FLOAT_EQ(bonus({9, 1, 9}), 5 + 2);
  EXPECT_EQ(hotwords.phrases(), 4u);
}

TEST(Hotwords, BadListsAreRefusedByName) {
  auto message = [](const std::string& text) -> std::string {
    try {
      const auto phrases = parse_hotwords(text, "list");
      Hotwords(phrases, default_tokenizer(), "list");
      return "";
    } catch (const HotwordError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(message("# names\n\nFanny Price\r\nBath\t2.5\n"), "");
  EXPECT_NE(message("route 66\n").find("\"route 66\" has a digit; write numbers as words"),
            std::string::npos);
  EXPECT_NE(message("na\xc3\xafve\n").find("\"na??ve\""), std::string::npos);
  EXPECT_NE(message("Bath\tloud\n").find("list:1: \"loud\" is no number"), std::string::npos);
  EXPECT_NE(message("Bath\t0\n").find("the boost must be above 0"), std::string::npos);
  EXPECT_NE(message("Bath\t11\n").find("the boost must be above 0"), std::string::npos);
  EXPECT_NE(message("Bath\tnan\n").find("is no number"), std::string::npos);
  EXPECT_NE(message("\n#\n").find("no phrase"), std::string::npos);
  EXPECT_NE(message("\t2\n").find("an empty phrase"), std::string::npos);
  EXPECT_NE(message(std::string(101, 'a')).find("longer than 100 bytes"), std::string::npos);
  std::string many;
  for (int i = 0; i < 2001; ++i) many += "bath\n";
  EXPECT_NE(message(many).find("2001 phrases; at most 2000"), std::string::npos);
}

TEST(BeamSearch, HotwordsDecideAndCanBeChangedInMidStream) {
  const Tokenizer tokenizer = make_tokenizer("letters", kLetters);
  Frames frames;
  for (int i = 0; i < 3; ++i) {
    frames.add({0.01, 0.01, 0.6, 0.4});  // B rather than C
    for (int blank = 0; blank < 12; ++blank) frames.add({1, 1e-6, 1e-6, 1e-6});
  }
  const Hotwords hotwords(std::vector<Hotword>{{"c"}}, tokenizer, "test");
  const auto decoder = make_beam_search_decoder(tiny_config(), tokenizer, {}, {.hotword_weight = 1});
  std::vector<Word> words;
  decoder->advance(frames.part(0, 13), words);
  decoder->set_hotwords(&hotwords);
  decoder->advance(frames.part(13, 13), words);
  decoder->set_hotwords(nullptr);
  decoder->advance(frames.part(26, 13), words);
  decoder->finish(words);
  EXPECT_EQ(text_of(words), "b c b");
}

// ---- decoder.json

TEST(Decoding, SettingsAreChecked) {
  const DecodingConfig config = parse_decoding_config(
      R"({"decoder":"beam","lm":"x","words":"y","beam":{"beam":8,"lm_weight":0.5,"word_share":0.9},"stability":{"quick":{"settle_frames":10},"patient":{"pause_frames":25}}})",
      "test");
  EXPECT_EQ(config.kind, DecoderKind::Beam);
  EXPECT_EQ(config.beam.beam, 8);
  EXPECT_EQ(config.words, "y");
  EXPECT_EQ(config.beam.word_share, 0.9f);
  EXPECT_EQ(config.stability.at("quick").settle_frames, 10);
  EXPECT_EQ(config.stability.at("quick").beam, 8);
  EXPECT_EQ(config.stability.at("patient").pause_frames, 25);
  EXPECT_EQ(config.stability.at("patient").settle_frames, config.beam.settle_frames);
  for (const char* bad :
       {"", "[]", R"({"decoder":"fast"})", R"({"bean":{}})", R"({"beam":{"beam":0}})",
        R"({"beam":{"beam":65}})", R"({"beam":{"lm_weight":"1"}})", R"({"beam":{"width":1}})",
        R"({"words":"y"})", R"({"beam":{"word_share":1}})", R"({"stability":{"quick":10}})",
        R"({"stability":{"quick":{"settle_frames":101}}})", R"({"stability":{"quick":{"pause_frames":0}}})",
        R"({"stability":{"quick":{"beam":8}}})"})
    EXPECT_THROW(parse_decoding_config(bad, "test"), ModelError) << bad;
  EXPECT_THROW(Decoding(default_model_folder(), default_model().config, default_tokenizer(),
                        {.kind = {}, .stability = "none such"}),
               ModelError);
}

}  // namespace
}  // namespace sidewinder::test
