// Which engine serves: the CPU's or the CUDA one.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

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
// Throws EngineUnavailable, std::invalid_argument or ModelError.
ChosenEngine make_engine(EngineChoice choice, const Model& model, const EngineOptions& options, int gpus = 1);

}  // namespace sidewinder
