#include "model/cpu/linear.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "model/cpu/packet.h"

namespace sidewinder::cpu {
namespace {

constexpr int kPackets = 2;                // packets across a panel
constexpr int kPanel = kPackets * kLanes;  // columns a panel
constexpr int kMostRows = 6;               // 6 x 2 sums, 2 weights and 1 input: 15 of 16 vector registers

// Panels that one block takes side by side: few rows alone would leave the multipliers waiting for their own
// sums.
constexpr int panels_for(int rows) {
  return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}

// `Rows` rows against `Panels` panels. The unrolled loops keep every sum in a register.
template <int Rows, int Panels, typename Weight>
void block(const float* x, std::ptrdiff_t ldx, const Weight* panels, int inputs, float* y, std::ptrdiff_t ldy,
           int columns, bool accumulate) {
  constexpr int kAcross = Panels * kPackets;
  Packet sums[Rows][kAcross];
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int p = 0; p < kAcross; ++p) sums[r][p] = splat(0.0f);
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(inputs) * kPanel;
  for (int k = 0; k < inputs; ++k, panels += kPanel) {
    Packet weights[kAcross];
#pragma GCC unroll 8
    for (int p = 0; p < kAcross; ++p)
      weights[p] = load(panels + p / kPackets * stride + p % kPackets * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      Packet input = splat(x[r * ldx + k]);
#pragma GCC unroll 8
      for (int p = 0; p < kAcross; ++p) sums[r][p] = fma(input, weights[p], sums[r][p]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
    float* out = y + r * ldy;
    if (columns >= Panels * kPanel) {
#pragma GCC unroll 8
      for (int p = 0; p < kAcross; ++p) {
        Packet sum = sums[r][p];
        store(out + p * kLanes, accumulate ? ei::padd(load(out + p * kLanes), sum) : sum);
      }
    } else {
      alignas(64) float edge[Panels * kPanel];
#pragma GCC unroll 8
      for (int p = 0; p < kAcross; ++p) store(edge + p * kLanes, sums[r][p]);
      for (int c = 0; c < columns; ++c) out[c] = accumulate ? out[c] + edge[c] : edge[c];
    }
  }
}

template <typename Weight>
using BlockFunction = void (*)(const float*, std::ptrdiff_t, const Weight*, int, float*, std::ptrdiff_t, int,
                               bool);

// Blocks of 1 to kMostRows rows, each with the panels that suit it.
template <typename Weight, int... I>
constexpr std::array<BlockFunction<Weight>, sizeof...(I)> wide_blocks(std::integer_sequence<int, I...>) {
  return {block<I + 1, panels_for(I + 1), Weight>...};
}

// The same for the last panels, where fewer than that are left.
template <typename Weight, int... I>
constexpr std::array<BlockFunction<Weight>, sizeof...(I)> single_blocks(std::integer_sequence<int, I...>) {
  return {block<I + 1, 1, Weight>...};
}

template <typename Weight>
void multiply_panels(const std::vector<Weight>& panels, int inputs, int outputs, const float* x,
                     std::ptrdiff_t ldx, int rows, float* y, std::ptrdiff_t ldy, bool accumulate) {
  static constexpr auto kWide = wide_blocks<Weight>(std::make_integer_sequence<int, kMostRows>());
  static constexpr auto kSingle = single_blocks<Weight>(std::make_integer_sequence<int, kMostRows>());
  if (rows == 0) return;
  // Even blocks: 8 rows go as 4 + 4, which keeps both multipliers busy, not as 6 + 2.
  const int blocks = (rows + kMostRows - 1) / kMostRows;
  const int wide = (blocks == 1 ? panels_for(rows) : 1) * kPanel;
  for (int column = 0, step = 0; column < outputs; column += step) {
    step = (outputs - column + kPanel - 1) / kPanel * kPanel >= wide ? wide : kPanel;
    const Weight* panel = panels.data() + static_cast<std::ptrdiff_t>(column) * inputs;
    for (int b = 0, row = 0; b < blocks; ++b) {
      int height = (rows - row) / (blocks - b);
      const auto& table = step == kPanel ? kSingle : kWide;
      table[height - 1](x + row * ldx, ldx, panel, inputs, y + row * ldy + column, ldy,
                        std::min(step, outputs - column), accumulate);
      row += height;
    }
  }
}

template <typename Weight>
std::vector<Weight> pack(const std::vector<float>& values, int outputs, int inputs,
                         std::span<const std::int64_t> order) {
  std::vector<Weight> panels(static_cast<std::size_t>((outputs + kPanel - 1) / kPanel * kPanel) * inputs,
                             Weight(0));
  for (int out = 0; out < outputs; ++out)
    for (int k = 0; k < inputs; ++k) {
      std::size_t panel = static_cast<std::size_t>(out / kPanel) * inputs * kPanel;
      panels[panel + order[k] * kPanel + out % kPanel] =
          Weight(values[static_cast<std::size_t>(out) * inputs + k]);
    }
  return panels;
}

std::vector<std::int64_t> stored_order(const TensorView& tensor) {
  std::vector<std::int64_t> order(tensor.size() / tensor.shape[0]);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

}  // namespace

std::vector<float> transposed(const TensorView& tensor) {
  std::vector<float> stored = tensor.to_floats();
  std::size_t taps = tensor.shape.back(), channels = stored.size() / taps;
  std::vector<float> out(stored.size());
  for (std::size_t c = 0; c < channels; ++c)
    for (std::size_t k = 0; k < taps; ++k) out[k * channels + c] = stored[c * taps + k];
  return out;
}

PackedMatrix::PackedMatrix(const TensorView& tensor) : PackedMatrix(tensor, stored_order(tensor)) {}

PackedMatrix::PackedMatrix(const TensorView& tensor, std::span<const std::int64_t> order)
    : inputs_(static_cast<int>(order.size())), outputs_(static_cast<int>(tensor.shape[0])) {
  std::vector<float> values = tensor.to_floats();
  if (tensor.dtype == DType::F16)
    panels_ = pack<Eigen::half>(values, outputs_, inputs_, order);
  else
    panels_ = pack<float>(values, outputs_, inputs_, order);
}

void PackedMatrix::multiply(const float* x, std::ptrdiff_t ldx, int rows, float* y, std::ptrdiff_t ldy,
                            bool accumulate) const noexcept {
  std::visit(
      [&](const auto& panels) {
        multiply_panels(panels, inputs_, outputs_, x, ldx, rows, y, ldy, accumulate);
      },
      panels_);
}

}  // namespace sidewinder::cpu
