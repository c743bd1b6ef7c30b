// cuda/scan.cu's two functions for the processor, in float32: the same formulas, shapes and kept states, 32
// channels beside each other in vector registers, blocks of channels shared among OpenMP's threads. A block
// walks its rows one after another, so that sums over rows need no atomics and come out the same every time.
#include <cmath>
#include <cstring>
#include <vector>

namespace {

constexpr int kSteps = 16;   // time steps a tile, as in cuda/scan.cu: hs holds the state before each tile
constexpr int kCh = 32;      // channels a block
constexpr int kStates = 16;  // of a channel

using Lanes = float[kCh];

float softplus(float s) {
  return s > 20.f ? s : std::log1p(std::exp(s));
}
float sigmoid(float z) {
  return 1.f / (1.f + std::exp(-z));
}

// A (channels, 16) with its channels beside each other.
void transpose(const float* A, Lanes* a) {
  for (int n = 0; n < kStates; ++n)
    for (int c = 0; c < kCh; ++c) a[n][c] = A[c * kStates + n];
}

// One step's step sizes and inputs.
void step_inputs(const float* u, const float* dtr, const float* bias, Lanes dt, Lanes du) {
#pragma omp simd
  for (int c = 0; c < kCh; ++c) {
    dt[c] = softplus(dtr[c] + bias[c]);
    du[c] = dt[c] * u[c];
  }
}

// next = exp(dt A) h + du B, the factor kept in `decay`; sum = C . next.
void advance(const Lanes dt, const Lanes du, const float* B, const float* C, const Lanes* a, const Lanes* h,
             Lanes* next, Lanes* decay, Lanes sum) {
  std::memset(sum, 0, sizeof(Lanes));
  for (int n = 0; n < kStates; ++n) {
#pragma omp simd
    for (int c = 0; c < kCh; ++c) {
      decay[n][c] = std::exp(dt[c] * a[n][c]);
      next[n][c] = decay[n][c] * h[n][c] + du[c] * B[n];
      sum[c] += C[n] * next[n][c];
    }
  }
}

}  // namespace

extern "C" int sw_scan_forward(const float* u, const float* dtr, const float* z, const float* bc,
                               const float* A, const float* D, const float* bias, const float* h0,
                               const float* carry, float* y, float* hs, float* hT, int rows, int L, int ch,
                               long zs, long bs, int, void*) {
  const long tiles = (L + kSteps - 1) / kSteps;
#pragma omp parallel for
  for (int d0 = 0; d0 < ch; d0 += kCh) {
    alignas(64) Lanes a[kStates], h[kStates], decay[kStates], dt, du, sum;
    transpose(A + static_cast<long>(d0) * kStates, a);
    for (long row = 0; row < rows; ++row) {
      const auto state = [&](auto* base, long at) { return base + (at * ch + d0) * kStates; };
      for (int n = 0; n < kStates; ++n)
        for (int c = 0; c < kCh; ++c) h[n][c] = h0 ? state(h0, row)[c * kStates + n] * carry[row] : 0.f;
      const auto write = [&](float* to) {
        for (int c = 0; c < kCh; ++c)
          for (int n = 0; n < kStates; ++n) to[c * kStates + n] = h[n][c];
      };
      for (int t = 0; t < L; ++t) {
        if (hs && t % kSteps == 0) write(state(hs, row * tiles + t / kSteps));
        const long at = row * L + t, o = at * ch + d0;
        step_inputs(u + o, dtr + o, bias + d0, dt, du);
        advance(dt, du, bc + at * bs, bc + at * bs + kStates, a, h, h, decay, sum);
        const float* gate = z + at * zs + d0;
#pragma omp simd
        for (int c = 0; c < kCh; ++c) y[o + c] = (sum[c] + D[d0 + c] * u[o + c]) * gate[c] * sigmoid(gate[c]);
      }
      if (hT) write(state(hT, row));
    }
  }
  return 0;
}

