// Reader of the safetensors format: 8 bytes of header length (little-endian), a JSON header, the tensors'
// bytes. Format: https://github.com/huggingface/safetensors (README, "Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace sidewinder {

// A file mapped read-only into memory; move-only. Any thread may read it.
class MappedFile {
 public:
  // Throws ModelError when the file can't be opened or mapped, or is empty.
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Reads all of it into memory, which other processes that map the file share.
  void load_pages() const noexcept;

  // Tells the kernel that the pages won't be needed soon; they stay readable.
  void release_pages() const noexcept;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

enum class DType { F64, F32, F16, BF16, I64, I32, I16, U16, I8, U8, Bool };

std::size_t dtype_size(DType type);  // bytes an element
const char* dtype_name(DType type);  // as in the header: "F32"

// One tensor's place in the file; the bytes may be unaligned. Valid while the file is.
struct TensorView {
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  std::size_t size() const { return bytes.size() / dtype_size(dtype); }  // elements

  // The elements as float32; F16, BF16, F32 and F64 only (ModelError otherwise).
  std::vector<float> to_floats() const;
};

// "[256, 80, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

// "tensor \"NAME\"", shortened: a damaged file's names can be megabytes.
std::string tensor_text(const std::string& name);

// Checks the whole header: lengths, types, shapes against byte counts, no overlap, no hole, no duplicate.
// Returns views into `file`; origin names the file in errors. Throws ModelError.
std::map<std::string, TensorView> parse_safetensors(std::span<const std::byte> file,
                                                    const std::string& origin);

}  // namespace sidewinder
