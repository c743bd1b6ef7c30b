#include "daemon/engine_choice.h"

#include <algorithm>

#include "model/engine_group.h"
#include "model/error.h"

namespace sidewinder {
namespace {

// Empty when the CUDA engine can be made; else why not.
std::string cuda_reason() {
#ifdef SIDEWINDER_HAS_CUDA
  return cuda_unavailable_reason();
#else
  return "this build has no CUDA engine";
#endif
}

ChosenEngine make_cuda([[maybe_unused]] const Model& model, [[maybe_unused]] const EngineOptions& options,
                       [[maybe_unused]] int gpus, [[maybe_unused]] CudaPrecision precision) {
#ifdef SIDEWINDER_HAS_CUDA
  const std::vector<CudaDevice> devices = cuda_devices();
  const int shown = static_cast<int>(devices.size());
  if (gpus > shown)
    throw EngineUnavailable(std::to_string(gpus) + " GPUs were asked for and " + std::to_string(shown) +
                            " are there; ask for fewer, or for 0 to take all");
  const auto members = std::min(static_cast<std::uint32_t>(gpus == 0 ? shown : gpus), options.slots);
  ChosenEngine chosen;
  for (std::uint32_t device = 0; device < members; ++device)
    chosen.gpus.push_back(devices[device].pci_bus_id);
  try {
    chosen.engine =
        members == 1
            ? make_cuda_engine(model, options, {.precision = precision})
            : make_engine_group(members, options, [&](std::uint32_t device, const EngineOptions& share) {
                return make_cuda_engine(model, share,
                                        {.device = static_cast<int>(device), .precision = precision});
              });
    return chosen;
  } catch (const ModelError&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw EngineUnavailable(std::string("CUDA engine: ") + error.what());
  }
#else
  throw EngineUnavailable(cuda_reason());
#endif
}

}  // namespace

ChosenEngine make_engine(EngineChoice choice, const Model& model, const EngineOptions& options, int gpus,
                         CudaPrecision precision) {
  if (choice == EngineChoice::Cpu) return {make_cpu_engine(model, options), "", {}};
  const std::string why_not = cuda_reason();
  if (why_not.empty()) return make_cuda(model, options, gpus, precision);
  if (choice == EngineChoice::Cuda)
    throw EngineUnavailable("--engine cuda: " + why_not +
                            "; use --engine cpu, or auto to take what is there");
  return {make_cpu_engine(model, options), "CPU engine: " + why_not, {}};
}

}  // namespace sidewinder
