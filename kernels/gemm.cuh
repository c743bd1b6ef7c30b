// Matrix products y = x W^T with the order of every sum fixed: an element is one chain over k in steps of 16
// (tensor cores, 16-bit types) or 1 (float32), whatever the number of rows, the tile or the place in it. So a
// row's result never depends on its neighbours. Weights are packed as kernels/packed_model.h says.
//
// Two kinds of tile do the float16 and bfloat16 products: mma.sync's, for any size, and wgmma's
// (kernels/wgmma.cuh) for large ones. Float8 ones are wgmma's at every size, in steps of 32.
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
#include "kernels/matrix.cuh"
#include "kernels/product_choice.h"
#include "kernels/wgmma.cuh"

namespace sidewinder::cuda {

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

template <typename T>
__device__ inline void load_matrices(unsigned (&r)[4], const T* shared) {
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
template <typename T>
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (std::is_same_v<T, __half>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Chunks of a row are exclusive-ored with the row's number, so that neither the copies nor ldmatrix meet bank
// conflicts. The place of a chunk in a tile of rows of 128 bytes, in elements; T is 16 bits wide but for
// float8.
template <typename T = __half>
__device__ inline int shared_offset(int row, int chunk) {
  return (row * 8 + (chunk ^ (row & 7))) * static_cast<int>(16 / sizeof(T));
}

// One stage's share of the sums: a (kM, kStepK), b (kN, kStepK) in shared memory.
template <typename Tile, typename T>
__device__ inline void multiply_step(const T* a, const T* b, int warp_m, int warp_n, int lane,
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
        multiply_add<T>(sums[i][j], fa[i], fb[0], fb[1]);
        multiply_add<T>(sums[i][j + 1], fa[i], fb[2], fb[3]);
      }
    }
  }
}

// What a warp's sums, of rows from `first_row` and columns from `first_col` on, begin with: start(row, col)
// gives columns col to col + 3.
template <int kAcrossM, int kAcrossN, typename Start>
__device__ inline void begin_sums(float (&sums)[kAcrossM][kAcrossN][4], int first_row, int first_col,
                                  int rows, Start&& start) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < kAcrossN; j += 2) {
        const int row = first_row + 16 * i + 8 * half + lane / 4;
        float4 v{};
        if (row < rows) v = start(row, first_col + 8 * j + 4 * (lane % 4));
        sums[i][j][2 * half] = v.x;
        sums[i][j][2 * half + 1] = v.y;
        sums[i][j + 1][2 * half] = v.z;
        sums[i][j + 1][2 * half + 1] = v.w;
      }
}

// The sums of one block's tile; sums[i][j] belongs to rows 16 i + lane / 4 (+ 8) and columns 8 j of the warp.
// Returns the number of rows there are; a tile behind them has no sums. start(row, col) is what the sum of
// columns col to col + 3 begins with; it may read what is older than the kernel before this one.
template <typename Tile, typename T, typename Start>
__device__ inline int multiply_tile(const Rows<T>& x, const Matrix<T>& w, int row0, int col0, T* shared,
                                    float (&sums)[Tile::kAcrossM][Tile::kAcrossN][4], Start&& start) {
  constexpr int kStage = (Tile::kM + Tile::kN) * kStepK;
  const int thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  const int warp_m = warp / Tile::kWarpsN * Tile::kWarpM, warp_n = warp % Tile::kWarpsN * Tile::kWarpN;
  const int steps = w.inputs_padded / kStepK;
  const int rows = *x.count;  // older than the kernel before this one

  auto copy_weights = [&](int step) {
    T* b = shared + step % Tile::kStages * kStage + Tile::kM * kStepK;
#pragma unroll
    for (int i = thread; i < Tile::kN * 8; i += Tile::kThreads) {
      const int row = i / 8, chunk = i % 8, k = step * kStepK + chunk * 8;
      const bool valid = col0 + row < w.outputs;
      const T* from =
          valid ? w.weights + static_cast<std::int64_t>(col0 + row) * w.inputs_padded + k : w.weights;
      copy_async(b + shared_offset(row, chunk), from, valid);
    }
  };
  auto copy_rows = [&](int step) {
    T* a = shared + step % Tile::kStages * kStage;
#pragma unroll
    for (int i = thread; i < Tile::kM * 8; i += Tile::kThreads) {
      const int row = i / 8, chunk = i % 8, k = step * kStepK + chunk * 8;
      const bool valid = row0 + row < rows && k < w.inputs;
      const T* from = valid ? x.data + (row0 + row) * x.stride + k : x.data;
      copy_async(a + shared_offset(row, chunk), from, valid);
    }
  };

  // Nothing writes weights: they are on their way before the rows are there.
  const int ahead = min(steps, Tile::kStages - 1);
  if (row0 < rows) {
    for (int step = 0; step < ahead; ++step) copy_weights(step);
    begin_sums(sums, row0 + warp_m, col0 + warp_n, rows, start);
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
    const T* a = shared + step % Tile::kStages * kStage;
    const T* b = a + Tile::kM * kStepK;
    multiply_step<Tile>(a, b, warp_m, warp_n, lane, sums);
  }
  return rows;
}

