#include "daemon/live/stream_capsule.h"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstring>
#include <limits>
#include <type_traits>

#include "daemon/audio/pcm.h"
#include "daemon/live/protocol.h"
#include "model/capsule.h"
#include "model/capsule_checksum.h"
#include "model/error.h"

namespace sidewinder::live {
namespace {

constexpr std::uint64_t kMagic = 0x4d41'4552'5453'5753;  // "SWSTREAM", little-endian
constexpr std::uint64_t kVersion = 2;                    // raised when a field changes its meaning
constexpr std::size_t kMostTextBytes = 4'096;            // of a string
constexpr std::int64_t kMostEndpointMs = 86'400'000;     // a day, as in the config

struct Header {
  std::uint64_t magic;
  std::uint64_t version;
  std::uint64_t bytes;  // header and body
  ModelHash model;
  std::uint64_t checksum;  // capsule_checksum()
};
static_assert(sizeof(Header) == 64, "no padding: the header is written as it lies");

[[noreturn]] void damaged(const std::string& what) {
  throw Fault{"bad_capsule", what};
}

// ---- Every field, once for both directions.

template <class T, class Of>
concept Like = std::same_as<std::remove_const_t<T>, Of>;

// The largest value of an enumeration that goes into a capsule.
template <class T>
constexpr std::int64_t kLast = -1;
template <>
constexpr std::int64_t kLast<EncodingFormat> = static_cast<std::int64_t>(EncodingFormat::Float16);
template <>
constexpr std::int64_t kLast<SilenceDetector> = static_cast<std::int64_t>(SilenceDetector::Both);
template <>
constexpr std::int64_t kLast<Casing> = kCasings - 1;
template <>
constexpr std::int64_t kLast<Mark> = kMarks - 1;

template <class A, Like<StreamInfo> T>
void fields(A& a, T& info) {  // of a stream that a client feeds
  a("name", info.name);
  a("epoch", info.epoch);
  a("format", info.format);
  a("rate", info.rate);
  a("channels", info.channels);
  a("channel", info.channel);
  a("encodings", info.encodings);
  a("owner", info.owner);
}

template <class A, Like<Word> T>
void fields(A& a, T& word) {
  a("text", word.text);
  a("begin", word.begin);
  a("end", word.end);
  a("confidence", word.confidence);
  a("continues", word.continues);
}

template <class A, Like<Segment> T>
void fields(A& a, T& segment) {  // an open one: it has no end yet
  a("number", segment.number);
  a("begin", segment.begin);
  a("continues", segment.continues);
  a("words", segment.words);
}

template <class A, Like<Endpoint> T>
void fields(A& a, T& endpoint) {
  a("silence_ms", endpoint.silence_ms);
  a("max_segment_ms", endpoint.max_segment_ms);
  a("detector", endpoint.detector);
}

template <class A, Like<VoiceTrack::State> T>
void fields(A& a, T& track) {
  a("detector", track.detector);
  a("frames", track.frames);
  a("voices", track.voices);
}

template <class A, Like<Readout::State> T>
void fields(A& a, T& readout) {
  a("endpoint", readout.endpoint);
  a("origin", readout.origin);
  a("decoder", readout.decoder);
  a("open", readout.open);
  a("last_end", readout.last_end);
  a("blanks", readout.blanks);
  a("quiet", readout.quiet);
  a("voice", readout.voice);
}

template <class A, Like<StreamTold> T>
void fields(A& a, T& told) {
  a("partial_words", told.partial_words);
  a("partial_tentative", told.partial_tentative);
  a("level_begin", told.level_begin);
  a("level_squares", told.level_squares);
  a("level_peak", told.level_peak);
}

template <class A, Like<Hotword> T>
void fields(A& a, T& hotword) {
  a("phrase", hotword.phrase);
  a("boost", hotword.boost);
}

template <class A, Like<PunctuatorState> T>
void fields(A& a, T& state) {
  a("blocks", state.blocks);
  a("history", state.history);
}

template <class A, Like<ReadableText::Styled> T>
void fields(A& a, T& styled) {
  a("word", styled.word);
  a("casing", styled.style.casing);
  a("mark", styled.style.mark);
}

template <class A, Like<ReadableText::State> T>
void fields(A& a, T& text) {
  a("punctuation", text.punctuation);
  a("undecided", text.undecided);
  a("number", text.number);
  a("before", text.before);
  a("last_end", text.last_end);
  a("paused", text.paused);
  a("sentence_begins", text.sentence_begins);
}

template <class A, Like<SegmentText::State> T>
void fields(A& a, T& text) {
  a("text", text.text);
  a("display", text.display);
  a("heard", text.heard);
  a("ended", text.ended);
}

template <class A, Like<StreamCapsule> T>
void fields(A& a, T& capsule) {
  a("info", capsule.info);
  a("next_seq", capsule.next_seq);
  a("resampler", capsule.resampler);
  a("engine", capsule.engine);
  a("unread", capsule.unread);
  a("readout", capsule.readout);
  a("told", capsule.told);
  a("hotwords", capsule.hotwords);
  a("result_seqs", capsule.result_seqs);
  a("text", capsule.text);
}

// ---- The two directions.

template <class T>
concept Bytes =
    Like<T, std::vector<std::byte>> || Like<T, std::vector<std::uint8_t>> || Like<T, std::vector<float>>;
// Plain memory without padding (checked where they are defined, by what their bytes are compared for).
template <class T>
concept Plain = Like<T, dsp::ResamplerState> || Like<T, dsp::VoiceActivityState>;

class Saver {
 public:
  explicit Saver(Json& out) : out_(out) {}

