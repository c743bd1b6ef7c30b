#include <cstring>

#include "kernels/cuda_check.h"

namespace sidewinder::cuda {

PinnedMemory::PinnedMemory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  check(cudaMallocHost(&data_, bytes),
        ("pinning " + std::to_string(bytes) + " bytes of host memory").c_str());
  std::memset(data_, 0, bytes);
}

}  // namespace sidewinder::cuda