// The four consecutive outputs that a thread holds of one row (half 0: row lane / 4, 1: 8 below) of group j.
__device__ inline float4 quad(const float (&left)[4], const float (&right)[4], int half) {
  return {left[2 * half], left[2 * half + 1], right[2 * half], right[2 * half + 1]};
}

// Puts them back, and returns `square` with theirs on top, from left to right.
__device__ inline float keep_quad(float (&left)[4], float (&right)[4], int half, float4 v, float square) {
  left[2 * half] = v.x;
  left[2 * half + 1] = v.y;
  right[2 * half] = v.z;
  right[2 * half + 1] = v.w;
  square = fmaf(v.x, v.x, square);
  square = fmaf(v.y, v.y, square);
  square = fmaf(v.z, v.z, square);
  return fmaf(v.w, v.w, square);
}

// Gives a warp's finished sums, of rows from `first_row` and columns from `first_col` on, to the epilogue.
template <int kAcrossM, int kAcrossN, typename Epilogue>
__device__ inline void hand_out(const float (&sums)[kAcrossM][kAcrossN][4], int first_row, int first_col,
                                int rows, int outputs, const Epilogue& epilogue) {
  constexpr int kQuads = Epilogue::kQuads;
  static_assert(kAcrossN % (2 * kQuads) == 0);
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + 16 * i + 8 * half + lane / 4;
      if (row >= rows) continue;
#pragma unroll
      for (int j = 0; j < kAcrossN; j += 2 * kQuads) {
        const int col = first_col + 8 * j;
        if (col >= outputs) continue;
        float4 v[kQuads];
#pragma unroll
        for (int q = 0; q < kQuads; ++q) v[q] = quad(sums[i][j + 2 * q], sums[i][j + 2 * q + 1], half);
        epilogue(row, col / kQuads + 4 * (lane % 4), v);
      }
    }
}

template <typename Tile, typename T, typename Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    multiply_tensor(Rows<T> x, Matrix<T> w, Epilogue epilogue) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const int row0 = blockIdx.y * Tile::kM, col0 = blockIdx.x * Tile::kN;
  float sums[Tile::kAcrossM][Tile::kAcrossN][4];
  const int rows = multiply_tile<Tile>(x, w, row0, col0, reinterpret_cast<T*>(shared_bytes), sums,
                                       [](int, int) { return float4{}; });
  if (row0 >= rows) return;
  const int warp = threadIdx.x / kWarp;
  hand_out(sums, row0 + warp / Tile::kWarpsN * Tile::kWarpM, col0 + warp % Tile::kWarpsN * Tile::kWarpN, rows,
           w.outputs, epilogue);
}

// ---- Whole rows: the product, what it is added to, and the RMSNorm behind that --------------------------

template <typename T>
struct RowEpilogue {
  float* x;           // (rows, kRowOutputs): residual stream, or the stem's output
  const float* bias;  // (kRowOutputs), stem only
  const float* norm;  // (kRowOutputs)
  float eps;
  T* normed;  // (rows, kRowOutputs), not for the stem
};

// The sums of squares are added up 32 columns at a time, then from left to right.
constexpr int kSquareColumns = 32;
constexpr int kSquareGroups = kRowOutputs / kSquareColumns;

