#include "daemon/engine_choice.h"

#ifdef SIDEWINDER_HAS_CUDA
#include "kernels/cuda_engine.h"
#endif
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

std::unique_ptr<Engine> make_cuda([[maybe_unused]] const Model& model,
                                  [[maybe_unused]] const EngineOptions& options) {
#ifdef SIDEWINDER_HAS_CUDA
  try {
    return make_cuda_engine(model, options);
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

ChosenEngine make_engine(EngineChoice choice, const Model& model, const EngineOptions& options) {
  if (choice == EngineChoice::Cpu) return {make_cpu_engine(model, options), ""};
  const std::string why_not = cuda_reason();
  if (why_not.empty()) return {make_cuda(model, options), ""};
  if (choice == EngineChoice::Cuda)
    throw EngineUnavailable("--engine cuda: " + why_not +
                            "; use --engine cpu, or auto to take what is there");
  return {make_cpu_engine(model, options), "CPU engine: " + why_not};
}

}  // namespace sidewinder
