// Results as JSON text, without a tree of values between: the publisher writes up to a hundred thousand of
// them a second.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace sidewinder::live {

// Appends one object to a string that the caller keeps, so that its memory is used again. Keys are written as
// they are; values are escaped, and text that is not UTF-8 is repaired. Thread rule: one thread at a time.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) { open('{'); }

  void field(std::string_view key, std::string_view value);
  void field(std::string_view key, const char* value) { field(key, std::string_view(value)); }
  void field(std::string_view key, std::same_as<bool> auto value) { raw(key, value ? "true" : "false"); }
  void field(std::string_view key, std::int64_t value);
  void thousandths(std::string_view key, double value);  // rounded to three decimals; finite

  // {"key":[{...},{...}]}: begin_array, then for each object begin_object, fields, close('}'); then
  // close(']').
  void begin_array(std::string_view key);
  void begin_object();
  void begin_object(std::string_view key);
  void close(char bracket);  // ] or }; the last one ends the whole

 private:
  void open(char bracket);
  void name(std::string_view key);
  void raw(std::string_view key, std::string_view value);

  std::string& out_;
  bool first_ = true;  // in the innermost array or object
};

}  // namespace sidewinder::live
