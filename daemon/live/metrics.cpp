#include "daemon/live/metrics.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

namespace sidewinder::live {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Histogram;
using prometheus::Registry;

prometheus::Gauge& gauge(Registry& registry, const char* name, const char* help) {
  return BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Counter& counter(Registry& registry, const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Histogram& histogram(Registry& registry, const char* name, const char* help,
                                 Histogram::BucketBoundaries bounds) {
  return BuildHistogram().Name(name).Help(help).Register(registry).Add({}, std::move(bounds));
}

const Histogram::BucketBoundaries kStageSeconds{.0001, .0002, .0005, .001, .002, .005, .01, .02,
                                                .05,   .1,    .2,    .5,   1,    2,    5,   10};

void add(std::atomic<double>& sum, double value) {
  double seen = sum.load(std::memory_order_relaxed);
  while (!sum.compare_exchange_weak(seen, seen + value, std::memory_order_relaxed)) {
  }
}

// Made anew for each page, so that a device that is lost is not there any more.
std::vector<prometheus::MetricFamily> gpu_families(const std::vector<GpuUsage>& usage) {
  using prometheus::MetricType;
  prometheus::MetricFamily utilization{"sidewinder_gpu_utilization_ratio",
                                       "share of the last moment in which a kernel ran, of any process",
                                       MetricType::Gauge,
                                       {}};
  prometheus::MetricFamily used{
      "sidewinder_gpu_memory_used_bytes", "memory taken, by any process", MetricType::Gauge, {}};
  prometheus::MetricFamily total{
      "sidewinder_gpu_memory_total_bytes", "memory there is", MetricType::Gauge, {}};
  for (const GpuUsage& gpu : usage) {
    const auto add_to = [&gpu](prometheus::MetricFamily& family, double value) {
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label = {{"gpu", std::to_string(gpu.gpu)}, {"pci_bus_id", gpu.pci_bus_id}};
      metric.gauge.value = value;
    };
    if (gpu.utilization) add_to(utilization, *gpu.utilization);
    add_to(used, static_cast<double>(gpu.memory_used));
    add_to(total, static_cast<double>(gpu.memory_total));
  }
  std::vector<prometheus::MetricFamily> families;
  for (prometheus::MetricFamily* family : {&utilization, &used, &total})
    if (!family->metric.empty()) families.push_back(std::move(*family));
  return families;
}

}  // namespace

void Distribution::observe(double value) {
  histogram_.Observe(value);
  add(sum_, value);
  count_.fetch_add(1, std::memory_order_relaxed);
  double seen = max_.load(std::memory_order_relaxed);
  while (value > seen && !max_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

double Distribution::mean() const {
  const std::uint64_t count = count_.load(std::memory_order_relaxed);
  return count == 0 ? 0 : sum_.load(std::memory_order_relaxed) / static_cast<double>(count);
}

Metrics::Metrics()
    : drops_(BuildCounter()
                 .Name("sidewinder_drops_total")
                 .Help("not taken or not sent, by reason")
                 .Register(registry_)),
      results_(BuildCounter()
                   .Name("sidewinder_results_total")
                   .Help("results published, by kind")
                   .Register(registry_)),
      stages_(BuildHistogram()
                  .Name("sidewinder_stage_seconds")
                  .Help("the parts of sidewinder_lag_seconds, by stage")
                  .Register(registry_)),
      info_(BuildGauge().Name("sidewinder_info").Help("what serves: always 1").Register(registry_)),
      cpu_seconds_(counter(registry_, "process_cpu_seconds_total", "user and system time of the process")),
      resident_bytes_(gauge(registry_, "process_resident_memory_bytes", "memory of the process")),
      streams(gauge(registry_, "sidewinder_streams", "streams alive")),
      slots(gauge(registry_, "sidewinder_slots", "streams that can be alive at once")),
      behind(gauge(registry_, "sidewinder_streams_behind", "streams whose lag is past scheduler.behind_ms")),
      moving(gauge(registry_, "sidewinder_streams_moving", "streams that are still on the model before")),
      capacity(gauge(registry_, "sidewinder_capacity_streams",
                     "live streams that the engine carries, as measured when it was made; 0: not measured")),
      queue(gauge(registry_, "sidewinder_results_queued", "results waiting for the publisher")),
      replies(gauge(registry_, "sidewinder_replies_queued", "answers waiting for the ingest socket")),
      waiting_seconds(
          gauge(registry_, "sidewinder_audio_waiting_seconds", "audio accepted and not yet heard")),
      opened(counter(registry_, "sidewinder_streams_opened_total", "streams opened")),
      closed(counter(registry_, "sidewinder_streams_closed_total", "streams closed")),
      refused(counter(registry_, "sidewinder_streams_refused_total", "opens that were refused")),
      audio_seconds(
          counter(registry_, "sidewinder_audio_seconds_total", "audio that went through the model")),
      steps(counter(registry_, "sidewinder_steps_total", "steps of the engine")),
      finals(results_.Add({{"kind", "final"}})),
      partials(results_.Add({{"kind", "partial"}})),
      events(results_.Add({{"kind", "event"}})),
      partials_skipped(drops_.Add({{"reason", "partial_skipped"}})),
      step_seconds(histogram(registry_, "sidewinder_step_seconds", "time of one step of the engine",
                             {.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2})),
      batch_streams(histogram(registry_, "sidewinder_batch_streams", "streams in one step",
                              {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024})),
      lag_seconds(histogram(registry_, "sidewinder_lag_seconds",
                            "from accepting a text's last sample to publishing it",
                            {.01, .02, .05, .1, .15, .2, .25, .5, 1, 2, 5, 10, 30})),
      wait_seconds(stages_.Add({{"stage", "wait"}}, kStageSeconds)),
      engine_seconds(stages_.Add({{"stage", "step"}}, kStageSeconds)),
      readout_seconds(stages_.Add({{"stage", "readout"}}, kStageSeconds)),
      queue_seconds(stages_.Add({{"stage", "queue"}}, kStageSeconds)),
      publish_seconds(stages_.Add({{"stage", "publish"}}, kStageSeconds)) {}

void Metrics::describe(const std::string& version, const std::string& engine, const std::string& model) {
  if (described_ != nullptr) info_.Remove(described_);
  described_ = &info_.Add({{"version", version}, {"engine", engine}, {"model", model}});
  described_->Set(1);
}

void Metrics::watch_gpus(std::unique_ptr<GpuMonitor> monitor) {
  std::lock_guard lock(page_mutex_);
  gpus_ = std::move(monitor);
}

std::string Metrics::text() {
  std::vector<prometheus::MetricFamily> gpus;
  {
    std::lock_guard lock(page_mutex_);
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    cpu_seconds_.Increment(seconds(used.ru_utime) + seconds(used.ru_stime) - cpu_seconds_.Value());
    double size = 0, resident = 0;  // pages; proc(5)
    std::ifstream("/proc/self/statm") >> size >> resident;
    resident_bytes_.Set(resident * static_cast<double>(::sysconf(_SC_PAGESIZE)));
    if (gpus_) gpus = gpu_families(gpus_->usage());
  }
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  std::ranges::move(gpus, std::back_inserter(families));
  return prometheus::TextSerializer().Serialize(families);
}

void Metrics::drop(const std::string& reason) {
  drops_.Add({{"reason", reason}}).Increment();  // the same counter for the same labels
}

}  // namespace sidewinder::live
