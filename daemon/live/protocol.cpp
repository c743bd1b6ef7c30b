#include "daemon/live/protocol.h"

#include <algorithm>

#include "daemon/audio/pcm.h"
#include "dsp/resampler.h"

namespace sidewinder::live {
namespace {

constexpr std::size_t kMaxText = 64;  // bytes of an id or a name

[[noreturn]] void bad(const std::string& message) {
  throw Fault{"bad_message", message};
}

}  // namespace

bool valid_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kMaxText && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

const char* to_string(EndReason reason) noexcept {
  switch (reason) {
    case EndReason::Client:
      return "client";
    case EndReason::End:
      return "end";
    case EndReason::Idle:
      return "idle";
    case EndReason::Control:
      return "control";
    case EndReason::Shutdown:
      return "shutdown";
    case EndReason::Saved:
      return "saved";
    default:
      return "source_failed";
  }
}

const char* to_string(GapReason reason) noexcept {
  switch (reason) {
    case GapReason::Client:
      return "client";
    case GapReason::Source:
      return "source";
    case GapReason::Engine:
      break;
  }
  return "engine";
}

const char* to_string(SegmentEnd reason) noexcept {
  switch (reason) {
    case SegmentEnd::Pause:
      return "pause";
    case SegmentEnd::Length:
      return "length";
    case SegmentEnd::Model:
      return "model";
    default:
      return "end";
  }
}

const char* to_string(SourceKind source) noexcept {
  return source == SourceKind::Ingest ? "ingest" : source == SourceKind::File ? "file" : "device";
}

std::string dump(const Json& message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json message(const char* type) {
  return {{"v", kProtocolVersion}, {"type", type}};
}

Json refusal_answer(const std::string& stream, const std::string& reason, const std::string& text) {
  Json reply = message("refused");
  if (!stream.empty()) reply["stream"] = stream;
  reply["reason"] = reason;
  reply["message"] = text;
  return reply;
}

Json error_answer(const Fault& fault) {
  Json answer = message("error");
  answer["reason"] = fault.reason;
  answer["message"] = fault.message;
  answer.update(fault.extra);
  return answer;
}

Request::Request(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxHeaderBytes)
    bad("a header has at most " + std::to_string(kMaxHeaderBytes) + " bytes, not " +
        std::to_string(bytes.size()));
  const char* text = reinterpret_cast<const char*>(bytes.data());
  json_ = Json::parse(text, text + bytes.size(), nullptr, false);
  if (!json_.is_object()) bad("the header is not a JSON object");
  if (integer("v", 0, kMaxInteger) != kProtocolVersion)
    throw Fault{"version", "this daemon speaks version " + std::to_string(kProtocolVersion)};
  type_ = this->text("type", kMaxText);
  optional_text("id", kMaxText);  // is echoed
}

const Json* Request::find(const char* key) const {
  auto found = json_.find(key);
  return found == json_.end() ? nullptr : &*found;
}

std::int64_t Request::integer(const char* key, std::int64_t least, std::int64_t most) const {
  auto value = optional_integer(key, least, most);
  if (!value) bad(std::string(key) + " is missing");
  return *value;
}

std::optional<std::int64_t> Request::optional_integer(const char* key, std::int64_t least,
                                                      std::int64_t most) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  // Unsigned ones past the signed range would wrap.
  const bool in_range = value->is_number_integer() &&
                        !(value->is_number_unsigned() && value->get<std::uint64_t>() > kMaxInteger) &&
                        value->get<std::int64_t>() >= least && value->get<std::int64_t>() <= most;
  if (!in_range)
    bad(std::string(key) + " must be a whole number from " + std::to_string(least) + " to " +
        std::to_string(most));
  return value->get<std::int64_t>();
}

std::string Request::text(const char* key, std::size_t max_bytes) const {
  auto value = optional_text(key, max_bytes);
  if (!value) bad(std::string(key) + " is missing");
  return *value;
}

std::optional<std::string> Request::optional_text(const char* key, std::size_t max_bytes) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string() || value->get_ref<const std::string&>().size() > max_bytes)
    bad(std::string(key) + " must be a string of at most " + std::to_string(max_bytes) + " bytes");
  return value->get<std::string>();
}

std::vector<std::string> Request::optional_texts(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array() ||
      !std::all_of(value->begin(), value->end(), [](const Json& each) { return each.is_string(); }))
    bad(std::string(key) + " must be a list of strings");
  return value->get<std::vector<std::string>>();
}

std::optional<bool> Request::optional_boolean(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) bad(std::string(key) + " must be true or false");
  return value->get<bool>();
}

void Request::echo(Json& answer) const {
  for (const char* key : {"id", "stream"}) {
    const Json* value = find(key);
    if (value != nullptr && value->is_string() && value->get_ref<const std::string&>().size() <= kMaxText)
      answer[key] = *value;
  }
  const Json* seq = find("seq");
  if (seq != nullptr && seq->is_number_unsigned() && seq->get<std::uint64_t>() <= kMaxInteger)
    answer["seq"] = *seq;
}

StreamInfo read_open(const Request& request) {
  StreamInfo info;
  info.name = request.optional_text("stream", kMaxHeaderBytes).value_or("");
  if (info.name.empty() && request.optional_text("stream", kMaxHeaderBytes))
    throw Fault{"bad_name", "a stream's name is not empty; leave the field out to be given one"};
  info.rate = static_cast<int>(request.integer("rate", 0, 1'000'000'000));
  info.format = request.text("format", kMaxText);
  info.channels = static_cast<int>(request.optional_integer("channels", 1, kMaxChannels).value_or(1));
  info.channel = static_cast<int>(request.optional_integer("channel", 1, kMaxChannels).value_or(0));
  auto encodings = request.optional_text("encodings", kMaxText);
  if (info.rate < dsp::kMinSampleRate || info.rate > dsp::kMaxSampleRate)
    throw Fault{"bad_format", "rate must be from " + std::to_string(dsp::kMinSampleRate) + " to " +
                                  std::to_string(dsp::kMaxSampleRate) + " Hz"};
  if (!parse_sample_format(info.format))
    throw Fault{"bad_format", "format must be u8, s16le, s24le, s32le, f32le or f64le"};
  if (info.channel > info.channels)
    throw Fault{"bad_format", "channel " + std::to_string(info.channel) + " of " +
                                  std::to_string(info.channels) + " is not there"};
  if (encodings && *encodings != "float32" && *encodings != "float16")
    throw Fault{"bad_format", "encodings must be float32 or float16"};
  if (encodings) info.encodings = *encodings == "float32" ? EncodingFormat::Float32 : EncodingFormat::Float16;
  return info;
}

std::unique_ptr<const Hotwords> read_hotwords(std::string_view phrases, const Decoding& decoding) {
  if (phrases.empty()) return nullptr;
  if (!decoding.takes_hotwords())
    throw Fault{"unsupported",
                "the best path can't favour phrases; the daemon needs decoder.kind = \"beam\""};
  try {
    const std::vector<Hotword> listed = parse_hotwords(phrases, "hotwords");
    return listed.empty() ? nullptr
                          : std::make_unique<const Hotwords>(listed, decoding.tokenizer(), "hotwords");
  } catch (const HotwordError& error) {
    throw Fault{"bad_hotwords", error.what()};
  }
}

}  // namespace sidewinder::live