extern "C" int sw_scan_backward(const float* u, const float* dtr, const float* z, const float* bc,
                                const float* A, const float* D, const float* bias, const float* hs,
                                const float* gout, float* gu, float* gdtr, float* gz, float* gbc, float* gA,
                                float* gD, float* gbias, int rows, int L, int ch, long zs, long bs, int,
                                void*) {
  const long tiles = (L + kSteps - 1) / kSteps;
#pragma omp parallel for
  for (int d0 = 0; d0 < ch; d0 += kCh) {
    struct Tile {
      alignas(64) Lanes h[kSteps + 1][kStates], decay[kSteps][kStates], dt[kSteps], du[kSteps], y[kSteps];
    };
    std::vector<Tile> kept(1);
    Tile& tile = kept[0];
    alignas(64) Lanes a[kStates], gh[kStates], ga[kStates], gy, g_du, g_dt;
    transpose(A + static_cast<long>(d0) * kStates, a);
    std::memset(ga, 0, sizeof ga);
    for (long row = 0; row < rows; ++row) {
      std::memset(gh, 0, sizeof gh);
      for (long first = (tiles - 1) * kSteps; first >= 0; first -= kSteps) {
        const int steps = L - first < kSteps ? static_cast<int>(L - first) : kSteps;
        const float* start = hs + ((row * tiles + first / kSteps) * ch + d0) * kStates;
        transpose(start, tile.h[0]);
        for (int k = 0; k < steps; ++k) {
          const long at = row * L + first + k, o = at * ch + d0;
          step_inputs(u + o, dtr + o, bias + d0, tile.dt[k], tile.du[k]);
          advance(tile.dt[k], tile.du[k], bc + at * bs, bc + at * bs + kStates, a, tile.h[k], tile.h[k + 1],
                  tile.decay[k], tile.y[k]);
        }
        for (int k = steps - 1; k >= 0; --k) {
          const long at = row * L + first + k, o = at * ch + d0;
          const float *gate = z + at * zs + d0, *B = bc + at * bs, *C = B + kStates;
#pragma omp simd
          for (int c = 0; c < kCh; ++c) {
            const float s = sigmoid(gate[c]);
            gy[c] = gout[o + c] * gate[c] * s;
            gz[o + c] = gout[o + c] * (tile.y[k][c] + D[d0 + c] * u[o + c]) * s * (1.f + gate[c] * (1.f - s));
            g_du[c] = g_dt[c] = 0.f;
          }
          float* g = gbc + (static_cast<long>(d0 / kCh) * rows * L + at) * 2 * kStates;
          for (int n = 0; n < kStates; ++n) {
            float gB = 0.f, gC = 0.f;
#pragma omp simd reduction(+ : gB, gC)
            for (int c = 0; c < kCh; ++c) {
              gh[n][c] += gy[c] * C[n];
              gC += gy[c] * tile.h[k + 1][n][c];
              gB += gh[n][c] * tile.du[k][c];
              g_du[c] += gh[n][c] * B[n];
              gh[n][c] *= tile.decay[k][n][c];
              const float w = gh[n][c] * tile.h[k][n][c];
              ga[n][c] += w * tile.dt[k][c];
              g_dt[c] += w * a[n][c];
            }
            g[n] = gB;
            g[kStates + n] = gC;
          }
#pragma omp simd
          for (int c = 0; c < kCh; ++c) {
            const float uk = u[o + c];
            // softplus'(x) = 1 - exp(-softplus(x))
            const float raw = (g_du[c] * uk + g_dt[c]) * (1.f - std::exp(-tile.dt[k][c]));
            gu[o + c] = g_du[c] * tile.dt[k][c] + D[d0 + c] * gy[c];
            gdtr[o + c] = raw;
            gD[d0 + c] += gy[c] * uk;
            gbias[d0 + c] += raw;
          }
        }
      }
    }
    for (int c = 0; c < kCh; ++c)
      for (int n = 0; n < kStates; ++n) gA[(d0 + c) * kStates + n] += ga[n][c];
  }
  return 0;
}