// What a row's sums begin with, unless it is the stem's: the residual stream. Its loads go unnoticed behind
// those of the weights.
template <bool kStem, typename T>
__device__ inline float4 row_start(const RowEpilogue<T>& epilogue, int row, int col) {
  if (kStem) return float4{};
  return load4(epilogue.x + static_cast<std::int64_t>(row) * kRowOutputs + col);
}

// The end: from each warp the sums of rows from row0 + warp_row and columns from warp_col on; together the
// warps that meet in `barrier` hold whole rows. put(group, row, sum) brings the sum of squares of 32 columns
// to partial[group][row] of every block that needs it. kStem: x = rms(SiLU(v + bias)). Otherwise x = v,
// normed = rms(v).
template <bool kStem, int kM, int kAcrossM, int kAcrossN, typename T, typename Put, typename Barrier>
__device__ inline void norm_rows(float (&sums)[kAcrossM][kAcrossN][4],
                                 const float (&partial)[kSquareGroups][kM], int row0, int warp_row,
                                 int warp_col, int rows, const RowEpilogue<T>& epilogue, Put&& put,
                                 Barrier&& barrier) {
  constexpr int kGroupN = kSquareColumns / 8;
  static_assert(kAcrossN % kGroupN == 0);
  const int lane = threadIdx.x % kWarp, col0 = warp_col + 4 * (lane % 4);
#pragma unroll
  for (int i = 0; i < kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int local = warp_row + 16 * i + 8 * half + lane / 4, row = row0 + local;
#pragma unroll
      for (int first = 0; first < kAcrossN; first += kGroupN) {
        float square = 0.0f;
#pragma unroll
        for (int j = first; j < first + kGroupN; j += 2) {
          float4 v = quad(sums[i][j], sums[i][j + 1], half);
          if (kStem) {
            const float4 b = load4(epilogue.bias + col0 + 8 * j);
            v = {silu(v.x + b.x), silu(v.y + b.y), silu(v.z + b.z), silu(v.w + b.w)};
          } else if (row < rows) {
            store4(epilogue.x + static_cast<std::int64_t>(row) * kRowOutputs + col0 + 8 * j, v);
          }
          square = keep_quad(sums[i][j], sums[i][j + 1], half, v, square);
        }
        square += __shfl_xor_sync(0xffffffffu, square, 1);
        square += __shfl_xor_sync(0xffffffffu, square, 2);
        if (lane % 4 == 0) put((warp_col + 8 * first) / kSquareColumns, local, square);
      }
    }
  barrier();
#pragma unroll
  for (int i = 0; i < kAcrossM; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int local = warp_row + 16 * i + 8 * half + lane / 4, row = row0 + local;
      if (row >= rows) continue;
      float square = 0.0f;
#pragma unroll
      for (int group = 0; group < kSquareGroups; ++group) square += partial[group][local];
      const float scale = 1.0f / sqrtf(square / kRowOutputs + epilogue.eps);
#pragma unroll
      for (int j = 0; j < kAcrossN; j += 2) {
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

// The same where the block's own warps hold whole rows.
template <bool kStem, int kM, int kAcrossM, int kAcrossN, typename T>
__device__ inline void norm_rows(float (&sums)[kAcrossM][kAcrossN][4], float (&partial)[kSquareGroups][kM],
                                 int row0, int warp_row, int warp_col, int rows,
                                 const RowEpilogue<T>& epilogue) {
  norm_rows<kStem>(
      sums, partial, row0, warp_row, warp_col, rows, epilogue,
      [&](int group, int row, float square) { partial[group][row] = square; }, [] { __syncthreads(); });
}

template <typename Tile, bool kStem, typename T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    multiply_rows_kernel(Rows<T> in, Matrix<T> w, RowEpilogue<T> epilogue) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  __shared__ float partial[kSquareGroups][Tile::kM];
  static_assert(Tile::kN == kRowOutputs && Tile::kWarpsM == 1 && Tile::kWarpN == kSquareColumns);
  const int row0 = blockIdx.x * Tile::kM;
  float sums[Tile::kAcrossM][Tile::kAcrossN][4];
  const int rows =
      multiply_tile<Tile>(in, w, row0, 0, reinterpret_cast<T*>(shared_bytes), sums,
                          [&](int row, int col) { return row_start<kStem>(epilogue, row, col); });
  if (row0 >= rows) return;
  norm_rows<kStem>(sums, partial, row0, 0, static_cast<int>(threadIdx.x) / kWarp * Tile::kWarpN, rows,
                   epilogue);
}

// ---- Whole rows of few streams: a cluster of blocks, each with 32 columns ---------------------------------

// One block alone would take its time to fetch all weights. Here each fetches an eighth before the rows are
// there; the blocks tell each other their sums of squares through shared memory.
constexpr int kClusterRows = 16;
constexpr int kClusterThreads = 128;  // all fetch, one warp multiplies

__device__ inline void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
__device__ inline void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
// Stores into the same place of another block's shared memory.
__device__ inline void store_in_block(float* shared, int block, float value) {
  const unsigned here = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(block));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(value) : "memory");
}

