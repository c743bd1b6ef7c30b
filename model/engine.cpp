#include "model/engine.h"

#include <stdexcept>

namespace sidewinder {

std::int64_t max_frames_per_step(const ModelConfig& config, const EngineOptions& options) {
  // A step completes the frame that was nearly full before it, and its end lets padding and lookahead out.
  std::int64_t samples = static_cast<std::int64_t>(options.max_samples) + config.end_padding;
  return samples / config.frame_hop() + 1 + config.stem.lookahead;
}

void check_options(const EngineOptions& options) {
  auto require = [](bool holds, const char* rule) {
    if (!holds) throw std::invalid_argument(std::string("engine options: ") + rule);
  };
  require(options.slots >= 1, "slots must be at least 1");
  require(options.max_batch >= 1 && options.max_batch <= options.slots, "max_batch must be from 1 to slots");
  require(options.max_samples >= 1 && options.max_samples <= (1u << 28),
          "max_samples must be from 1 to 2^28");
  require(options.threads >= 1 && options.threads <= 1024, "threads must be from 1 to 1024");
}

}  // namespace sidewinder
