// The CUDA engine: the Engine interface on one NVIDIA GPU. This header needs no CUDA; nothing outside
// kernels/ includes a CUDA header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/engine.h"

namespace sidewinder {

enum class CudaPrecision {
  Float32,   // weights and activations float32, no tensor cores: the reference
  Float16,   // weights and activations float16; state, sums, norms and the residual stream float32
  BFloat16,  // the same with bfloat16: float32's range, 3 bits less than float16's precision
  Float8,    // as Float16, but out_proj and fc2 multiply e4m3 weights and activations: faster in a crowd, and
             // less exact. Wants the model's float8.json, see kernels/README.md; compute capability 9.0 only
};

// The instructions of 16-bit products. Which one it is may change a stream's last bits; within an engine no
// choice does.
enum class CudaProducts {
  Auto,   // wgmma for large products where it gives the bits of mma.sync, which does the others
  Mma,    // mma.sync for all
  Wgmma,  // wgmma for all that its tiles cover, small ones too; compute capability 9.0 only
};

struct CudaOptions {
  int device = 0;  // index among cuda_devices(); one engine a device
  CudaPrecision precision = CudaPrecision::Float16;
  CudaProducts products = CudaProducts::Auto;
  bool fuse_convolution = true;  // convolution and x_proj in one kernel where that fits; no bit depends on it
  bool clusters = true;          // a cluster of blocks for products of few rows; no bit depends on it
  std::uint32_t wave_rows = 0;   // encoder frames worked on at a time; 0: as measured best for the device
  int lanes = 2;                 // waves in flight, 1 to 4
  bool graphs = true;            // replay captured CUDA graphs for small steps
};

struct CudaDevice {
  int index = 0;
  std::string name;
  std::string pci_bus_id;  // as GpuMonitor (nvml/gpu_monitor.h) takes it; empty: not known
  int major = 0;           // compute capability
  int minor = 0;
  int multiprocessors = 0;
  std::size_t memory_total = 0;  // bytes
  std::size_t memory_free = 0;   // bytes
};

// Every device the driver shows; empty when there is no usable driver.
std::vector<CudaDevice> cuda_devices();

// Empty when make_cuda_engine can use the device, or one line that says why it can't and what to do.
std::string cuda_unavailable_reason(int device = 0);

// Bytes of device memory that an engine takes. Throws as make_cuda_engine does on options it refuses.
std::size_t cuda_engine_bytes(const Model& model, const EngineOptions& options, const CudaOptions& cuda = {});

// The most slots, up to options.slots, with which the engine fits into the device's free memory now, less a
// margin for the driver; 0: not even one does.
std::uint32_t cuda_slots_that_fit(const Model& model, const EngineOptions& options,
                                  const CudaOptions& cuda = {});

// Allocates everything, on host and device, and warms up. `model` is not needed afterwards.
// EngineOptions::threads counts the threads that pack samples for the upload. Several engines may live side
// by side, on one device or several, each with one caller at a time. Throws std::invalid_argument (options),
// ModelError (a network these kernels don't cover) or std::runtime_error (no device, not enough memory: with
// the figures).
std::unique_ptr<Engine> make_cuda_engine(const Model& model, const EngineOptions& options,
                                         const CudaOptions& cuda = {});

// What the engine has done since it was made; for benchmarks and metrics. `engine` must be a CUDA engine.
struct CudaEngineStats {
  std::uint64_t steps = 0;
  std::uint64_t waves = 0;
  std::uint64_t graph_waves = 0;  // of these, replayed from a graph
  std::uint64_t float_waves = 0;  // of these, uploaded as float32: some sample was no 16-bit value
  std::uint64_t uploaded_bytes = 0;
  std::size_t device_bytes = 0;  // allocated at construction, and all there is
  bool wgmma = false;            // large products are made with wgmma
};
CudaEngineStats cuda_engine_stats(const Engine& engine);

// Time of each kernel group in the waves of the next step, for the benchmark: the step runs wave after wave
// with an event around each group.
struct CudaKernelTime {
  const char* group = "";
  double milliseconds = 0;
  double bytes = 0;       // read and written in device memory at least: state, weights once a wave, rows
  double operations = 0;  // multiply-adds count two
};
std::vector<CudaKernelTime> cuda_profile_step(Engine& engine, std::span<const StreamInput> batch,
                                              std::span<StreamOutput> out);

}  // namespace sidewinder