  template <class T>
  void operator()(const char* name, const T& value) {
    out_[name] = json(value);
  }

 private:
  template <class T>
  static Json json(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      static_assert(kLast<T> > 0);
      return static_cast<std::int64_t>(value);
    } else if constexpr (std::is_arithmetic_v<T> || std::same_as<T, std::string>) {
      return value;
    } else if constexpr (Plain<T>) {
      return binary(&value, sizeof(value));
    } else if constexpr (Bytes<T>) {
      return binary(value.data(), value.size() * sizeof(value[0]));
    } else if constexpr (requires(Saver & saver) { fields(saver, value); }) {
      Json object = Json::object();
      Saver saver(object);
      fields(saver, value);
      return object;
    } else if constexpr (requires { value.has_value(); }) {
      return value ? json(*value) : Json();
    } else {
      Json list = Json::array();
      for (const auto& each : value) list.push_back(json(each));
      return list;
    }
  }

  static Json binary(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const std::uint8_t*>(data);
    return Json::binary(std::vector<std::uint8_t>(from, from + bytes));
  }

  Json& out_;
};

class Loader {
 public:
  explicit Loader(const Json& in) : in_(in) {}

  template <class T>
  void operator()(const char* name, T& value) {
    name_ = name;
    if (!in_.is_object() || !in_.contains(name)) damaged(std::string(name) + " is missing");
    load(in_.at(name), value);
  }

 private:
  template <class T>
  void load(const Json& json, T& value) {
    if constexpr (std::same_as<T, bool>) {
      require(json.is_boolean());
      value = json.get<bool>();
    } else if constexpr (std::is_floating_point_v<T>) {
      require(json.is_number() && std::isfinite(json.get<double>()));
      value = static_cast<T>(json.get<double>());
    } else if constexpr (std::is_enum_v<T>) {
      std::int64_t number = 0;
      load(json, number);
      require(number >= 0 && number <= kLast<T>);
      value = static_cast<T>(number);
    } else if constexpr (std::is_integral_v<T>) {
      require(json.is_number_integer() &&
              !(json.is_number_unsigned() && json.get<std::uint64_t>() > kMaxInteger));
      const auto number = json.get<std::int64_t>();
      require(number >= -kMaxInteger && std::in_range<T>(number));
      value = static_cast<T>(number);
    } else if constexpr (std::same_as<T, std::string>) {
      require(json.is_string() && json.get_ref<const std::string&>().size() <= kMostTextBytes);
      value = json.get<std::string>();
    } else if constexpr (Plain<T>) {
      require(json.is_binary() && json.get_binary().size() == sizeof(value));
      std::memcpy(&value, json.get_binary().data(), sizeof(value));
    } else if constexpr (Bytes<T>) {
      require(json.is_binary() && json.get_binary().size() % sizeof(value[0]) == 0);
      value.resize(json.get_binary().size() / sizeof(value[0]));
      if (!value.empty()) std::memcpy(value.data(), json.get_binary().data(), json.get_binary().size());
    } else if constexpr (requires(Loader & loader) { fields(loader, value); }) {
      Loader loader(json);
      fields(loader, value);
    } else if constexpr (requires { value.has_value(); }) {
      if (!json.is_null()) load(json, value.emplace());
    } else if constexpr (requires { value.emplace_back(); }) {
      require(json.is_array());
      for (const Json& each : json) load(each, value.emplace_back());
    } else {  // a std::array
      require(json.is_array() && json.size() == value.size());
      for (std::size_t i = 0; i < value.size(); ++i) load(json[i], value[i]);
    }
  }

