// Stands in for the NVIDIA driver's libnvidia-ml.so.1 on machines without a GPU: knows the devices
// 0000:01:00.0 (busy for 42 %, 3 of 8 GB taken), 0000:02:00.0 (can't tell how busy it is), and no other.
// (kernels/nvml/gpu_monitor.h says where NVML is documented.)
#include <cstring>

namespace {

constexpr int kNotSupported = 3, kNotFound = 6;  // NVML_ERROR_...
char busy, divided;

}  // namespace

extern "C" {

int nvmlInit_v2() {
  return 0;
}

int nvmlShutdown() {
  return 0;
}

const char* nvmlErrorString(int) {
  return "an error";
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) {
  *device = std::strcmp(id, "0000:01:00.0") == 0   ? &busy
            : std::strcmp(id, "0000:02:00.0") == 0 ? &divided
                                                   : nullptr;
  return *device == nullptr ? kNotFound : 0;
}

int nvmlDeviceGetUtilizationRates(void* device, unsigned rates[2]) {  // of the GPU, of its memory: per cent
  if (device != &busy) return kNotSupported;
  rates[0] = 42;
  rates[1] = 7;
  return 0;
}

int nvmlDeviceGetMemoryInfo(void*, unsigned long long bytes[3]) {  // total, free, used
  bytes[0] = 8'000'000'000;
  bytes[1] = 5'000'000'000;
  bytes[2] = 3'000'000'000;
  return 0;
}
}
