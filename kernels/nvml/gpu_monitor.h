// How busy GPUs are and how much of their memory is taken, as the driver's management library (NVML) tells.
// Needs no CUDA: built everywhere, and on a machine without a driver it says that there is none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sidewinder {

struct GpuUsage {
  std::size_t gpu = 0;     // which of the monitor's devices
  std::string pci_bus_id;  // as it was given
  // Share of the driver's last sample period (a sixth of a second to a second) in which a kernel ran, 0 to 1;
  // nothing where the device can't tell (MIG).
  std::optional<double> utilization;
  std::uint64_t memory_used = 0;   // bytes, by every process and the driver itself
  std::uint64_t memory_total = 0;  // bytes
};

// Thread rule: one thread at a time.
class GpuMonitor {
 public:
  // Loads NVML, which comes with the driver, from `library`. Throws nothing but std::bad_alloc.
  explicit GpuMonitor(std::vector<std::string> pci_bus_ids, const char* library = "libnvidia-ml.so.1");
  ~GpuMonitor();
  GpuMonitor(const GpuMonitor&) = delete;

  // Empty while NVML can be asked, or one line that says why it can't.
  const std::string& unavailable_reason() const { return why_not_; }

  // Of each device that answers; one that is lost is left out. Takes as long as the driver does:
  // milliseconds.
  std::vector<GpuUsage> usage();

 private:
  // NVML's own types and functions, of which there is no header where there is no CUDA toolkit:
  // https://docs.nvidia.com/deploy/nvml-api
  using Device = struct nvmlDevice_st*;
  struct Utilization {
    unsigned gpu, memory;  // per cent
  };
  struct Memory {
    unsigned long long total, free, used;  // bytes
  };

  template <typename Function>
  bool find(Function*& function, const char* name);

  const std::vector<std::string> pci_bus_ids_;
  std::string why_not_;
  void* library_ = nullptr;
  int (*init_)() = nullptr;
  int (*shut_down_)() = nullptr;  // null until NVML is initialised
  const char* (*error_string_)(int) = nullptr;
  int (*device_)(const char* pci_bus_id, Device*) = nullptr;
  int (*utilization_)(Device, Utilization*) = nullptr;
  int (*memory_)(Device, Memory*) = nullptr;
};

}  // namespace sidewinder
