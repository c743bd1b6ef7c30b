// The use of GPUs on the metrics page: absent where there is no driver; else as NVML tells.
#include "daemon/live/metrics.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "kernels/nvml/gpu_monitor.h"

namespace sidewinder::live {
namespace {

bool has(const std::string& page, const std::string& line) {
  return page.find("\n" + line + "\n") != std::string::npos;
}

TEST(GpuMetrics, AbsentWithoutADriver) {
  Metrics metrics;
  EXPECT_EQ(metrics.text().find("sidewinder_gpu"), std::string::npos);
  auto monitor =
      std::make_unique<GpuMonitor>(std::vector<std::string>{"0000:01:00.0"}, "libno-such-nvml.so.1");
  EXPECT_NE(monitor->unavailable_reason().find("libno-such-nvml.so.1"), std::string::npos);
  EXPECT_TRUE(monitor->usage().empty());
  metrics.watch_gpus(std::move(monitor));
  EXPECT_EQ(metrics.text().find("sidewinder_gpu"), std::string::npos);
}

// A library that is there, but is no NVML.
TEST(GpuMetrics, AbsentWithoutNvmlsFunctions) {
  GpuMonitor monitor({"0000:01:00.0"}, "libm.so.6");
  EXPECT_NE(monitor.unavailable_reason().find("nvmlInit_v2"), std::string::npos);
  EXPECT_TRUE(monitor.usage().empty());
}

TEST(GpuMetrics, AsNvmlTells) {
  Metrics metrics;
  auto monitor = std::make_unique<GpuMonitor>(
      std::vector<std::string>{"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"}, SIDEWINDER_FAKE_NVML);
  EXPECT_EQ(monitor->unavailable_reason(), "");
  metrics.watch_gpus(std::move(monitor));
  const std::string page = metrics.text();
  EXPECT_TRUE(has(page, "# TYPE sidewinder_gpu_utilization_ratio gauge"));
  EXPECT_TRUE(has(page, R"(sidewinder_gpu_utilization_ratio{gpu="0",pci_bus_id="0000:01:00.0"} 0.42)"));
  EXPECT_TRUE(has(page, R"(sidewinder_gpu_memory_used_bytes{gpu="0",pci_bus_id="0000:01:00.0"} 3000000000)"));
  EXPECT_TRUE(
      has(page, R"(sidewinder_gpu_memory_total_bytes{gpu="0",pci_bus_id="0000:01:00.0"} 8000000000)"));
  // One that can't tell how busy it is, and one that is not there.
  EXPECT_EQ(page.find(R"(utilization_ratio{gpu="1")"), std::string::npos);
  EXPECT_TRUE(has(page, R"(sidewinder_gpu_memory_used_bytes{gpu="1",pci_bus_id="0000:02:00.0"} 3000000000)"));
  EXPECT_EQ(page.find(R"(gpu="2")"), std::string::npos);
}

}  // namespace
}  // namespace sidewinder::live