template <bool kStem, typename T>
__global__ void __launch_bounds__(kClusterThreads)
    multiply_rows_cluster(Rows<T> in, Matrix<T> w, RowEpilogue<T> epilogue) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  __shared__ float partial[kSquareGroups][kClusterRows];
  const int row0 = blockIdx.x / kSquareGroups * kClusterRows;
  const int col0 = blockIdx.x % kSquareGroups * kSquareColumns;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int steps = w.inputs_padded / kStepK, rows = *in.count;  // older than the kernel before this one
  T* a = reinterpret_cast<T*>(shared_bytes);                     // (steps, kClusterRows, kStepK)
  T* b = a + steps * kClusterRows * kStepK;                      // (steps, kSquareColumns, kStepK)
  float sums[1][kSquareColumns / 8][4] = {};
  arrive_at_cluster();
  if (row0 < rows) {
    for (int i = threadIdx.x; i < steps * kSquareColumns * 8; i += kClusterThreads) {
      const int chunk = i % 8, row = i / 8 % kSquareColumns, step = i / (8 * kSquareColumns);
      copy_async(
          b + step * kSquareColumns * kStepK + shared_offset(row, chunk),
          w.weights + static_cast<std::int64_t>(col0 + row) * w.inputs_padded + step * kStepK + chunk * 8,
          true);
    }
    if (warp == 0)
      begin_sums(sums, row0, col0, rows,
                 [&](int row, int col) { return row_start<kStem>(epilogue, row, col); });
  }
  wait_for_kernels_before();
  if (row0 < rows) {
    for (int i = threadIdx.x; i < steps * kClusterRows * 8; i += kClusterThreads) {
      const int chunk = i % 8, row = i / 8 % kClusterRows, step = i / (8 * kClusterRows);
      const int k = step * kStepK + chunk * 8;
      const bool valid = row0 + row < rows && k < w.inputs;
      const T* from = valid ? in.data + (row0 + row) * in.stride + k : in.data;
      copy_async(a + step * kClusterRows * kStepK + shared_offset(row, chunk), from, valid);
    }
  }
  commit_copies();
  wait_copies<0>();
  wait_for_cluster();  // from here on all blocks are there to be written to
  __syncthreads();
  if (row0 >= rows) return;  // all of the cluster
  auto meet = [] {
    arrive_at_cluster();
    wait_for_cluster();
  };
  if (warp != 0) {
    meet();
    return;
  }
  for (int step = 0; step < steps; ++step)
    multiply_step<SmallRowTile>(a + step * kClusterRows * kStepK, b + step * kSquareColumns * kStepK, 0, 0,
                                lane, sums);
  norm_rows<kStem>(
      sums, partial, row0, 0, col0, rows, epilogue,
      [&](int group, int row, float square) {
#pragma unroll
        for (int block = 0; block < kSquareGroups; ++block)
          store_in_block(&partial[group][row], block, square);
      },
      meet);
}

// ---- Hopper: large products with wgmma --------------------------------------------------------------------

// As many inputs as let a block hold its share of the weights and a tile of rows for each of its warpgroups:
// 256, in float8 512.
constexpr int kResidentRowBytes = 512;
template <typename T>
constexpr int kResidentInputs = kResidentRowBytes / static_cast<int>(sizeof(T));
constexpr int kResidentGroups = 2;
constexpr int kResidentPieces = 2;  // instructions side by side
constexpr int kResidentColumns = kResidentPieces * kGroupColumns;
constexpr int kResidentBytes =
    kResidentRowBytes * (kResidentColumns + kResidentGroups * kGroupRows) + kSwizzleBytes;

