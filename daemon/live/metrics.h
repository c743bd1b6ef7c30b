// What the daemon counts, as Prometheus reads it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

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

  // The page of /metrics.
  std::string text() const;

  // Counts one thing that was not taken or not sent, by its reason.
  void drop(const std::string& reason);

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& drops_;
  prometheus::Family<prometheus::Counter>& results_;

 public:
  prometheus::Gauge& streams;
  prometheus::Gauge& slots;
  prometheus::Gauge& behind;
  prometheus::Gauge& queue;
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
};

}  // namespace sidewinder::live
