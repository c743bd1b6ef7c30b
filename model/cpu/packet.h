// SIMD packets (Eigen's) and the elementary functions of the CPU engine on them.
// Every function here gives the same bits for the same input wherever it stands, so nothing depends on
// position.
#pragma once

#include <cstdint>

#include <Eigen/Core>

namespace sidewinder::cpu {

namespace ei = Eigen::internal;

using Packet = ei::packet_traits<float>::type;
using IntPacket = ei::unpacket_traits<Packet>::integer_packet;
constexpr int kLanes = ei::unpacket_traits<Packet>::size;
static_assert(8 % kLanes == 0, "rows are multiples of 8 floats");

inline Packet load(const float* p) {
  return ei::ploadu<Packet>(p);
}
inline void store(float* p, Packet v) {
  ei::pstoreu(p, v);
}
inline Packet splat(float v) {
  return ei::pset1<Packet>(v);
}
inline Packet fma(Packet a, Packet b, Packet c) {
  return ei::pmadd(a, b, c);
}

// Half-precision weights become float32 in the register; the conversion is exact.
inline Packet load(const Eigen::half* p) {
#if defined(__F16C__) && defined(EIGEN_VECTORIZE_AVX)
  // Eigen 3.4.0 sees F16C under clang only.
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  alignas(32) float wide[kLanes];
  for (int i = 0; i < kLanes; ++i) wide[i] = static_cast<float>(p[i]);
  return load(wide);
#endif
}

// 2^x for x in [-126, 127]: x splits into the nearest integer, which goes to the exponent bits, and a rest in
// [-1/2, 1/2], whose 2^rest is a degree-6 polynomial (minimax, relative error 2e-9: exp2_coefficients.py).
inline Packet exp2_in_range(Packet x) {
  // Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits.
  Packet shifter = splat(12582912.0f);
  Packet shifted = ei::padd(x, shifter);
  Packet rest = ei::psub(x, ei::psub(shifted, shifter));
  Packet p = splat(1.535336194e-4f);
  p = fma(p, rest, splat(1.339887440e-3f));
  p = fma(p, rest, splat(9.618437357e-3f));
  p = fma(p, rest, splat(5.550332471e-2f));
  p = fma(p, rest, splat(2.402264791e-1f));
  p = fma(p, rest, splat(6.931472029e-1f));
  p = fma(p, rest, splat(1.0f));
  IntPacket exponent = ei::plogical_shift_left<23>(ei::preinterpret<IntPacket>(shifted));
  return ei::preinterpret<Packet>(ei::padd(ei::preinterpret<IntPacket>(p), exponent));
}

// 2^x for x <= 0; 2^-126 stands for anything smaller.
inline Packet exp2_nonpositive(Packet x) {
  return exp2_in_range(ei::pmax(x, splat(-126.0f)));
}

constexpr float kLog2E = 1.44269504f;

// e^x, clamped to [2^-126, 2^126].
inline Packet exp(Packet x) {
  Packet power = ei::pmul(x, splat(kLog2E));
  return exp2_in_range(ei::pmin(ei::pmax(power, splat(-126.0f)), splat(126.0f)));
}

// x * sigmoid(x)
inline Packet silu(Packet x) {
  return ei::pdiv(x, ei::padd(splat(1.0f), exp(ei::pnegate(x))));
}

// log(1 + exp(x)), the identity above 20 as in the published Mamba code.
inline Packet softplus(Packet x) {
  Packet small = ei::plog1p(exp(ei::pmin(x, splat(20.0f))));
  return ei::pselect(ei::pcmp_lt(splat(20.0f), x), x, small);
}

}  // namespace sidewinder::cpu
