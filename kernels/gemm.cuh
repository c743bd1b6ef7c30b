// Matrix products y = x W^T with the order of every sum fixed: an element is one chain over k in steps of 16
// (tensor cores, float16) or 1 (float32), whatever the number of rows, the tile or the place in it. So a
// row's result never depends on its neighbours. Weights are packed as kernels/packed_model.h says.
//
// What happens to a result is a functor (an epilogue) that gets four consecutive outputs of a row at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

#include <cuda_runtime.h>

#include "kernels/cuda_check.h"
#include "kernels/device_math.cuh"
#include "kernels/launch.cuh"

namespace sidewinder::cuda {

template <typename T>
struct Matrix {
  const T* weights = nullptr;  // (outputs, inputs_padded)
  int inputs = 0;
  int inputs_padded = 0;
  int outputs = 0;
};

// The rows that a product reads.
template <typename T>
struct Rows {
  const T* data = nullptr;
  std::int64_t stride = 0;              // elements from row to row; rows may overlap
  const std::int32_t* count = nullptr;  // on the device
  int most = 0;                         // bound of count that the grid covers
};

// ---- Epilogues -------------------------------------------------------------------------------------------

// out = v, through SiLU from column `silu_from` on.
template <typename T>
struct StoreActivation {
  static constexpr int kQuads = 1;
  T* out;  // (rows, ld)
  int ld;
  int silu_from;
  __device__ void operator()(int row, int col, const float4 (&v)[1]) const {
    float4 r = v[0];
    if (col >= silu_from) r = {silu(r.x), silu(r.y), silu(r.z), silu(r.w)};
    store4(out + static_cast<std::int64_t>(row) * ld + col, r);
  }
};

struct StoreFloat {
  static constexpr int kQuads = 1;
  float* out;  // (rows, ld)
  int ld;
  __device__ void operator()(int row, int col, const float4 (&v)[1]) const {
    store4(out + static_cast<std::int64_t>(row) * ld + col, v[0]);
  }
};

// out = SiLU(v + bias)
template <typename T>
struct StoreBiasSilu {
  static constexpr int kQuads = 1;
  T* out;  // (rows, ld)
  int ld;
  const float* bias;  // (ld)
  __device__ void operator()(int row, int col, const float4 (&v)[1]) const {
    float4 b = load4(bias + col), r = v[0];
    store4(out + static_cast<std::int64_t>(row) * ld + col,
           {silu(r.x + b.x), silu(r.y + b.y), silu(r.z + b.z), silu(r.w + b.w)});
  }
};

// x += v
struct AddTo {
  static constexpr int kQuads = 1;
  float* x;  // (rows, ld)
  int ld;
  __device__ void operator()(int row, int col, const float4 (&v)[1]) const {
    float* at = x + static_cast<std::int64_t>(row) * ld + col;
    float4 old = load4(at), r = v[0];
    store4(at, {old.x + r.x, old.y + r.y, old.z + r.z, old.w + r.w});
  }
};

// out = y SiLU(g) for a gated matrix; col counts the outputs of y.
template <typename T>
struct StoreGated {
  static constexpr int kQuads = 2;
  T* out;  // (rows, ld)
  int ld;
  __device__ void operator()(int row, int col, const float4 (&v)[2]) const {
    float4 y = v[0], g = v[1];
    store4(out + static_cast<std::int64_t>(row) * ld + col,
           {y.x * silu(g.x), y.y * silu(g.y), y.z * silu(g.z), y.w * silu(g.w)});
  }
};

// ---- Tensor-core tiles -----------------------------------------------------------------------------------

constexpr int kStepK = 64;  // inputs a pipeline stage: 128 bytes a row, eight 16-byte chunks

// A block computes kM x kN outputs, each of its warps kWarpM x kWarpN.
template <int M, int N, int WarpM, int WarpN, int Stages, int MinBlocks>
struct Tile {
  static constexpr int kM = M, kN = N, kWarpM = WarpM, kWarpN = WarpN, kStages = Stages;
  static constexpr int kMinBlocks = MinBlocks;
  static constexpr int kWarpsM = M / WarpM, kWarpsN = N / WarpN;
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kSharedBytes = Stages * (M + N) * kStepK * 2;
  static constexpr int kAcrossM = WarpM / 16, kAcrossN = WarpN / 8;  // instructions across a warp's tile
  static_assert(M % WarpM == 0 && N % WarpN == 0 && WarpM % 16 == 0 && WarpN % 16 == 0);
};

using LargeTile = Tile<128, 128, 64, 32, 3, 2>;
using MiddleTile = Tile<64, 64, 32, 32, 4, 3>;
using SmallTile = Tile<16, 64, 16, 16, 4, 1>;
using SmallGatedTile = Tile<16, 128, 16, 32, 4, 1>;
using NarrowTile = Tile<64, 48, 16, 48, 4, 3>;  // x_proj: 48 outputs
using SmallNarrowTile = Tile<16, 48, 16, 16, 4, 1>;

// A block computes whole rows, so that it can norm them. Both give a warp 32 columns: the order of the sum of
// squares stays.
constexpr int kRowOutputs = 256;
using RowTile = Tile<32, kRowOutputs, 32, 32, 3, 2>;
using SmallRowTile = Tile<16, kRowOutputs, 16, 32, 6, 1>;

__device__ inline void load_matrices(unsigned (&r)[4], const __half* shared) {
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Chunks of a row are exclusive-ored with the row's number, so that neither the copies nor ldmatrix meet bank
// conflicts.
__device__ inline int shared_offset(int row, int chunk) {
  return row * kStepK + ((chunk ^ (row & 7)) << 3);
}

// One stage's share of the sums: a (kM, kStepK), b (kN, kStepK) in shared memory.
template <typename Tile>
__device__ inline void multiply_step(const __half* a, const __half* b, int warp_m, int warp_n, int lane,
                                     float (&sums)[Tile::kAcrossM][Tile::kAcrossN][4]) {
#pragma unroll
  for (int kk = 0; kk < kStepK / 16; ++kk) {
    unsigned fa[Tile::kAcrossM][4];
#pragma unroll
    for (int i = 0; i < Tile::kAcrossM; ++i)
      load_matrices(fa[i], a + shared_offset(warp_m + 16 * i + lane % 16, 2 * kk + lane / 16));
#pragma unroll
    for (int j = 0; j < Tile::kAcrossN; j += 2) {
      unsigned fb[4];
      load_matrices(fb, b + shared_offset(warp_n + 8 * j + lane % 8 + lane / 16 * 8, 2 * kk + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < Tile::kAcrossM; ++i) {
        multiply_add(sums[i][j], fa[i], fb[0], fb[1]);
        multiply_add(sums[i][j + 1], fa[i], fb[2], fb[3]);
      }
    }
  }
}

// The sums of one block's tile; sums[i][j] belongs to rows 16 i + lane / 4 (+ 8) and columns 8 j of the warp.
// Returns the number of rows there are; a tile behind them has no sums. start(row, col) is what the sum of
// columns col to col + 3 begins with; it may read what is older than the kernel before this one.
template <typename Tile, typename Start>
__device__ inline int multiply_tile(const Rows<__half>& x, const Matrix<__half>& w, int row0, int col0,
                                    __half* shared, float (&sums)[Tile::kAcrossM][Tile::kAcrossN][4],
                                    Start&& start) {
  constexpr int kStage = (Tile::kM + Tile::kN) * kStepK;
  const int thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  const int warp_m = warp / Tile::kWarpsN * Tile::kWarpM, warp_n = warp % Tile::kWarpsN * Tile::kWarpN;
  const int steps = w.inputs_padded / kStepK;
  const int rows = *x.count;  // older than the kernel before this one

  auto copy_weights = [&](int step) {
    __half* b = shared + step % Tile::kStages * kStage + Tile::kM * kStepK;
#pragma unroll
    for (int i = thread; i < Tile::kN * 8; i += Tile::kThreads) {
      const int row = i / 8, chunk = i % 8, k = step * kStepK + chunk * 8;
      const bool valid = col0 + row < w.outputs;
      const __half* from =
          valid ? w.weights + static_cast<std::int64_t>(col0 + row) * w.inputs_padded + k : w.weights;
      copy_async(b + shared_offset(row, chunk), from, valid);
    }
  };
  auto copy_rows = [&](int step) {
    __half* a = shared + step % Tile::kStages * kStage;
#pragma unroll
    for (int i = thread; i < Tile::kM * 8; i += Tile::kThreads) {
      const int row = i / 8, chunk = i % 8, k = step * kStepK + chunk * 8;
      const bool valid = row0 + row < rows && k < w.inputs;
      const __half* from = valid ? x.data + (row0 + row) * x.stride + k : x.data;
      copy_async(a + shared_offset(row, chunk), from, valid);
    }
  };

  // Nothing writes weights: they are on their way before the rows are there.
  const int ahead = min(steps, Tile::kStages - 1);
  if (row0 < rows) {
    for (int step = 0; step < ahead; ++step) copy_weights(step);
#pragma unroll
    for (int i = 0; i < Tile::kAcrossM; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < Tile::kAcrossN; j += 2) {
          const int row = row0 + warp_m + 16 * i + 8 * half + lane / 4;
          float4 v{};
          if (row < rows) v = start(row, col0 + warp_n + 8 * j + 4 * (lane % 4));
          sums[i][j][2 * half] = v.x;
          sums[i][j][2 * half + 1] = v.y;
          sums[i][j + 1][2 * half] = v.z;
          sums[i][j + 1][2 * half + 1] = v.w;
        }
  }
  wait_for_kernels_before();
  if (row0 >= rows) return rows;
  for (int step = 0; step < Tile::kStages - 1; ++step) {
    if (step < ahead) copy_rows(step);
    commit_copies();
  }
  for (int step = 0; step < steps; ++step) {
    wait_copies<Tile::kStages - 2>();
    __syncthreads();  // the stage is there for all, and all are done with the one that is refilled now
    if (const int next = step + Tile::kStages - 1; next < steps) {
      copy_weights(next);
      copy_rows(next);
    }
    commit_copies();
    const __half* a = shared + step % Tile::kStages * kStage;
    const __half* b = a + Tile::kM * kStepK;
    multiply_step<Tile>(a, b, warp_m, warp_n, lane, sums);
  }
  return rows;
}

// The four consecutive outputs that a thread holds of one row (half 0: row lane / 4, 1: 8 below) of group j.
__device__ inline float4 quad(const float (&left)[4], const float (&right)[4], int half) {
  return {left[2 * half], left[2 * half + 1], right[2 * half], right[2 * half + 1]};
}

// Gives a finished tile's sums to the epilogue.
template <typename Tile, typename Epilogue>
__device__ inline void hand_out(const float (&sums)[Tile::kAcrossM][Tile::kAcrossN][4], int rows, int row0,
                                int col0, int outputs, const Epilogue& epilogue) {
  constexpr int kQuads = Epilogue::kQuads;
  static_assert(Tile::kWarpN % (16 * kQuads) == 0);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warp_m = warp / Tile::kWarpsN * Tile::kWarpM, warp_n = warp % Tile::kWarpsN * Tile::kWarpN;
#pragma unroll
  for (int i = 0; i < Tile::kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + warp_m + 16 * i + 8 * half + lane / 4;
      if (row >= rows) continue;
#pragma unroll
      for (int j = 0; j < Tile::kAcrossN; j += 2 * kQuads) {
        const int col = col0 + warp_n + 8 * j;
        if (col >= outputs) continue;
        float4 v[kQuads];
#pragma unroll
        for (int q = 0; q < kQuads; ++q) v[q] = quad(sums[i][j + 2 * q], sums[i][j + 2 * q + 1], half);
        epilogue(row, col / kQuads + 4 * (lane % 4), v);
      }
    }
}

template <typename Tile, typename Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    multiply_half(Rows<__half> x, Matrix<__half> w, Epilogue epilogue) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const int row0 = blockIdx.y * Tile::kM, col0 = blockIdx.x * Tile::kN;
  float sums[Tile::kAcrossM][Tile::kAcrossN][4];
  const int rows = multiply_tile<Tile>(x, w, row0, col0, reinterpret_cast<__half*>(shared_bytes), sums,
                                       [](int, int) { return float4{}; });
  if (row0 >= rows) return;
  hand_out<Tile>(sums, rows, row0, col0, w.outputs, epilogue);
}

// ---- Whole rows: the product, what it is added to, and the RMSNorm behind that --------------------------

struct RowEpilogue {
  float* x;           // (rows, kRowOutputs): residual stream, or the stem's output
  const float* bias;  // (kRowOutputs), stem only
  const float* norm;  // (kRowOutputs)
  float eps;
  __half* normed;  // (rows, kRowOutputs), not for the stem
};

// kStem: x = rms(SiLU(v + bias)). Otherwise x += v, normed = rms(x).
template <typename Tile, bool kStem>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    multiply_rows_kernel(Rows<__half> in, Matrix<__half> w, RowEpilogue epilogue) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  __shared__ float partial[Tile::kWarpsN][Tile::kM];
  static_assert(Tile::kN == kRowOutputs && Tile::kWarpsM == 1);
  const int row0 = blockIdx.x * Tile::kM;
  float sums[Tile::kAcrossM][Tile::kAcrossN][4];
  // The sums begin with the residual stream: its loads go unnoticed behind those of the weights.
  const int rows = multiply_tile<Tile>(
      in, w, row0, 0, reinterpret_cast<__half*>(shared_bytes), sums, [&](int row, int col) {
        if (kStem) return float4{};
        return load4(epilogue.x + static_cast<std::int64_t>(row) * kRowOutputs + col);
      });
  if (row0 >= rows) return;

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int col0 = warp * Tile::kWarpN + 4 * (lane % 4);
#pragma unroll
  for (int i = 0; i < Tile::kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int local = 16 * i + 8 * half + lane / 4, row = row0 + local;
      float square = 0.0f;
#pragma unroll
      for (int j = 0; j < Tile::kAcrossN; j += 2) {
        float4 v = quad(sums[i][j], sums[i][j + 1], half);
        float* at = epilogue.x + static_cast<std::int64_t>(row) * kRowOutputs + col0 + 8 * j;
        if (kStem) {
          const float4 b = load4(epilogue.bias + col0 + 8 * j);
          v = {silu(v.x + b.x), silu(v.y + b.y), silu(v.z + b.z), silu(v.w + b.w)};
        } else if (row < rows) {
          store4(at, v);
        }
        sums[i][j][2 * half] = v.x;
        sums[i][j][2 * half + 1] = v.y;
        sums[i][j + 1][2 * half] = v.z;
        sums[i][j + 1][2 * half + 1] = v.w;
        square = fmaf(v.x, v.x, square);
        square = fmaf(v.y, v.y, square);
        square = fmaf(v.z, v.z, square);
        square = fmaf(v.w, v.w, square);
      }
      square += __shfl_xor_sync(0xffffffffu, square, 1);
      square += __shfl_xor_sync(0xffffffffu, square, 2);
      if (lane % 4 == 0) partial[warp][local] = square;
    }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Tile::kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int local = 16 * i + 8 * half + lane / 4, row = row0 + local;
      if (row >= rows) continue;
      float square = 0.0f;
#pragma unroll
      for (int other = 0; other < Tile::kWarpsN; ++other) square += partial[other][local];
      const float scale = 1.0f / sqrtf(square / kRowOutputs + epilogue.eps);
#pragma unroll
      for (int j = 0; j < Tile::kAcrossN; j += 2) {
        const int col = col0 + 8 * j;
        const float4 v = scaled(quad(sums[i][j], sums[i][j + 1], half), scale, load4(epilogue.norm + col));
        const std::int64_t at = static_cast<std::int64_t>(row) * kRowOutputs + col;
        if (kStem)
          store4(epilogue.x + at, v);
        else
          store4(epilogue.normed + at, v);
      }
    }
}

