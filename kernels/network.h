// The whole network on the device: one wave in, tokens out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "kernels/cuda_check.h"
#include "kernels/front_end.cuh"
#include "kernels/packed_model.h"
#include "kernels/product_choice.h"
#include "model/state_layout.h"

namespace sidewinder::cuda {

// Most rows that a wave's buffers hold.
struct WaveLimits {
  std::int32_t rows = 0;  // encoder rows
  std::int32_t segments = 0;
  std::int32_t stem_rows = 0;  // regions of all segments
  std::int64_t samples = 0;    // of PCM
};

// Where a step's frames go, on the device.
struct StepOutputs {
  std::int32_t* tokens = nullptr;  // (frames), and the scores at WaveCounts::scores behind
  float* log_probs = nullptr;      // (frames, vocab), or null
  float* encodings = nullptr;      // (frames, d_model), or null
};

// Told after each kernel group of a wave what has just been queued.
class GroupListener {
 public:
  virtual void after(const char* group, cudaStream_t stream) = 0;

 protected:
  ~GroupListener() = default;
};

// Activations of one wave in flight, one block of memory: never shared by two waves at a time.
class Workspace {
 public:
  Workspace(const PackedModel& model, const WaveLimits& limits);
  static std::size_t bytes(const PackedModel& model, const WaveLimits& limits);

  // In units of the engine's activation type T unless said otherwise.
  void* features;             // (4 stem rows, n_mels) T
  void* conv1;                // (2 stem rows, d_model) T
  float* stem;                // (stem rows, d_model)
  std::int32_t* row_segment;  // (rows)
  float* x;                   // (rows, d_model): the residual stream
  void* normed;               // (rows, d_model) T
  void* wide;                 // (rows, 2 d_inner) or (rows, d_intermediate) T, or (rows, head outputs) float
  void* u;                    // (rows, d_inner) T
  void* y;                    // (rows, d_inner) float8; else u
  float* projection;          // (rows, dt_rank + 2 d_state): dt before its projection, B, C

 private:
  Workspace() = default;
  std::size_t place(const PackedModel& model, const WaveLimits& limits, std::byte* base);
  DeviceMemory memory_;
};

// Const after construction; several waves may be queued at once, each with its own workspace and stream.
class Network {
 public:
  virtual ~Network() = default;

  // How products are made.
  virtual const ProductChoice& products() const = 0;

  // Queues the wave. `listener` may be null.
  virtual void run(const DeviceWave& wave, const Workspace& workspace, const StepOutputs& out,
                   cudaStream_t stream, GroupListener* listener) const = 0;
};

// Copies the weights to the current device. Throws as choose_products does.
std::unique_ptr<Network> make_network(const PackedModel& model, const StateLayout& layout,
                                      const CudaOptions& options);

}  // namespace sidewinder::cuda
