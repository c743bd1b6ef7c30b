#include "model/json_fields.h"

#include <fstream>
#include <sstream>

#include "model/error.h"

namespace sidewinder {
namespace {

using nlohmann::json;

std::string shorten(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() > 40 ? text.substr(0, 40) + "..." : text;
}

}  // namespace

std::string read_json_file(const std::filesystem::path& file) {
  std::error_code error;
  auto size = std::filesystem::file_size(file, error);
  if (error)
    throw ModelError(file.string() + ": " + error.message() +
                     "; check the path: a model folder holds config.json, model.safetensors and tokens.txt");
  constexpr std::uintmax_t kLargest = 1 << 20;
  if (size > kLargest)
    throw ModelError(file.string() + ": larger than 1 MiB, so not a model's " + file.filename().string());
  std::ifstream in(file, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size)))
    throw ModelError(file.string() + ": can't be read; check its permissions");
  return text;
}

json parse_json(std::string_view text, const std::string& origin) {
  // Writing a value into a message recurses, so that one nested without end would exhaust the stack.
  auto refuse_depth = [&](int depth, json::parse_event_t, json&) {
    constexpr int kDeepest = 16;
    if (depth > kDeepest) throw ModelError(origin + ": nested too deeply; export the model again");
    return true;
  };
  try {
    return json::parse(text, refuse_depth);
  } catch (const json::exception& error) {
    // Without the library's "[json.exception...] " before and a token of any length behind.
    std::string why = error.what();
    why = why.substr(why.find("] ") + 2, 160);
    throw ModelError(origin + ": not valid JSON (" + why + "); export the model again");
  }
}

Fields::Fields(const json& object, std::string origin, std::string prefix)
    : object_(object), origin_(std::move(origin)), prefix_(std::move(prefix)) {
  if (!object_.is_object()) fail("", "must be an object");
}

int Fields::integer(const char* key, int low, int high) const {
  const json& value = at(key);
  bool is_int = value.is_number_integer();
  std::int64_t number = 0;
  if (is_int)
    number = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX ? INT64_MAX
                                                                                  : value.get<std::int64_t>();
  if (!is_int || number < low || number > high)
    fail(key, "must be an integer from " + std::to_string(low) + " to " + std::to_string(high) + ", not " +
                  shorten(value));
  return static_cast<int>(number);
}

double Fields::number(const std::string& key, const json& value, double low, double high) const {
  if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high)) {
    std::ostringstream rule;
    rule << "must be a number from " << low << " to " << high << ", not " << shorten(value);
    fail(key, rule.str());
  }
  return value.get<double>();
}

float Fields::real(const char* key, double low, double high) const {
  return static_cast<float>(number(key, at(key), low, high));
}

std::vector<double> Fields::reals(const char* key, std::size_t count, double low, double high) const {
  const json& values = at(key);
  if (!values.is_array() || values.size() != count)
    fail(key, "must be a list of " + std::to_string(count) + " numbers, not " + shorten(values));
  std::vector<double> result;
  for (std::size_t i = 0; i < count; ++i)
    result.push_back(number(key + ("[" + std::to_string(i) + "]"), values[i], low, high));
  return result;
}

void Fields::only(const char* key, const json& wanted) const {
  if (at(key) != wanted)
    fail(key, "must be " + wanted.dump() + " (nothing else is implemented), not " + shorten(at(key)));
}

std::string Fields::text(const char* key) const {
  if (!at(key).is_string()) fail(key, "must be a string, not " + shorten(at(key)));
  return at(key).get<std::string>();
}

void Fields::fail(const std::string& key, const std::string& rule) const {
  throw ModelError(origin_ + ": \"" + prefix_ + key + "\" " + rule +
                   "; export the model again or correct the file");
}

const json& Fields::at(const char* key) const {
  auto found = object_.find(key);
  if (found == object_.end()) fail(key, "is missing");
  return *found;
}

}  // namespace sidewinder
