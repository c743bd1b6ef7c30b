// The wire's JSON, read with suspicion; clients/PROTOCOL.md says what it means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/live/result.h"
#include "model/decoding.h"
#include "model/hotwords.h"

namespace sidewinder::live {

inline constexpr int kProtocolVersion = 1;
inline constexpr std::size_t kMaxHeaderBytes = 4'096;
inline constexpr std::int64_t kMaxInteger =
    (std::int64_t{1} << 53) - 1;  // what every JSON reader keeps exact

inline constexpr int kMaxChannels = 32;

using Json = nlohmann::ordered_json;

// 1 to 64 of A-Z a-z 0-9 . _ -
bool valid_name(std::string_view name) noexcept;

const char* to_string(EndReason reason) noexcept;
const char* to_string(GapReason reason) noexcept;
const char* to_string(SegmentEnd reason) noexcept;
const char* to_string(SourceKind source) noexcept;

// Text that came from outside may not be UTF-8; it is repaired.
std::string dump(const Json& message);

// {"v":1,"type":type}
Json message(const char* type);

// A message that can't be acted upon; becomes the answer `error`.
struct Fault {
  std::string reason;  // of clients/PROTOCOL.md
  std::string message;
  Json extra = Json::object();  // further fields of the answer
};

// The `error` that tells a fault.
Json error_answer(const Fault& fault);

// The `refused` that says why. `stream`: empty where the request names none, or where it is echoed.
Json refusal_answer(const std::string& stream, const std::string& reason, const std::string& text);

// One request's header. Every reader throws Fault, reason bad_message, when the field is missing or not what
// it must be. Thread rule: one thread.
class Request {
 public:
  // Throws Fault: too long, not a JSON object, another version, no type.
  explicit Request(std::span<const std::byte> bytes);

  const std::string& type() const noexcept { return type_; }

  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const;
  std::optional<std::int64_t> optional_integer(const char* key, std::int64_t least, std::int64_t most) const;
  std::string text(const char* key, std::size_t max_bytes) const;
  std::optional<std::string> optional_text(const char* key, std::size_t max_bytes) const;
  std::vector<std::string> optional_texts(const char* key) const;  // none: empty
  std::optional<bool> optional_boolean(const char* key) const;

  // Copies those of id, stream and seq that the request has, for an answer to name what it answers.
  void echo(Json& answer) const;

 private:
  const Json* find(const char* key) const;

  Json json_;
  std::string type_;
};

// The format fields of an ingest `open`. Throws Fault: bad_message, or bad_format for values that no stream
// can have.
StreamInfo read_open(const Request& request);

// The second frame of an `open` or of ingest's `hotwords`, a phrase a line, as that decoder takes it, which
// must outlive the result; null: it holds none. Throws Fault: bad_hotwords, or unsupported for the best path.
std::unique_ptr<const Hotwords> read_hotwords(std::string_view phrases, const Decoding& decoding);

}  // namespace sidewinder::live
