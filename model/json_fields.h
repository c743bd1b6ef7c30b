// Reading the JSON files of a model folder, with errors that name the field and the rule.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace sidewinder {

// The text of a file of at most 1 MiB. Throws ModelError.
std::string read_json_file(const std::filesystem::path& file);

// Throws ModelError: no JSON, or nested too deeply.
nlohmann::json parse_json(std::string_view text, const std::string& origin);

// Reads fields of one JSON object and says which field broke which rule: every function throws ModelError.
// The object must outlive it.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string origin, std::string prefix);

  Fields child(const char* key) const { return Fields(at(key), origin_, prefix_ + key + "."); }
  const nlohmann::json& object() const { return object_; }

  bool has(const char* key) const { return object_.contains(key); }

  int integer(const char* key, int low, int high) const;
  int integer_or(const char* key, int fallback, int low, int high) const {
    return has(key) ? integer(key, low, high) : fallback;
  }

  float real(const char* key, double low, double high) const;
  float real_or(const char* key, float fallback, double low, double high) const {
    return has(key) ? real(key, low, high) : fallback;
  }

  // A list of so many numbers.
  std::vector<double> reals(const char* key, std::size_t count, double low, double high) const;

  // Refuses any value but the one that the engine implements.
  void only(const char* key, const nlohmann::json& wanted) const;
  void only_if_present(const char* key, const nlohmann::json& wanted) const {
    if (has(key)) only(key, wanted);
  }

  std::string text(const char* key) const;

  [[noreturn]] void fail(const std::string& key, const std::string& rule) const;

 private:
  const nlohmann::json& at(const char* key) const;
  double number(const std::string& key, const nlohmann::json& value, double low, double high) const;

  const nlohmann::json& object_;
  std::string origin_;
  std::string prefix_;
};

}  // namespace sidewinder
