#include "daemon/live/stream_capsule.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <xxhash.h>

#include "daemon/live/protocol.h"
#include "tests/unit/support.h"

namespace sidewinder::live {
namespace {

constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kChecksumAt = 56;
constexpr std::size_t kHalf = 64'000;  // samples before the capsule

const Tokenizer& tokenizer() {
  static const Tokenizer pieces(test::default_model_folder() / "tokens.txt",
                                test::default_model().config.vocab_size);
  return pieces;
}

const Decoding& decoding() {
  static const Decoding made(test::default_model_folder(), test::default_model().config, tokenizer(),
                             {.kind = DecoderKind::Beam, .stability = {}});
  return made;
}

CapsuleHost host() {
  return {test::default_model().hash, test::default_model().config, decoding()};
}

const std::vector<Hotword> kHotwords{{"quilter", 3}, {"middle classes", 1.5f}};

// One stream, as the daemon has it: engine, readout, hotwords.
struct Running {
  std::unique_ptr<Engine> engine =
      make_cpu_engine(test::default_model(), {.max_samples = 30'720, .want_log_probs = true});
  Hotwords hotwords{kHotwords, tokenizer(), "test"};
  Readout readout{
      test::default_model().config, decoding(), {.silence_ms = 400, .detector = SilenceDetector::Both}};
  std::vector<Segment> segments;
  std::int64_t heard = 0;

  Running() {
    engine->reset(0);
    readout.set_hotwords(&hotwords);
  }

  void hear(std::span<const float> samples, bool end = false) {
    for (bool last = false; !last;) {
      const auto part = samples.first(std::min<std::size_t>(samples.size(), 2'560));
      samples = samples.subspan(part.size());
      last = samples.empty();
      const StreamInput input{0, part, end && last};
      StreamOutput output;
      engine->step({&input, 1}, {&output, 1});
      heard += static_cast<std::int64_t>(part.size());
      readout.hear(part);
      readout.advance(output, heard, segments);
    }
    if (end) readout.finish(heard, segments);
  }
};

const std::vector<float>& clip() {
  static const std::vector<float> samples = test::read_clip("quilter.flac");
  return samples;
}

StreamCapsule make_capsule() {
  Running running;
  running.hear(std::span(clip()).first(kHalf));
  StreamCapsule capsule;
  capsule.info = {.name = "talk",
                  .epoch = 1'795'336'800'000'000,
                  .file = {},
                  .format = "s16le",
                  .rate = 48'000,
                  .owner = "key"};
  capsule.next_seq = 17;
  // 48 kHz: the last outputs wait for inputs.
  const dsp::ResamplerFilter filter(48'000);
  while (capsule.resampler.outputs < kHalf) {
    const std::vector<float> in(3, 0.25f);
    std::vector<float> out(2);
    filter.process(capsule.resampler, in, out);
  }
  const ModelConfig& config = test::default_model().config;
  const auto given = static_cast<std::size_t>(config.frames_given(kHalf) * config.frame_hop());
  capsule.unread.assign(clip().begin() + static_cast<std::ptrdiff_t>(given), clip().begin() + kHalf);
  capsule.engine.resize(running.engine->capsule_bytes());
  running.engine->save(0, capsule.engine);
  capsule.readout = running.readout.state();
  capsule.told = {.partial_words = 2,
                  .partial_tentative = "mid",
                  .level_begin = 48'000,
                  .level_squares = 0.1,
                  .level_peak = 0.5f};
  capsule.hotwords = kHotwords;
  capsule.result_seqs = {1, 9, capsule.readout.open.number, 0, 4, 0, 0, 0};
  SegmentText::State text;
  text.text.before = "the";
  text.text.number = {{{"twenty", 100, 200, 0.5f, false}, {Casing::Lower, Mark::Comma}}};
  text.display = {"it", "$5", ""};
  text.heard = 4;
  text.ended = true;
  capsule.text = text;
  return capsule;
}

const std::vector<std::byte>& sealed() {
  static const std::vector<std::byte> bytes =
      seal(make_capsule(), test::default_model().hash, decoding().identity());
  return bytes;
}

// "": taken; else the reason of the refusal. Whatever else is thrown fails the test.
std::string reason_of(std::span<const std::byte> bytes, const CapsuleHost& by = host()) {
  try {
    unseal(bytes, by);
    return "";
  } catch (const Fault& fault) {
    EXPECT_FALSE(fault.message.empty());
    return fault.reason;
  }
}

// As if it had been saved so: length and checksum are right.
std::vector<std::byte> sealed_again(std::vector<std::byte> bytes) {
  const std::uint64_t length = bytes.size();
  std::memcpy(bytes.data() + 16, &length, sizeof(length));
  std::memset(bytes.data() + kChecksumAt, 0, sizeof(std::uint64_t));
  const std::uint64_t sum = XXH3_64bits_withSeed(bytes.data() + kHeaderBytes, bytes.size() - kHeaderBytes,
                                                 XXH3_64bits(bytes.data(), kHeaderBytes));
  std::memcpy(bytes.data() + kChecksumAt, &sum, sizeof(sum));
  return bytes;
}

std::vector<std::byte> with_body(const std::vector<std::uint8_t>& cbor) {
  std::vector<std::byte> bytes(sealed().begin(), sealed().begin() + kHeaderBytes);
  const auto* body = reinterpret_cast<const std::byte*>(cbor.data());
  bytes.insert(bytes.end(), body, body + cbor.size());
  return sealed_again(bytes);
}

Json body_of(const std::vector<std::byte>& bytes) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return Json::from_cbor(begin + kHeaderBytes, begin + bytes.size());
}

// Goes on with what was taken, as the daemon would.
void go_on(StreamCapsule capsule) {
  static Running running;  // an engine takes its time to be made
  std::optional<Hotwords> hotwords;
  if (!capsule.hotwords.empty()) hotwords.emplace(capsule.hotwords, tokenizer(), "test");
  running.readout.set_hotwords(hotwords ? &*hotwords : nullptr);
  running.engine->load(0, capsule.engine);
  running.readout.set_state(std::move(capsule.readout));
  running.heard = static_cast<std::int64_t>(capsule.resampler.outputs);
  running.hear(std::span(clip()).subspan(kHalf, 6'400), true);
  running.segments.clear();
  running.readout.set_hotwords(nullptr);
}

TEST(StreamCapsule, WhatIsSavedIsRestoredFieldForField) {
  const StreamCapsule back = unseal(sealed(), host());
  EXPECT_EQ(seal(back, test::default_model().hash, decoding().identity()), sealed());
  const StreamCapsule made = make_capsule();
  EXPECT_EQ(back.info, made.info);
  EXPECT_EQ(back.next_seq, 17);
  EXPECT_EQ(std::memcmp(&back.resampler, &made.resampler, sizeof(made.resampler)), 0);
  EXPECT_EQ(back.engine, made.engine);
  EXPECT_EQ(back.readout.decoder, made.readout.decoder);
  EXPECT_EQ(back.readout.quiet, made.readout.quiet);
  EXPECT_EQ(back.readout.voice.voices, made.readout.voice.voices);
  EXPECT_EQ(back.told.level_peak, 0.5f);
  EXPECT_EQ(back.told.partial_tentative, "mid");
  EXPECT_EQ(back.hotwords[1].phrase, "middle classes");
  EXPECT_EQ(back.result_seqs, made.result_seqs);
  EXPECT_EQ(back.text->text.number[0].style.mark, Mark::Comma);
  EXPECT_EQ(back.text->display, made.text->display);
  RecordProperty("bytes", static_cast<int>(sealed().size()));
}

TEST(StreamCapsule, GoesOnInTheSameBits) {
  Running whole;
  whole.hear(clip(), true);
  Running first;
  first.hear(std::span(clip()).first(kHalf));
  StreamCapsule capsule = unseal(sealed(), host());
  Running second;
  second.engine->load(0, capsule.engine);
  second.readout.set_state(std::move(capsule.readout));
  second.heard = kHalf;
  second.hear(std::span(clip()).subspan(kHalf), true);
  std::vector<Segment> joined = first.segments;
  joined.insert(joined.end(), second.segments.begin(), second.segments.end());
  ASSERT_EQ(joined.size(), whole.segments.size());
  for (std::size_t i = 0; i < joined.size(); ++i) {
    EXPECT_EQ(joined[i].number, whole.segments[i].number);
    EXPECT_EQ(joined[i].begin, whole.segments[i].begin);
    EXPECT_EQ(joined[i].end, whole.segments[i].end);
    EXPECT_EQ(committed_text(joined[i]), committed_text(whole.segments[i]));
  }
}

TEST(StreamCapsule, DamageIsNoticed) {
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    std::vector<std::byte> bytes = sealed();
    bytes[random() % bytes.size()] ^= static_cast<std::byte>(1 + random() % 255);
    EXPECT_EQ(reason_of(bytes), "bad_capsule");
  }
  for (std::size_t size = 0; size < sealed().size(); size += size < 2'000 ? 1 : 9'973)
    EXPECT_EQ(reason_of(std::span(sealed()).first(size)), "bad_capsule") << size;
  std::vector<std::byte> longer = sealed();
  longer.push_back({});
  EXPECT_EQ(reason_of(longer), "bad_capsule");
}

TEST(StreamCapsule, OtherModelsVersionsAndDecodersAreNamed) {
  ModelHash other = test::default_model().hash;
  other[0] = static_cast<decltype(other)::value_type>(~static_cast<unsigned>(other[0]));
  try {
    unseal(sealed(), {other, test::default_model().config, decoding()});
    ADD_FAILURE() << "taken";
  } catch (const Fault& fault) {
    EXPECT_EQ(fault.reason, "other_model");
    EXPECT_NE(fault.message.find(hex(other)), std::string::npos);
    EXPECT_NE(fault.message.find(hex(test::default_model().hash)), std::string::npos);
  }
  std::vector<std::byte> version = sealed();
  version[8] = std::byte{1};
  EXPECT_EQ(reason_of(version), "bad_capsule");
  const Decoding best_path(test::default_model_folder(), test::default_model().config, tokenizer(),
                           {.kind = DecoderKind::BestPath, .stability = {}});
  EXPECT_EQ(reason_of(sealed(), {test::default_model().hash, test::default_model().config, best_path}),
            "unsupported");
}

// Every field, at any depth (of a list's, the first), taken away or made another: refused, or safe to go on
// with.
void mutate_each(const Json& original, const Json::json_pointer& at, int& refused, int& taken) {
  const Json& value = original.at(at);
  if (value.is_object())
    for (const auto& [key, part] : value.items()) mutate_each(original, at / key, refused, taken);
  if (value.is_array() && !value.empty()) mutate_each(original, at / std::size_t{0}, refused, taken);
  if (at.empty()) return;
  const Json others[] = {nullptr, "text", -1, std::int64_t{1} << 60, Json::array()};
  for (const Json& other : others) {
    Json body = original;
    body[at] = other;
    try {
      go_on(unseal(with_body(Json::to_cbor(body)), host()));
      ++taken;
    } catch (const Fault&) {
      ++refused;
    }
  }
  Json body = original;
  if (body[at.parent_pointer()].is_object()) {
    body[at.parent_pointer()].erase(at.back());
    EXPECT_NE(reason_of(with_body(Json::to_cbor(body))), "") << at.to_string();
  }
}

TEST(StreamCapsule, ValuesThatNoStreamCanHaveAreRefused) {
  int refused = 0, taken = 0;
  Json body = body_of(sealed());
  mutate_each(body, Json::json_pointer(), refused, taken);
  EXPECT_GT(refused, 150);
  EXPECT_LT(taken, refused / 4);  // texts and counts that may be anything
}

TEST(StreamCapsule, BytesThatWereChangedAndSealedAgainAreRefusedOrSafe) {
  std::mt19937 random(2);
  int refused = 0;
  const Json body = body_of(sealed());
  for (int i = 0; i < 300; ++i) {
    std::vector<std::byte> bytes = sealed();
    if (i % 3 == 0) {  // anywhere in the body
      for (int k = 0; k < 4; ++k)
        bytes[kHeaderBytes + random() % (bytes.size() - kHeaderBytes)] = static_cast<std::byte>(random());
    } else {  // in the states of the decoder, or of the detector
      Json changed = body;
      Json& field = i % 3 == 1 ? changed["readout"]["decoder"] : changed["readout"]["voice"]["detector"];
      auto& state = field.get_binary();
      for (int k = 0; k < 4; ++k)
        state[random() % std::min<std::size_t>(state.size(), 1'500)] = static_cast<std::uint8_t>(random());
      bytes = with_body(Json::to_cbor(changed));
    }
    try {
      StreamCapsule capsule = unseal(sealed_again(bytes), host());
      if (i < 60) go_on(std::move(capsule));
    } catch (const Fault& fault) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 50);
}

TEST(StreamCapsule, NestingThatWouldExhaustTheStackIsRefused) {
  EXPECT_EQ(reason_of(with_body(std::vector<std::uint8_t>(500'000, 0x81))), "bad_capsule");  // arrays of one
  EXPECT_EQ(reason_of(with_body({0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})), "bad_capsule");
  EXPECT_EQ(reason_of(with_body({})), "bad_capsule");
}

}  // namespace
}  // namespace sidewinder::live
