// Reference values of the tests: named tensors in a safetensors file (8-byte little-endian header length, a
// JSON header, raw little-endian data). For tests only: the whole file is read, and every accessor copies.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace sidewinder::test {

class Vectors {
 public:
  // `path` is relative to tests/. Throws std::runtime_error if it cannot be read.
  static Vectors load(const std::string& path) {
    std::ifstream file(std::string(SIDEWINDER_TEST_DATA) + "/" + path, std::ios::binary);
    if (!file) throw std::runtime_error("vectors: cannot open " + path + "; its make_*.py script writes it");
    Vectors v;
    v.bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t length = 0;
    if (v.bytes_.size() >= 8) std::memcpy(&length, v.bytes_.data(), 8);
    if (length == 0 || length > v.bytes_.size() - 8)
      throw std::runtime_error("vectors: no safetensors: " + path);
    v.data_ = 8 + length;
    v.header_ =
        nlohmann::json::parse(v.bytes_.begin() + 8, v.bytes_.begin() + static_cast<std::int64_t>(v.data_));
    return v;
  }

  bool has(const std::string& name) const { return header_.contains(name); }
  std::vector<std::int64_t> shape(const std::string& name) const { return header_.at(name).at("shape"); }
  std::vector<float> floats(const std::string& name) const { return read<float, float>(name, "F32"); }

  // int16, int32 or int64 tensors.
  std::vector<std::int64_t> ints(const std::string& name) const {
    const std::string type = header_.at(name).at("dtype");
    if (type == "I16") return read<std::int16_t, std::int64_t>(name, "I16");
    if (type == "I32") return read<std::int32_t, std::int64_t>(name, "I32");
    return read<std::int64_t, std::int64_t>(name, "I64");
  }

  // int16 samples as floats in [-1, 1).
  std::vector<float> pcm(const std::string& name) const {
    auto samples = read<std::int16_t, float>(name, "I16");
    for (float& x : samples) x /= 32'768.0f;
    return samples;
  }

 private:
  template <class Stored, class Wanted>
  std::vector<Wanted> read(const std::string& name, const std::string& type) const {
    const auto& entry = header_.at(name);
    if (entry.at("dtype") != type) throw std::runtime_error("vectors: " + name + " is not " + type);
    const std::size_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
    std::vector<Stored> values((end - begin) / sizeof(Stored));
    if (data_ + end > bytes_.size()) throw std::runtime_error("vectors: " + name + " is cut short");
    std::memcpy(values.data(), bytes_.data() + data_ + begin, values.size() * sizeof(Stored));
    return {values.begin(), values.end()};
  }

  std::vector<char> bytes_;
  std::size_t data_ = 0;
  nlohmann::json header_;
};

}  // namespace sidewinder::test
