// y = x W^T with the order of every sum fixed: element (r, c) is one chain of fused multiply-adds over k = 0,
// 1, ... whatever the number of rows around it. (Eigen's product blocks by the shape of both factors, so its
// order changes.)
#pragma once

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include <Eigen/Core>

#include "model/safetensors.h"

namespace sidewinder::cpu {

// A tensor with its last dimension brought to the front: (channels, ..., taps) as stored -> (taps, channels).
std::vector<float> transposed(const TensorView& tensor);

// A weight matrix, packed once into panels of kPanel columns of W^T, so that the product reads memory
// straight on. Float16 tensors stay float16 (half the traffic; the values are exact either way). Const after
// construction.
class PackedMatrix {
 public:
  PackedMatrix() = default;

  // `tensor` is (outputs, inputs...) as stored; dimensions after the first are flattened.
  explicit PackedMatrix(const TensorView& tensor);

  // As above with column k of the stored matrix at `order[k]`; for convolutions, whose taps come in another
  // order.
  PackedMatrix(const TensorView& tensor, std::span<const std::int64_t> order);

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }

  // y (rows, outputs) = x (rows, inputs) W^T, or += with `accumulate`; ldx and ldy are floats from row to
  // row. Rows of x may overlap (a strided convolution); y must not overlap x. Columns past `outputs` are not
  // written.
  void multiply(const float* x, std::ptrdiff_t ldx, int rows, float* y, std::ptrdiff_t ldy,
                bool accumulate = false) const noexcept;

 private:
  int inputs_ = 0;
  int outputs_ = 0;
  std::variant<std::vector<float>, std::vector<Eigen::half>> panels_;  // (panels, inputs, kPanel)
};

}  // namespace sidewinder::cpu
