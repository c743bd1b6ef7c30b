#include "daemon/live/metrics.h"

#include <algorithm>

#include <prometheus/text_serializer.h>

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

void add(std::atomic<double>& sum, double value) {
  double seen = sum.load(std::memory_order_relaxed);
  while (!sum.compare_exchange_weak(seen, seen + value, std::memory_order_relaxed)) {
  }
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
      streams(gauge(registry_, "sidewinder_streams", "streams alive")),
      slots(gauge(registry_, "sidewinder_slots", "streams that can be alive at once")),
      behind(gauge(registry_, "sidewinder_streams_behind", "streams whose lag is past scheduler.behind_ms")),
      queue(gauge(registry_, "sidewinder_results_queued", "results waiting for the publisher")),
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
                            {.01, .02, .05, .1, .15, .2, .25, .5, 1, 2, 5, 10, 30})) {}

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

void Metrics::drop(const std::string& reason) {
  drops_.Add({{"reason", reason}}).Increment();  // the same counter for the same labels
}

}  // namespace sidewinder::live