// A warpgroup's finished tile, rows from `first_row` on for each of its warps, goes to the epilogue.
template <typename T, typename Epilogue>
__device__ inline void finish_tile(GroupSums (&sums)[kResidentPieces], int first_row, int col0, int rows,
                                   const Matrix<T>& w, const Epilogue& epilogue) {
#pragma unroll
  for (int piece = 0; piece < kResidentPieces; ++piece)
    hand_out(sums[piece], first_row, col0 + piece * kGroupColumns, rows, w.outputs, epilogue);
}

// Whole rows: x += scale v, normed = rms(x). A row lies with four lanes, each of which adds up its squares
// from left to right.
template <typename T, typename Activation>
__device__ inline void finish_tile(GroupSums (&sums)[kResidentPieces], int first_row, int, int rows,
                                   const Matrix<T>& w, const RowEpilogue<Activation>& epilogue) {
  static_assert(kResidentColumns == kRowOutputs);
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + 8 * half + lane / 4;
    const std::int64_t at = static_cast<std::int64_t>(row) * kRowOutputs;
    float square = 0.0f;
    if (row < rows) {
#pragma unroll
      for (int piece = 0; piece < kResidentPieces; ++piece)
#pragma unroll
        for (int j = 0; j < kGroupColumns / 8; j += 2) {
          const int col = piece * kGroupColumns + 8 * j + 4 * (lane % 4);
          float(&left)[4] = sums[piece][0][j], (&right)[4] = sums[piece][0][j + 1];
          const float4 sum = quad(left, right, half), scale = load4(w.scale + col);
          float4 v = load4(epilogue.x + at + col);
          v = {fmaf(scale.x, sum.x, v.x), fmaf(scale.y, sum.y, v.y), fmaf(scale.z, sum.z, v.z),
               fmaf(scale.w, sum.w, v.w)};
          square = keep_quad(left, right, half, v, square);
        }
    }
    square += __shfl_xor_sync(0xffffffffu, square, 1);
    square += __shfl_xor_sync(0xffffffffu, square, 2);
    if (row >= rows) continue;
    const float scale = 1.0f / sqrtf(square / kRowOutputs + epilogue.eps);
#pragma unroll
    for (int piece = 0; piece < kResidentPieces; ++piece)
#pragma unroll
      for (int j = 0; j < kGroupColumns / 8; j += 2) {
        const int col = piece * kGroupColumns + 8 * j + 4 * (lane % 4);
        const float4 v = quad(sums[piece][0][j], sums[piece][0][j + 1], half);
        store4(epilogue.x + at + col, v);
        store4(epilogue.normed + at + col, scaled(v, scale, load4(epilogue.norm + col)));
      }
  }
}

