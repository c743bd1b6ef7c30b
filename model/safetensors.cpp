#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include <Eigen/Core>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/error.h"

namespace sidewinder {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little, "safetensors stores little-endian numbers");

struct DTypeRow {
  DType type;
  const char* name;
  std::size_t size;
};
constexpr std::array<DTypeRow, 11> kDTypes{{{DType::F64, "F64", 8},
                                            {DType::F32, "F32", 4},
                                            {DType::F16, "F16", 2},
                                            {DType::BF16, "BF16", 2},
                                            {DType::I64, "I64", 8},
                                            {DType::I32, "I32", 4},
                                            {DType::I16, "I16", 2},
                                            {DType::U16, "U16", 2},
                                            {DType::I8, "I8", 1},
                                            {DType::U8, "U8", 1},
                                            {DType::Bool, "BOOL", 1}}};

const DTypeRow& row(DType type) {
  return *std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeRow& r) { return r.type == type; });
}

// Far above any real header (17 KB for the default model), far below what would fill memory once parsed.
constexpr std::uint64_t kLargestHeader = 16 << 20;
constexpr std::size_t kMostDimensions = 8;

[[noreturn]] void fail(const std::string& origin, const std::string& rule) {
  throw ModelError(origin + ": " + rule +
                   "; the file is damaged or is no safetensors file: copy or export it again");
}

json parse_header(std::string_view text, const std::string& origin) {
  // nlohmann keeps the last of two equal keys; two tensors of one name must be refused instead.
  std::set<std::string> names;
  auto refuse_duplicates = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1 && !names.insert(value.get<std::string>()).second)
      fail(origin, tensor_text(value.get<std::string>()) + " is listed twice");
    if (event == json::parse_event_t::object_start && depth > 4)
      fail(origin, "the header is nested too deeply");
    if (event == json::parse_event_t::array_start && depth > 4)
      fail(origin, "the header is nested too deeply");
    return true;
  };
  try {
    return json::parse(text, refuse_duplicates);
  } catch (const json::exception&) {
    fail(origin, "the header is not valid JSON");
  }
}

std::uint64_t unsigned_number(const json& value, const std::string& what, const std::string& origin) {
  if (!value.is_number_unsigned()) fail(origin, what + " must be a non-negative integer");
  return value.get<std::uint64_t>();
}

TensorView parse_tensor(const std::string& name, const json& entry, std::span<const std::byte> data,
                        const std::string& origin) {
  std::string what = tensor_text(name);
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    fail(origin, what + " must have dtype, shape and data_offsets");
  const json& type = entry["dtype"];
  auto known =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeRow& r) { return type == r.name; });
  if (known == kDTypes.end()) fail(origin, what + " has an unknown dtype");

  const json& shape = entry["shape"];
  const json& offsets = entry["data_offsets"];
  if (!shape.is_array() || shape.size() > kMostDimensions)
    fail(origin, what + " must have at most 8 dimensions");
  if (!offsets.is_array() || offsets.size() != 2) fail(origin, what + " must have two data_offsets");

  std::uint64_t begin = unsigned_number(offsets[0], what + "'s offset", origin);
  std::uint64_t end = unsigned_number(offsets[1], what + "'s offset", origin);
  if (begin > end || end > data.size())
    fail(origin, what + " ends at byte " + std::to_string(end) + " of " + std::to_string(data.size()) +
                     " (file truncated?)");

  TensorView view;
  view.dtype = known->type;
  std::uint64_t bytes = known->size;
  for (const json& dimension : shape) {
    std::uint64_t extent = unsigned_number(dimension, what + "'s dimension", origin);
    if (extent > INT64_MAX || __builtin_mul_overflow(bytes, extent, &bytes))
      fail(origin, what + " is larger than memory");
    view.shape.push_back(static_cast<std::int64_t>(extent));
  }
  if (bytes != end - begin)
    fail(origin, what + " of shape " + shape_text(view.shape) + " needs " + std::to_string(bytes) +
                     " bytes, the header gives it " + std::to_string(end - begin));
  view.bytes = data.subspan(begin, end - begin);
  return view;
}

void check_layout(const std::map<std::string, TensorView>& tensors, std::span<const std::byte> data,
                  const std::string& origin) {
  std::vector<std::pair<const std::byte*, const std::string*>> order;
  for (const auto& [name, view] : tensors)
    if (!view.bytes.empty()) order.emplace_back(view.bytes.data(), &name);
  std::sort(order.begin(), order.end(), [](auto& a, auto& b) { return std::less<>()(a.first, b.first); });
  const std::byte* expected = data.data();
  for (const auto& [begin, name] : order) {
    if (begin < expected) fail(origin, tensor_text(*name) + " overlaps another one");
    if (begin > expected) fail(origin, "there is a hole before " + tensor_text(*name));
    expected = begin + tensors.at(*name).bytes.size();
  }
  if (expected != data.data() + data.size()) fail(origin, "there are bytes after the last tensor");
}

template <typename T>
std::vector<float> convert(std::span<const std::byte> bytes) {
  std::vector<float> out(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
  return out;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) {
  int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    throw ModelError(file.string() + ": " + std::strerror(errno) + "; check the path and permissions");
  struct stat status {};
  bool usable = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  void* address = MAP_FAILED;
  if (usable)
    address =
        ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
  ::close(descriptor);
  if (!usable) throw ModelError(file.string() + ": empty or not a regular file; copy or export it again");
  if (address == MAP_FAILED) throw ModelError(file.string() + ": can't be mapped: " + std::strerror(errno));
  data_ = static_cast<const std::byte*>(address);
  size_ = static_cast<std::size_t>(status.st_size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::load_pages() const noexcept {
  ::madvise(const_cast<std::byte*>(data_), size_, MADV_POPULATE_READ);
}

void MappedFile::release_pages() const noexcept {
  ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

std::size_t dtype_size(DType type) {
  return row(type).size;
}
const char* dtype_name(DType type) {
  return row(type).name;
}

std::vector<float> TensorView::to_floats() const {
  switch (dtype) {
    case DType::F64:
      return convert<double>(bytes);
    case DType::F32:
      return convert<float>(bytes);
    case DType::F16:
      return convert<Eigen::half>(bytes);
    case DType::BF16:
      return convert<Eigen::bfloat16>(bytes);
    default:
      throw ModelError(std::string("a weight of type ") + dtype_name(dtype) + " can't be used as float");
  }
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string tensor_text(const std::string& name) {
  constexpr std::size_t kLongest = 100;
  return "tensor \"" + (name.size() > kLongest ? name.substr(0, kLongest) + "..." : name) + "\"";
}

std::map<std::string, TensorView> parse_safetensors(std::span<const std::byte> file,
                                                    const std::string& origin) {
  std::uint64_t length = 0;
  if (file.size() < sizeof(length)) fail(origin, "shorter than its 8-byte header length");
  std::memcpy(&length, file.data(), sizeof(length));
  auto rest = file.subspan(sizeof(length));
  if (length > kLargestHeader || length > rest.size())
    fail(origin, "the header claims " + std::to_string(length) + " bytes, the file has " +
                     std::to_string(rest.size()));
  json header = parse_header({reinterpret_cast<const char*>(rest.data()), length}, origin);
  if (!header.is_object()) fail(origin, "the header is not an object");
  auto data = rest.subspan(length);

  std::map<std::string, TensorView> tensors;
  for (const auto& [name, entry] : header.items())
    if (name != "__metadata__") tensors.emplace(name, parse_tensor(name, entry, data, origin));
  check_layout(tensors, data, origin);
  return tensors;
}

}  // namespace sidewinder
