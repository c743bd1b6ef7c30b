// Any bytes as a safetensors file: refused with a ModelError, or every view lies in the file and can be read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "model/error.h"
#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sidewinder;
  try {
    std::size_t bytes = 0;
    for (const auto& [name, view] : parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz")) {
      bytes += view.bytes.size();
      bool is_float = view.dtype == DType::F64 || view.dtype == DType::F32 || view.dtype == DType::F16 ||
                      view.dtype == DType::BF16;
      if (is_float && view.to_floats().size() != view.size()) std::abort();
      if (shape_text(view.shape).empty() || tensor_text(name).empty()) std::abort();
    }
    if (bytes > size) std::abort();  // no overlap
  } catch (const ModelError&) {
  }
  return 0;
}
