#include "kernels/nvml/gpu_monitor.h"

#include <utility>

#include <dlfcn.h>

namespace sidewinder {
namespace {

constexpr int kSuccess = 0;  // NVML_SUCCESS

}  // namespace

template <typename Function>
bool GpuMonitor::find(Function*& function, const char* name) {
  function = reinterpret_cast<Function*>(::dlsym(library_, name));
  if (function == nullptr) why_not_ = std::string("the NVIDIA driver's NVML has no ") + name;
  return function != nullptr;
}

GpuMonitor::GpuMonitor(std::vector<std::string> pci_bus_ids, const char* library)
    : pci_bus_ids_(std::move(pci_bus_ids)), library_(::dlopen(library, RTLD_NOW | RTLD_LOCAL)) {
  if (library_ == nullptr) {
    why_not_ = std::string("NVML can't be loaded: ") + ::dlerror();
    return;
  }
  decltype(shut_down_) shut_down = nullptr;
  if (!find(init_, "nvmlInit_v2") || !find(shut_down, "nvmlShutdown") ||
      !find(error_string_, "nvmlErrorString") || !find(device_, "nvmlDeviceGetHandleByPciBusId_v2") ||
      !find(utilization_, "nvmlDeviceGetUtilizationRates") || !find(memory_, "nvmlDeviceGetMemoryInfo"))
    return;
  if (const int error = init_(); error != kSuccess)
    why_not_ = std::string("NVML does not start: ") + error_string_(error);
  else
    shut_down_ = shut_down;
}

GpuMonitor::~GpuMonitor() {
  if (shut_down_ != nullptr) shut_down_();
  if (library_ != nullptr) ::dlclose(library_);
}

std::vector<GpuUsage> GpuMonitor::usage() {
  std::vector<GpuUsage> all;
  if (!why_not_.empty()) return all;
  for (std::size_t gpu = 0; gpu < pci_bus_ids_.size(); ++gpu) {
    Device device = nullptr;  // asked for each time: a device that was reset has another
    Memory memory{};
    if (device_(pci_bus_ids_[gpu].c_str(), &device) != kSuccess || memory_(device, &memory) != kSuccess)
      continue;
    GpuUsage usage{.gpu = gpu,
                   .pci_bus_id = pci_bus_ids_[gpu],
                   .utilization = std::nullopt,
                   .memory_used = memory.used,
                   .memory_total = memory.total};
    if (Utilization rates{}; utilization_(device, &rates) == kSuccess) usage.utilization = rates.gpu / 100.0;
    all.push_back(std::move(usage));
  }
  return all;
}

}  // namespace sidewinder