// A block keeps the weights of kResidentColumns outputs. Each of its warpgroups goes through row tiles of its
// own: one multiplies while the other gives its results away and fetches its next rows.
template <typename T, typename Epilogue>
__global__ void __launch_bounds__(kResidentGroups* kGroupThreads, 1)
    multiply_resident(Rows<T> x, Matrix<T> w, Epilogue epilogue) {
#ifdef SIDEWINDER_WGMMA
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const int thread = threadIdx.x % kGroupThreads, col0 = blockIdx.x * kResidentColumns;
  // From one lane, so that the compiler knows it to be the same in all of a warp.
  const int group = __shfl_sync(0xffffffffu, threadIdx.x / kGroupThreads, 0);
  constexpr int kSteps = kResidentRowBytes / 128, kChunk = 16 / sizeof(T), kStep = 8 * kChunk;
  constexpr int kWeightStep = kResidentColumns * kStep, kRowStep = kGroupRows * kStep;
  T* weights = reinterpret_cast<T*>(swizzle_aligned(shared_bytes));   // (kSteps, kResidentColumns, kStep)
  T* a = weights + kSteps * kWeightStep + group * kSteps * kRowStep;  // (kSteps, kGroupRows, kStep)
  const int rows = *x.count;                                          // older than the kernel before this one
  const int tiles = (rows + kGroupRows - 1) / kGroupRows;
  const bool idle = static_cast<int>(blockIdx.y) * kResidentGroups >= tiles;

  // Nothing writes weights: they are on their way before the rows are there.
  if (!idle) {
    for (int i = threadIdx.x; i < kSteps * kResidentColumns * 8; i += kResidentGroups * kGroupThreads) {
      const int chunk = i % 8, row = i / 8 % kResidentColumns, step = i / (8 * kResidentColumns);
      const bool valid = col0 + row < w.outputs;
      const T* from = valid ? w.weights + static_cast<std::int64_t>(col0 + row) * w.inputs_padded +
                                  step * kStep + chunk * kChunk
                            : w.weights;
      copy_async(weights + step * kWeightStep + shared_offset<T>(row, chunk), from, valid);
    }
  }
  wait_for_kernels_before();
  if (idle) return;

  auto copy_rows = [&](int tile) {
    for (int i = thread; i < kSteps * kGroupRows * 8; i += kGroupThreads) {
      const int chunk = i % 8, row = i / 8 % kGroupRows, step = i / (8 * kGroupRows);
      const int from_row = tile * kGroupRows + row, k = step * kStep + chunk * kChunk;
      const bool valid = from_row < rows && k < w.inputs;
      const T* from = valid ? x.data + from_row * x.stride + k : x.data;
      copy_async(a + step * kRowStep + shared_offset<T>(row, chunk), from, valid);
    }
    commit_copies();
  };
  int tile = blockIdx.y * kResidentGroups + group;
  copy_rows(tile);  // of a tile behind the last one come zeros
  wait_copies<0>();
  show_copies_to_products();
  __syncthreads();  // the weights came from both warpgroups
  while (tile < tiles) {
    GroupSums sums[kResidentPieces] = {};
#pragma unroll
    for (int piece = 0; piece < kResidentPieces; ++piece) pin(sums[piece]);
    begin_products();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const std::uint64_t at_a = describe_tile(a + step * kRowStep);
      const std::uint64_t at_b = describe_tile(weights + step * kWeightStep);
#pragma unroll
      for (int kk = 0; kk < 4; ++kk)
#pragma unroll
        for (int piece = 0; piece < kResidentPieces; ++piece)
          group_multiply_add<T>(sums[piece], at_a + kk * kDescriptorStep,
                                at_b + kk * kDescriptorStep + piece * (kGroupColumns * 8));
    }
    commit_products();
    wait_products<0>();
#pragma unroll
    for (int piece = 0; piece < kResidentPieces; ++piece) pin(sums[piece]);
    group_barrier(group);  // all four warps are done with the rows
    const int first_row = tile * kGroupRows + thread / kWarp * 16;
    tile += gridDim.y * kResidentGroups;
    if (tile < tiles) copy_rows(tile);
    finish_tile(sums, first_row, col0, rows, w, epilogue);
    wait_copies<0>();
    show_copies_to_products();
    group_barrier(group);
  }
#endif
}

// Whole rows, 64 a block, in a pipeline: of two warpgroups each has half of the columns. A stage is filled
// again when the products that read it, two steps back, are done.
constexpr int kRowStages = 5;
constexpr int kRowStageBytes = 2 * (kGroupRows + kRowOutputs) * kStepK;
constexpr int kRowSharedBytes = kRowStages * kRowStageBytes + kSwizzleBytes;
constexpr int kRowThreads = kRowOutputs / kGroupColumns * kGroupThreads;