  void require(bool right) const {
    if (!right) damaged(std::string(name_) + " is not what it must be");
  }

  const Json& in_;
  const char* name_ = "";
};

// Nothing in a capsule is nested deeper; the library's parser calls itself for each level.
class ShallowParser : public nlohmann::detail::json_sax_dom_parser<Json> {
  using Base = nlohmann::detail::json_sax_dom_parser<Json>;

 public:
  explicit ShallowParser(Json& into) : Base(into, false) {}
  bool start_object(std::size_t size) { return ++depth_ < kMostDepth && Base::start_object(size); }
  bool start_array(std::size_t size) { return ++depth_ < kMostDepth && Base::start_array(size); }
  bool end_object() { return --depth_ >= 0 && Base::end_object(); }
  bool end_array() { return --depth_ >= 0 && Base::end_array(); }

 private:
  static constexpr int kMostDepth = 16;
  int depth_ = 0;
};

Json parse(std::span<const std::byte> cbor) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(cbor.data());
  Json body;
  ShallowParser parser(body);
  try {
    if (Json::sax_parse(bytes, bytes + cbor.size(), &parser, Json::input_format_t::cbor) && body.is_object())
      return body;
  } catch (const Json::exception&) {  // a length that no container can have
  }
  damaged("its body is not a map in CBOR");
}

// ---- What a field can't say alone.

bool are_finite(std::span<const std::byte> floats) {
  for (std::size_t at = 0; at + sizeof(float) <= floats.size(); at += sizeof(float)) {
    float value;
    std::memcpy(&value, floats.data() + at, sizeof(value));
    if (!std::isfinite(value)) return false;
  }
  return true;
}

void require(bool right, const char* what) {
  if (!right) damaged(std::string(what) + " is one that no stream can have");
}

bool is_place(std::int64_t position, std::int64_t heard) {  // a word may begin a little before the stream
  return position >= -(1 << 20) && position <= heard;
}

bool are_placed(const auto& words, std::int64_t heard) {
  return std::all_of(words.begin(), words.end(), [&](const Word& word) {
    return is_place(word.begin, heard) && is_place(word.end, heard);
  });
}

void check_info(const StreamInfo& info) {
  require(valid_name(info.name), "the name");
  require(info.epoch >= 1, "the epoch");
  require(parse_sample_format(info.format).has_value(), "the format");
  require(info.rate >= dsp::kMinSampleRate && info.rate <= dsp::kMaxSampleRate, "the rate");
  require(info.channels >= 1 && info.channels <= kMaxChannels, "the number of channels");
  require(info.channel >= 0 && info.channel <= info.channels, "the channel");
}

void check_readout(const StreamCapsule& capsule, std::int64_t heard, const CapsuleHost& host) {
  const Readout::State& state = capsule.readout;
  require(state.endpoint.silence_ms >= 0 && state.endpoint.silence_ms <= kMostEndpointMs &&
              state.endpoint.max_segment_ms >= 0 && state.endpoint.max_segment_ms <= kMostEndpointMs,
          "the endpoint");
  // A readout of its own, for the decoder has a state too.
  Readout readout(host.config, host.decoding, state.endpoint);
  std::optional<Hotwords> hotwords;
  try {
    if (!capsule.hotwords.empty()) hotwords.emplace(capsule.hotwords, host.decoding.tokenizer(), "hotwords");
  } catch (const HotwordError& error) {
    damaged(error.what());
  }
  readout.set_hotwords(hotwords ? &*hotwords : nullptr);
  require(readout.fits(state), "the decoder's state");
  require(state.open.number >= 0 && is_place(state.open.begin, heard) &&
              are_placed(state.open.words, heard) && is_place(state.last_end, heard),
          "the open segment");
  require(state.endpoint.detector == SilenceDetector::Blanks ||
              state.voice.detector.samples == static_cast<std::uint64_t>(heard - state.origin),
          "the voice activity");
}

