// The metrics page of a daemon whose engine runs on GPUs, with an NVML that is given: for the dashboard's
// test where there is no GPU. usage: gpu_metrics_page NVML PCI_BUS_ID...
#include <cstdio>
#include <memory>

#include "daemon/live/metrics.h"
#include "kernels/nvml/gpu_monitor.h"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  sidewinder::live::Metrics metrics;
  metrics.watch_gpus(
      std::make_unique<sidewinder::GpuMonitor>(std::vector<std::string>(argv + 2, argv + argc), argv[1]));
  std::fputs(metrics.text().c_str(), stdout);
}