template <bool kStem, typename T>
__global__ void __launch_bounds__(kRowThreads, 1)
    multiply_rows_wgmma(Rows<T> x, Matrix<T> w, RowEpilogue<T> epilogue) {
#ifdef SIDEWINDER_WGMMA
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  __shared__ float partial[kSquareGroups][kGroupRows];
  constexpr int kStage = kRowStageBytes / 2, kAhead = kRowStages - 2;
  T* shared = reinterpret_cast<T*>(swizzle_aligned(shared_bytes));
  const int thread = threadIdx.x, group = thread / kGroupThreads;
  const int warp_row = thread % kGroupThreads / kWarp * 16, warp_col = group * kGroupColumns;
  const int row0 = blockIdx.x * kGroupRows, steps = w.inputs_padded / kStepK;
  const int rows = *x.count;  // older than the kernel before this one

  auto copy_weights = [&](int step) {
    T* b = shared + step % kRowStages * kStage + kGroupRows * kStepK;
    for (int i = thread; i < kRowOutputs * 8; i += kRowThreads) {
      const int row = i / 8, chunk = i % 8;
      copy_async(b + shared_offset(row, chunk),
                 w.weights + static_cast<std::int64_t>(row) * w.inputs_padded + step * kStepK + chunk * 8,
                 true);
    }
  };
  auto copy_rows = [&](int step) {
    T* a = shared + step % kRowStages * kStage;
    for (int i = thread; i < kGroupRows * 8; i += kRowThreads) {
      const int row = i / 8, chunk = i % 8, k = step * kStepK + chunk * 8;
      const bool valid = row0 + row < rows && k < w.inputs;
      const T* from = valid ? x.data + (row0 + row) * x.stride + k : x.data;
      copy_async(a + shared_offset(row, chunk), from, valid);
    }
  };

  GroupSums sums = {};
  if (row0 < rows) {
    for (int step = 0; step < kAhead; ++step)
      if (step < steps) copy_weights(step);
    begin_sums(sums, row0 + warp_row, warp_col, rows,
               [&](int row, int col) { return row_start<kStem>(epilogue, row, col); });
  }
  wait_for_kernels_before();
  if (row0 >= rows) return;
  for (int step = 0; step < kAhead; ++step) {
    if (step < steps) copy_rows(step);
    commit_copies();
  }
  auto multiply_stage = [&](int step) {
    wait_copies<kAhead - 1>();
    show_copies_to_products();
    __syncthreads();  // the stage is there for all, and the products of two steps back are done in all warps
    if (const int next = step + kAhead; next < steps) {
      copy_weights(next);
      copy_rows(next);
    }
    commit_copies();
    begin_products();
    const T* a = shared + step % kRowStages * kStage;
    const std::uint64_t at_a = describe_tile(a);
    const std::uint64_t at_b = describe_tile(a + kGroupRows * kStepK + warp_col * kStepK);
#pragma unroll
    for (int kk = 0; kk < kStepK / 16; ++kk)
      group_multiply_add<T>(sums, at_a + kk * kDescriptorStep, at_b + kk * kDescriptorStep);
    commit_products();
  };
  // The first by itself: ptxas lets products stay in flight only around a loop that begins with products'
  // sums.
  pin(sums);
  multiply_stage(0);
  wait_products<0>();
  for (int step = 1; step < steps; ++step) {
    multiply_stage(step);
    wait_products<1>();
  }
  wait_products<0>();
  pin(sums);
  norm_rows<kStem>(sums, partial, row0, warp_row, warp_col, rows, epilogue);
#endif
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

constexpr int kSharedLimit = 227 << 10;  // bytes of a Hopper block

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

template <typename Tile, typename T, typename Epilogue>
void launch_tile(const Rows<T>& x, const Matrix<T>& w, const Epilogue& epilogue, cudaStream_t stream) {
  allow_shared<multiply_tensor<Tile, T, Epilogue>>(Tile::kSharedBytes);
  const dim3 grid(blocks(w.outputs, Tile::kN), blocks(x.most, Tile::kM));
  launch(multiply_tensor<Tile, T, Epilogue>, grid, Tile::kThreads, Tile::kSharedBytes, stream, x, w,
         epilogue);
}

template <typename T, typename Epilogue>
void launch_resident(const Rows<T>& x, const Matrix<T>& w, const Epilogue& epilogue, int multiprocessors,
                     cudaStream_t stream) {
  const int across = blocks(w.outputs, kResidentColumns), tiles = blocks(x.most, kGroupRows);
  allow_shared<multiply_resident<T, Epilogue>>(kResidentBytes);
  const int down = std::min(std::max(1, multiprocessors / across), blocks(tiles, kResidentGroups));
  launch(multiply_resident<T, Epilogue>, dim3(across, down), kResidentGroups * kGroupThreads, kResidentBytes,
         stream, x, w, epilogue);
}

// True, and the product is queued, where wgmma is to do it. Without ProductChoice::small that takes enough
// rows to fill the multiprocessors.
template <typename T, typename Epilogue>
bool multiply_resident_if_chosen(const Rows<T>& x, const Matrix<T>& w, const Epilogue& epilogue,
                                 const ProductChoice& choice, cudaStream_t stream) {
  const int across = blocks(w.outputs, kResidentColumns), tiles = blocks(x.most, kGroupRows);
  if (!choice.wgmma || w.inputs_padded != kResidentInputs<T>) return false;
  if (!choice.small && across * tiles < choice.multiprocessors) return false;
  launch_resident(x, w, epilogue, choice.multiprocessors, stream);
  return true;
}

// Who computes what never changes a bit (for wgmma ProductChoice says why).
template <typename T, typename Epilogue>
void multiply(const Rows<T>& x, const Matrix<T>& w, const Epilogue& epilogue, const ProductChoice& choice,
              cudaStream_t stream) {
  if (multiply_resident_if_chosen(x, w, epilogue, choice, stream)) return;
  constexpr bool kGated = Epilogue::kQuads == 2;
  if (x.most <= 64)
    launch_tile<std::conditional_t<kGated, SmallGatedTile, SmallTile>>(x, w, epilogue, stream);
  else if (blocks(x.most, LargeTile::kM) * blocks(w.outputs, LargeTile::kN) >= choice.multiprocessors)
    launch_tile<LargeTile>(x, w, epilogue, stream);
  else
    launch_tile<MiddleTile>(x, w, epilogue, stream);
}

// For few outputs (x_proj).
template <typename T, typename Epilogue>
void multiply_narrow(const Rows<T>& x, const Matrix<T>& w, const Epilogue& epilogue, cudaStream_t stream) {
  if (x.most <= 64)
    launch_tile<SmallNarrowTile>(x, w, epilogue, stream);
  else
    launch_tile<NarrowTile>(x, w, epilogue, stream);
}

template <typename Epilogue>
void multiply(const Rows<float>& x, const Matrix<float>& w, const Epilogue& epilogue, const ProductChoice&,
              cudaStream_t stream) {
  const dim3 grid(blocks(w.outputs, kFloatTile * Epilogue::kQuads), blocks(x.most, kFloatTile));
  launch(multiply_float<Epilogue>, grid, kFloatThreads, 0, stream, x, w, epilogue);
}

template <typename Epilogue>
void multiply_narrow(const Rows<float>& x, const Matrix<float>& w, const Epilogue& epilogue,
                     cudaStream_t stream) {
  multiply(x, w, epilogue, {}, stream);
}

// Float8: a block holds the weights of whole rows, at any size.
template <typename T>
void multiply_rows_float8(const Rows<__nv_fp8_e4m3>& x, const Matrix<__nv_fp8_e4m3>& w,
                          const RowEpilogue<T>& epilogue, const ProductChoice& choice, cudaStream_t stream) {
  launch_resident(x, w, epilogue, choice.multiprocessors, stream);
}

template <bool kStem, typename T>
void multiply_rows(const Rows<T>& x, const Matrix<T>& w, const RowEpilogue<T>& epilogue,
                   const ProductChoice& choice, cudaStream_t stream) {
  if (choice.wgmma && (choice.small || x.most > kGroupRows / 2 * choice.multiprocessors)) {
    allow_shared<multiply_rows_wgmma<kStem, T>>(kRowSharedBytes);
    launch(multiply_rows_wgmma<kStem, T>, blocks(x.most, kGroupRows), kRowThreads, kRowSharedBytes, stream, x,
           w, epilogue);
    return;
  }
  const int cluster_bytes = 2 * w.inputs_padded * (kClusterRows + kSquareColumns);
  if (choice.clusters && x.most <= kClusterRows * choice.multiprocessors / kSquareGroups &&
      cluster_bytes <= kSharedLimit / 2) {
    allow_shared<multiply_rows_cluster<kStem, T>>(kSharedLimit / 2);
    launch_clusters(kSquareGroups, multiply_rows_cluster<kStem, T>,
                    kSquareGroups * blocks(x.most, kClusterRows), kClusterThreads, cluster_bytes, stream, x,
                    w, epilogue);
    return;
  }
  auto launch_rows = [&]<typename Tile>(Tile) {
    allow_shared<multiply_rows_kernel<Tile, kStem, T>>(Tile::kSharedBytes);
    launch(multiply_rows_kernel<Tile, kStem, T>, blocks(x.most, Tile::kM), Tile::kThreads, Tile::kSharedBytes,
           stream, x, w, epilogue);
  };
  if (x.most <= SmallRowTile::kM * choice.multiprocessors)
    launch_rows(SmallRowTile{});
  else
    launch_rows(RowTile{});
}

}  // namespace sidewinder::cuda