// ---- Float32 ---------------------------------------------------------------------------------------------

constexpr int kFloatTile = 64;  // rows, and columns of each quad
constexpr int kFloatStep = 16;  // inputs
constexpr int kFloatThreads = 256;

template <typename Epilogue>
__global__ void __launch_bounds__(kFloatThreads)
    multiply_float(Rows<float> x, Matrix<float> w, Epilogue epilogue) {
  constexpr int kQuads = Epilogue::kQuads, kColumns = kFloatTile * kQuads;
  __shared__ __align__(16) float a[kFloatStep][kFloatTile + 4];
  __shared__ __align__(16) float b[kFloatStep][kColumns + 4];
  wait_for_kernels_before();
  const int rows = *x.count, row0 = blockIdx.y * kFloatTile, col0 = blockIdx.x * kColumns;
  if (row0 >= rows) return;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  // With two quads, columns come in blocks of 16 values and their 16 gates.
  const int quad0 = kQuads == 1 ? 4 * tx : tx / 4 * 32 + tx % 4 * 4;
  float sums[4][kQuads][4] = {};
  for (int k0 = 0; k0 < w.inputs; k0 += kFloatStep) {
    for (int i = threadIdx.x; i < kFloatTile * kFloatStep; i += kFloatThreads) {
      const int row = i / kFloatStep, k = i % kFloatStep;
      const bool valid = row0 + row < rows && k0 + k < w.inputs;
      a[k][row] = valid ? x.data[(row0 + row) * x.stride + k0 + k] : 0.0f;
    }
    for (int i = threadIdx.x; i < kColumns * kFloatStep; i += kFloatThreads) {
      const int col = i / kFloatStep, k = i % kFloatStep;
      const bool valid = col0 + col < w.outputs;
      b[k][col] = valid ? w.weights[static_cast<std::int64_t>(col0 + col) * w.inputs_padded + k0 + k] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kFloatStep; ++k) {
      const float4 va = load4(&a[k][4 * ty]);
      const float ra[4] = {va.x, va.y, va.z, va.w};
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const float4 vb = load4(&b[k][quad0 + 16 * q]);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          sums[r][q][0] = fmaf(ra[r], vb.x, sums[r][q][0]);
          sums[r][q][1] = fmaf(ra[r], vb.y, sums[r][q][1]);
          sums[r][q][2] = fmaf(ra[r], vb.z, sums[r][q][2]);
          sums[r][q][3] = fmaf(ra[r], vb.w, sums[r][q][3]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int row = row0 + 4 * ty + r;
    if (row >= rows || col0 + quad0 >= w.outputs) continue;
    float4 v[kQuads];
#pragma unroll
    for (int q = 0; q < kQuads; ++q) v[q] = {sums[r][q][0], sums[r][q][1], sums[r][q][2], sums[r][q][3]};
    epilogue(row, col0 / kQuads + (kQuads == 1 ? 4 * tx : tx / 4 * 16 + tx % 4 * 4), v);
  }
}

// ---- Launching -------------------------------------------------------------------------------------------

// Lets a kernel have more than 48 KiB of shared memory; once a device.
template <auto kKernel>
void allow_shared(int bytes) {
  static std::atomic<std::uint64_t> done{0};  // one bit a device
  int device = 0;
  check(cudaGetDevice(&device), "asking for the current device");
  const std::uint64_t bit = std::uint64_t{1} << (device % 64);
  if (done.load(std::memory_order_relaxed) & bit) return;
  check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "raising a kernel's shared memory");
  done.fetch_or(bit);
}

template <typename Tile, typename Epilogue>
void launch_tile(const Rows<__half>& x, const Matrix<__half>& w, const Epilogue& epilogue,
                 cudaStream_t stream) {
  allow_shared<multiply_half<Tile, Epilogue>>(Tile::kSharedBytes);
  const dim3 grid(blocks(w.outputs, Tile::kN), blocks(x.most, Tile::kM));
  launch(multiply_half<Tile, Epilogue>, grid, Tile::kThreads, Tile::kSharedBytes, stream, x, w, epilogue);
}

// The tile only decides who computes what, never a bit.
template <typename Epilogue>
void multiply(const Rows<__half>& x, const Matrix<__half>& w, const Epilogue& epilogue, int multiprocessors,
              cudaStream_t stream) {
  constexpr bool kGated = Epilogue::kQuads == 2;
  if (x.most <= 64)
    launch_tile<std::conditional_t<kGated, SmallGatedTile, SmallTile>>(x, w, epilogue, stream);
  else if (blocks(x.most, LargeTile::kM) * blocks(w.outputs, LargeTile::kN) >= multiprocessors)
    launch_tile<LargeTile>(x, w, epilogue, stream);
  else
    launch_tile<MiddleTile>(x, w, epilogue, stream);
}

// For few outputs (x_proj).
template <typename Epilogue>
void multiply_narrow(const Rows<__half>& x, const Matrix<__half>& w, const Epilogue& epilogue,
                     cudaStream_t stream) {
  if (x.most <= 64)
    launch_tile<SmallNarrowTile>(x, w, epilogue, stream);
  else
    launch_tile<NarrowTile>(x, w, epilogue, stream);
}

template <typename Epilogue>
void multiply(const Rows<float>& x, const Matrix<float>& w, const Epilogue& epilogue, int,
              cudaStream_t stream) {
  const dim3 grid(blocks(w.outputs, kFloatTile * Epilogue::kQuads), blocks(x.most, kFloatTile));
  launch(multiply_float<Epilogue>, grid, kFloatThreads, 0, stream, x, w, epilogue);
}

template <typename Epilogue>
void multiply_narrow(const Rows<float>& x, const Matrix<float>& w, const Epilogue& epilogue,
                     cudaStream_t stream) {
  multiply(x, w, epilogue, 0, stream);
}

template <bool kStem>
void multiply_rows(const Rows<__half>& x, const Matrix<__half>& w, const RowEpilogue& epilogue,
                   int multiprocessors, cudaStream_t stream) {
  auto launch_rows = [&]<typename Tile>(Tile) {
    allow_shared<multiply_rows_kernel<Tile, kStem>>(Tile::kSharedBytes);
    launch(multiply_rows_kernel<Tile, kStem>, blocks(x.most, Tile::kM), Tile::kThreads, Tile::kSharedBytes,
           stream, x, w, epilogue);
  };
  if (x.most <= SmallRowTile::kM * multiprocessors)
    launch_rows(SmallRowTile{});
  else
    launch_rows(RowTile{});
}

}  // namespace sidewinder::cuda
