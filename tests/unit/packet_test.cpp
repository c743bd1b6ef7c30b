// The elementary functions and the product of the CPU engine, against the C library in float64.
#include "model/cpu/packet.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "model/cpu/linear.h"
#include "tests/unit/support.h"

namespace sidewinder::test {
namespace {

using namespace cpu;

template <typename Function>
float at(Function&& function, float x) {
  return ei::pfirst(function(splat(x)));
}

TEST(Packet, ExpIsWithinTwoUnitsWhereItMatters) {
  for (float x = -20; x <= 20; x += 0.001f) {
    double exact = std::exp(static_cast<double>(x));
    // x log2(e) is rounded once, which costs |x| half-units.
    EXPECT_NEAR(at(cpu::exp, x), exact, exact * 1.2e-7 * (1 + std::abs(x))) << x;
  }
  EXPECT_GT(at(cpu::exp, -1000.0f), 0.0f);
  EXPECT_TRUE(std::isfinite(at(cpu::exp, 1000.0f)));
  EXPECT_EQ(at(exp2_nonpositive, 0.0f), 1.0f);
  EXPECT_EQ(at(exp2_nonpositive, -3.0f), 0.125f);
  EXPECT_LT(at(exp2_nonpositive, -1e30f), 1e-37f);
}

TEST(Packet, SoftplusIsTheIdentityAboveTwenty) {
  for (float x : {20.001f, 25.0f, 88.0f, 1e6f}) EXPECT_EQ(at(softplus, x), x);
  for (float x = -40; x <= 20; x += 0.01f) {
    double exact = std::log1p(std::exp(static_cast<double>(x)));
    EXPECT_NEAR(at(softplus, x), exact, exact * 6e-6) << x;
  }
}

TEST(Packet, SiluOfLargeValuesSaturates) {
  EXPECT_EQ(at(silu, 200.0f), 200.0f);
  EXPECT_NEAR(at(silu, -200.0f), 0.0f, 1e-30f);
  for (float x = -15; x <= 15; x += 0.01f) {
    double exact = x / (1 + std::exp(-static_cast<double>(x)));
    EXPECT_NEAR(at(silu, x), exact, std::abs(exact) * 4e-6 + 1e-12) << x;
  }
}

TensorView view(const std::vector<float>& values, std::vector<std::int64_t> shape) {
  return {DType::F32, std::move(shape), std::as_bytes(std::span(values))};
}

TensorView view(const std::vector<Eigen::half>& values, std::vector<std::int64_t> shape) {
  return {DType::F16, std::move(shape), std::as_bytes(std::span(values))};
}

template <typename Weight>
void check_product(int outputs, int inputs) {
  std::mt19937 random(static_cast<unsigned>(outputs * 1000 + inputs));
  std::normal_distribution<float> normal;
  std::vector<Weight> weights(static_cast<std::size_t>(outputs) * inputs);
  for (Weight& weight : weights) weight = Weight(normal(random));
  PackedMatrix matrix(view(weights, {outputs, inputs}));
  constexpr int kRows = 20;
  std::vector<float> x(kRows * inputs), alone(outputs),
      y(static_cast<std::size_t>(kRows) * (outputs + 3), 7.0f);
  for (float& value : x) value = normal(random);
  for (int rows = 1; rows <= kRows; ++rows) {
    matrix.multiply(x.data(), inputs, rows, y.data(), outputs + 3);
    for (int r = 0; r < rows; ++r) {
      const float* row = y.data() + r * (outputs + 3);
      matrix.multiply(x.data() + r * inputs, inputs, 1, alone.data(), outputs);
      ASSERT_EQ(hash_bits(std::span(row, outputs)), hash_bits(std::span<const float>(alone)))
          << rows << " rows give other bits than one";
      for (int c = outputs; c < outputs + 3; ++c) ASSERT_EQ(row[c], 7.0f) << "wrote past the columns";
      for (int c = 0; c < outputs; ++c) {
        double exact = 0, scale = 0;
        for (int k = 0; k < inputs; ++k) {
          double term = static_cast<double>(x[r * inputs + k]) * static_cast<float>(weights[c * inputs + k]);
          exact += term;
          scale += std::abs(term);
        }
        ASSERT_NEAR(row[c], exact, scale * 1e-6);
      }
    }
  }
  std::vector<float> sum(alone);
  matrix.multiply(x.data(), inputs, 1, alone.data(), outputs);
  sum = alone;
  matrix.multiply(x.data(), inputs, 1, sum.data(), outputs, true);
  for (int c = 0; c < outputs; ++c) EXPECT_EQ(sum[c], 2 * alone[c]);
}

TEST(PackedMatrix, RowsAreIndependentAndRight) {
  check_product<float>(48, 33);
  check_product<Eigen::half>(48, 33);
  check_product<float>(401, 16);
  check_product<Eigen::half>(7, 256);
  check_product<Eigen::half>(1, 1);
}

TEST(PackedMatrix, HalfWeightsGiveTheBitsOfTheSameFloats) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<Eigen::half> half(64 * 40);
  std::vector<float> full(half.size()), x(40), a(64), b(64);
  for (std::size_t i = 0; i < half.size(); ++i)
    full[i] = static_cast<float>(half[i] = Eigen::half(normal(random)));
  for (float& value : x) value = normal(random);
  PackedMatrix(view(half, {64, 40})).multiply(x.data(), 40, 1, a.data(), 64);
  PackedMatrix(view(full, {64, 40})).multiply(x.data(), 40, 1, b.data(), 64);
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace sidewinder::test
