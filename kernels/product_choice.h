// Which instructions a device's 16-bit products are made with, and the comparison that decides it. Plain C++.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_engine.h"

namespace sidewinder::cuda {

// A model's every product must have the same bits whatever the number of rows. So either wgmma gives the bits
// of mma.sync, and takes the large ones; or it takes all that its tiles cover (`small`), whatever their size.
struct ProductChoice {
  int multiprocessors = 0;
  bool wgmma = false;
  bool small = false;
  bool clusters = true;  // few rows that are normed: a cluster of blocks shares them
};

// How two ways of one product compare.
struct ProductComparison {
  std::size_t values = 0;
  std::size_t different = 0;   // in any bit
  double largest_error = 0.0;  // |mma.sync - float64| / (sum of |products|), most of all values
  double largest_other = 0.0;  // the same of wgmma
};

// One product of random values both ways, on the current device: rows (rows, inputs), weights (outputs,
// inputs). Values are normal ones times 2^k, k uniform from -spread to 0: a wide spread makes a sum lose bits
// in its alignment. `outputs` 256 also compares the kernels that norm rows (inputs a multiple of 64),
// otherwise inputs is from 200 to 256. Throws std::invalid_argument, or std::runtime_error on a CUDA error.
ProductComparison compare_products(CudaPrecision precision, int rows, int inputs, int outputs, int spread,
                                   std::uint32_t seed);

// The current device runs this build's wgmma kernels: it is of compute capability 9.0.
bool wgmma_runs();

// Throws std::runtime_error when the options ask for what the current device doesn't have. Auto takes wgmma
// where it runs and a comparison of random products finds no bit that differs.
ProductChoice choose_products(const CudaOptions& options);

}  // namespace sidewinder::cuda
