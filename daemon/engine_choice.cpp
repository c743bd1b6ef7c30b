#include "daemon/engine_choice.h"

namespace sidewinder {

ChosenEngine make_engine(EngineChoice choice, const Model& model, const EngineOptions& options) {
  const std::string why_not = "this build has no CUDA engine";
  if (choice == EngineChoice::Cuda)
    throw EngineUnavailable("--engine cuda: " + why_not +
                            "; use --engine cpu, or auto to take what is there");
  return {make_cpu_engine(model, options), choice == EngineChoice::Auto ? "CPU engine: " + why_not : ""};
}

}  // namespace sidewinder
