// Any text as a config: refused with a ModelError, or a model's state and features can be laid out for it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "dsp/log_mel.h"
#include "model/config.h"
#include "model/engine.h"
#include "model/error.h"
#include "model/state_layout.h"

namespace {

// The engine builds this from the config; what parse_config lets through must not be refused here.
void make_features(const sidewinder::ModelConfig& config) {
  const sidewinder::FeatureConfig& features = config.features;
  sidewinder::dsp::LogMel log_mel({.sample_rate = config.sample_rate,
                                   .window_length = features.window_length,
                                   .hop_length = features.hop_length,
                                   .fft_length = features.fft_length,
                                   .n_mels = features.n_mels,
                                   .f_min = features.f_min,
                                   .f_max = features.f_max,
                                   .log_floor = features.log_floor});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sidewinder;
  try {
    ModelConfig config = parse_config({reinterpret_cast<const char*>(data), size}, "fuzz");
    if (StateLayout(config).size == 0) std::abort();
    if (config.kind != ModelKind::StreamingCtc) return 0;
    if (config.frame_hop() <= 0 || config.total_frames(config.first_frame_samples()) <= 0) std::abort();
    if (max_frames_per_step(config, {.max_samples = 1}) <= 0) std::abort();
    make_features(config);
  } catch (const ModelError&) {
  }
  return 0;
}
