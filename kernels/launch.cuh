// Launching kernels so that one starts while the one before it drains (programmatic dependent launch): the
// next kernel's blocks come onto the multiprocessors, fetch what no kernel writes (weights), and wait there.
#pragma once

#include <utility>

#include <cuda_runtime.h>

#include "kernels/cuda_check.h"

namespace sidewinder::cuda {

// Every kernel calls this before it touches anything that another kernel or copy writes: it returns when all
// that was queued before has finished. No block may leave without it, so that order is kept along the chain.
__device__ inline void wait_for_kernels_before() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

inline int blocks(int count, int each) {
  return (count + each - 1) / each;
}

// kernel<<<grid, threads, shared, stream>>>(arguments...); shared in bytes. Throws std::runtime_error.
// In clusters of `cluster` blocks side by side.
template <typename... Parameters, typename... Arguments>
void launch_clusters(unsigned cluster, void (*kernel)(Parameters...), dim3 grid, int threads, int shared,
                     cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), "launching a kernel");
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, int shared, cudaStream_t stream,
            Arguments&&... arguments) {
  launch_clusters(1, kernel, grid, threads, shared, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace sidewinder::cuda
