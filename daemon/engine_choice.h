// Which engine serves: the CPU's or the CUDA one.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda_engine.h"
#include "model/engine.h"

namespace sidewinder {

enum class EngineChoice { Auto, Cpu, Cuda };

// The engine asked for is not to be had. what() says why and what to do.
struct EngineUnavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct ChosenEngine {
  std::unique_ptr<Engine> engine;
  std::string note;               // Auto without CUDA: why not, in one line; else empty
  std::vector<std::string> gpus;  // PCI bus ids of those it computes on, as GpuMonitor takes them
};

// Auto takes CUDA when this build has it and a usable device is there. `gpus`: how many of the devices that
// the driver shows share the streams, from the first on (CUDA_VISIBLE_DEVICES says which are shown); 0: all.
// `precision`: the CUDA engine's; the CPU's is float32. Throws EngineUnavailable, std::invalid_argument or
// ModelError.
ChosenEngine make_engine(EngineChoice choice, const Model& model, const EngineOptions& options, int gpus = 1,
                         CudaPrecision precision = CudaPrecision::Float16);

// The names of the precisions, as options and settings take them.
inline const std::vector<std::pair<std::string, CudaPrecision>> kCudaPrecisions = {
    {"float16", CudaPrecision::Float16},
    {"bfloat16", CudaPrecision::BFloat16},
    {"float32", CudaPrecision::Float32},
    {"float8", CudaPrecision::Float8}};

}  // namespace sidewinder
