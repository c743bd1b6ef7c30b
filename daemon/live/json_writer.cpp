#include "daemon/live/json_writer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "daemon/live/protocol.h"

namespace sidewinder::live {
namespace {

void append(std::string& out, std::int64_t value) {
  std::array<char, 24> text;
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  out.append(text.data(), end);
}

// Nothing in it needs an escape.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
}

}  // namespace

void JsonWriter::field(std::string_view key, std::string_view value) {
  name(key);
  if (!is_plain(value)) {
    out_ += dump(Json(value));
    return;
  }
  out_ += '"';
  out_ += value;
  out_ += '"';
}

void JsonWriter::field(std::string_view key, std::int64_t value) {
  name(key);
  append(out_, value);
}

void JsonWriter::thousandths(std::string_view key, double value) {
  name(key);
  const std::int64_t rounded = std::llround(value * 1000);
  const std::int64_t size = std::abs(rounded);
  if (rounded < 0) out_ += '-';
  append(out_, size / 1000);
  const std::array<char, 4> decimals{'.', static_cast<char>('0' + size / 100 % 10),
                                     static_cast<char>('0' + size / 10 % 10),
                                     static_cast<char>('0' + size % 10)};
  // As few as say it, but one.
  const std::size_t count = size % 10 != 0 ? 4 : size % 100 != 0 ? 3 : 2;
  out_.append(decimals.data(), count);
}

void JsonWriter::begin_array(std::string_view key) {
  name(key);
  open('[');
}

void JsonWriter::begin_object() {
  if (!first_) out_ += ',';
  open('{');
}

void JsonWriter::begin_object(std::string_view key) {
  name(key);
  open('{');
}

void JsonWriter::close(char bracket) {
  out_ += bracket;
  first_ = false;
}

void JsonWriter::open(char bracket) {
  out_ += bracket;
  first_ = true;
}

void JsonWriter::name(std::string_view key) {
  if (!first_) out_ += ',';
  first_ = false;
  out_ += '"';
  out_ += key;
  out_ += "\":";
}

void JsonWriter::raw(std::string_view key, std::string_view value) {
  name(key);
  out_ += value;
}

}  // namespace sidewinder::live
