// What a product reads.
#pragma once

#include <cstdint>

namespace sidewinder::cuda {

template <typename T>
struct Matrix {
  const T* weights = nullptr;  // (outputs, inputs_padded)
  int inputs = 0;
  int inputs_padded = 0;
  int outputs = 0;
  const float* scale = nullptr;  // (outputs), float8 only: what a sum is to be multiplied with
};

// The rows that a product reads.
template <typename T>
struct Rows {
  const T* data = nullptr;
  std::int64_t stride = 0;              // elements from row to row; rows may overlap
  const std::int32_t* count = nullptr;  // on the device
  int most = 0;                         // bound of count that the grid covers
};

}  // namespace sidewinder::cuda