void check(const StreamCapsule& capsule, const CapsuleHost& host) {
  check_info(capsule.info);
  require(capsule.next_seq >= 0, "next_seq");
  require(capsule.resampler.inputs < dsp::kMaxResamplerInputs &&
              capsule.resampler.outputs < dsp::kMaxResamplerInputs,
          "the position");
  require(are_finite(std::as_bytes(std::span(capsule.resampler.history))), "a sample");
  const auto heard = static_cast<std::int64_t>(capsule.resampler.outputs);
  const std::int64_t origin = capsule.readout.origin;
  require(origin >= 0 && origin <= heard, "the origin");
  try {
    const StreamClock clock = open_capsule(capsule.engine, StateLayout(host.config), host.model);
    require(clock.samples == heard - origin && clock.ended == 0, "the encoder's clock");
  } catch (const ModelError& error) {
    damaged(error.what());
  }
  require(are_finite(capsule_floats(std::span<const std::byte>(capsule.engine))), "the encoder's state");
  const std::int64_t given = host.config.frames_given(heard - origin) * host.config.frame_hop();
  require(std::ssize(capsule.unread) == heard - origin - given &&
              are_finite(std::as_bytes(std::span(capsule.unread))),
          "what is unread");
  check_readout(capsule, heard, host);
  require(
      capsule.told.level_begin >= 0 && capsule.told.level_begin <= heard && capsule.told.level_squares >= 0,
      "the level");
  for (std::int64_t seq : capsule.result_seqs) require(seq >= 0, "a result's seq");
  if (!capsule.text) return;
  const ReadableText::State& text = capsule.text->text;
  require(are_placed(text.undecided, heard) && is_place(text.last_end, heard) &&
              std::all_of(text.number.begin(), text.number.end(),
                          [&](const auto& styled) { return are_placed(std::span(&styled.word, 1), heard); }),
          "the text");
}

}  // namespace

std::vector<std::byte> seal(const StreamCapsule& capsule, const ModelHash& model, std::uint64_t decoding) {
  Json body = Json::object();
  body["decoding"] = decoding;
  Saver saver(body);
  fields(saver, capsule);
  const std::vector<std::uint8_t> cbor = Json::to_cbor(body);
  std::vector<std::byte> bytes(sizeof(Header) + cbor.size());
  const auto part = std::span(bytes).subspan(sizeof(Header));
  std::memcpy(part.data(), cbor.data(), cbor.size());
  Header header{kMagic, kVersion, bytes.size(), model, 0};
  header.checksum = capsule_checksum(header, part);
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

StreamCapsule unseal(std::span<const std::byte> bytes, const CapsuleHost& host) {
  Header header;
  if (bytes.size() < sizeof(header)) damaged("shorter than its header; save the stream again");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) damaged("not a saved stream");
  if (header.version != kVersion)
    damaged("saved in version " + std::to_string(header.version) + ", this daemon reads version " +
            std::to_string(kVersion) + "; save it with a daemon of the same version");
  const auto part = bytes.subspan(sizeof(header));
  if (header.bytes != bytes.size())
    damaged(std::to_string(bytes.size()) + " bytes where its header says " + std::to_string(header.bytes) +
            "; it was cut off, save the stream again");
  if (header.checksum != capsule_checksum(header, part))
    damaged("its checksum is wrong, so it is damaged; save it again");
  if (header.model != host.model)
    throw Fault{"other_model", "saved with model " + hex(header.model) + ", this daemon runs " +
                                   hex(host.model) + "; restore it where that model runs"};
  const Json body = parse(part);
  const auto decoding = body.find("decoding");
  if (decoding == body.end() || *decoding != host.decoding.identity())
    throw Fault{"unsupported",
                "saved with another decoder or language model than this daemon's; give both the same "
                "decoder.kind and "
                "model folder"};
  StreamCapsule capsule;
  Loader loader(body);
  fields(loader, capsule);
  check(capsule, host);
  return capsule;
}

}  // namespace sidewinder::live
