// What the daemon counts, as Prometheus reads it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "daemon/live/tracer.h"
#include "kernels/nvml/gpu_monitor.h"

namespace sidewinder::live {

// A histogram that also knows its largest value; any thread.
class Distribution {
 public:
  Distribution(prometheus::Histogram& histogram) : histogram_(histogram) {}

  void observe(double value);
  double mean() const;
  double max() const { return max_.load(std::memory_order_relaxed); }

 private:
  prometheus::Histogram& histogram_;
  std::atomic<double> sum_{0};
  std::atomic<double> max_{0};
  std::atomic<std::uint64_t> count_{0};
};

// Any thread.
class Metrics {
 public:
  Metrics();

  // The page of /metrics, with what the process and the GPUs use now.
  std::string text();

  // What serves from now on: version, engine (cpu or cuda), hash of the model.
  void describe(const std::string& version, const std::string& engine, const std::string& model);

  // Whose use the page shows from now on. What can't be told is not on the page.
  void watch_gpus(std::unique_ptr<GpuMonitor> monitor);

  // Counts one thing that was not taken or not sent, by its reason.
  void drop(const std::string& reason);

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& drops_;
  prometheus::Family<prometheus::Counter>& results_;
  prometheus::Family<prometheus::Histogram>& stages_;
  prometheus::Family<prometheus::Gauge>& info_;
  prometheus::Gauge* described_ = nullptr;  // of info_; main's
  std::mutex page_mutex_;                   // of the three below
  prometheus::Counter& cpu_seconds_;
  prometheus::Gauge& resident_bytes_;
  std::unique_ptr<GpuMonitor> gpus_;  // null: none

 public:
  prometheus::Gauge& streams;
  prometheus::Gauge& slots;
  prometheus::Gauge& behind;
  prometheus::Gauge& moving;
  prometheus::Gauge& capacity;
  prometheus::Gauge& queue;
  prometheus::Gauge& replies;
  prometheus::Gauge& waiting_seconds;
  prometheus::Counter& opened;
  prometheus::Counter& closed;
  prometheus::Counter& refused;
  prometheus::Counter& audio_seconds;
  prometheus::Counter& steps;
  prometheus::Counter& finals;
  prometheus::Counter& partials;
  prometheus::Counter& events;
  prometheus::Counter& partials_skipped;  // of drops
  Distribution step_seconds;
  Distribution batch_streams;
  Distribution lag_seconds;
  // The parts of that lag, by stage (tracer.h has them too).
  prometheus::Histogram& wait_seconds;
  prometheus::Histogram& engine_seconds;
  prometheus::Histogram& readout_seconds;
  prometheus::Histogram& queue_seconds;
  prometheus::Histogram& publish_seconds;
  Tracer tracer;
};

}  // namespace sidewinder::live
