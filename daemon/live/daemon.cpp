#include "daemon/live/daemon.h"

#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "daemon/live/protocol.h"

namespace sidewinder::live {
Daemon::Daemon(const Config& config, const std::filesystem::path& model)
    : config_(config),
      stop_timeout_(config.shutdown.timeout_ms),
      swap_(config, model),
      table_(config, swap_.current()),
      results_(static_cast<std::size_t>(config.results.queue)),
      replies_(static_cast<std::size_t>(config.results.queue)),
      saves_(Control::kMostSaves),
      history_(static_cast<std::size_t>(config.history.finals),
               static_cast<std::size_t>(config.history.streams)),
      context_(quarter_of_cores()),  // ZeroMQ's own threads: one carries some ten thousand live streams
      security_(config, metrics_),
      authenticator_(context_, security_, metrics_),
      publisher_(context_, config, security_, results_, replies_, saves_, history_, metrics_),
      ingest_(context_, config, security_, table_, replies_, saves_, swap_, metrics_),
      scheduler_(config, swap_.current(), table_, results_, ingest_.look(), metrics_),
      control_(context_, config, swap_, security_, table_, results_, saves_, publisher_, ingest_, scheduler_,
               history_, metrics_),
      http_(config.sockets.http, metrics_, table_),
      watched_{{{"scheduler", scheduler_.pulse(), table_.work()},
                {"publisher", publisher_.pulse(), results_.filled()},
                {"ingest", ingest_.pulse(), ingest_.look()}}} {
  const LoadedModel& first = swap_.current();
  const ChosenEngine& chosen = first.chosen;
  if (!chosen.note.empty()) spdlog::info("{}", chosen.note);
  metrics_.describe(SIDEWINDER_VERSION, chosen.engine->name(), first.identity.hash);
  metrics_.capacity.Set(static_cast<double>(first.capacity));
  if (!chosen.gpus.empty()) {
    auto monitor = std::make_unique<GpuMonitor>(chosen.gpus);
    if (!monitor->unavailable_reason().empty())
      spdlog::warn("the metrics do not show how the GPUs are used: {}", monitor->unavailable_reason());
    metrics_.watch_gpus(std::move(monitor));
  }
  if (const std::size_t capacity = table_.capacity(); capacity > 0)
    spdlog::info("the engine carries {} live streams at limits.load_percent = {}; limits.streams = {}",
                 capacity, config_.limits.load_percent, config_.limits.streams);
  metrics_.slots.Set(static_cast<double>(table_.slots()));
  publisher_.start();
  scheduler_.start();
  ingest_.start();
}

std::string Daemon::ready_line() const {
  return dump({{"ready", true},
               {"results", publisher_.endpoint()},
               {"ingest", ingest_.endpoint()},
               {"control", control_.endpoint()},
               {"http", http_.address()}});
}

void Daemon::serve(int descriptor, const std::function<void()>& tick) {
  control_.serve(descriptor, [&] {
    tick();
    return failure().empty();
  });
}

void Daemon::reload(const Config& config) {
  spdlog::set_level(spdlog::level::from_str(config.log.level));
  stop_timeout_ = std::chrono::milliseconds(config.shutdown.timeout_ms);
  table_.set_endpoint(endpoint_of(config));
  ingest_.set_idle_ms(config.ingest.idle_ms);
  if (security_.access.enabled() && security_.access.replace(config.keys)) publisher_.drop_subscribers();
  security_.audit.reopen();
  const std::vector<std::string> waiting = restart_needed(config_, config);
  for (const std::string& key : waiting)
    spdlog::warn("{} was changed; the daemon must be started again for it to count", key);
  security_.audit.record("reloaded", {{"restart_needed", waiting}});
}

std::string Daemon::stuck() {
  std::string names;
  for (Watched& thread : watched_) {
    const std::uint64_t beats = thread.pulse.beats();
    if (std::exchange(thread.seen, beats) == beats)
      names += (names.empty() ? "" : ", ") + std::string(thread.name);
    thread.wakeup.raise();
  }
  return names;
}

bool Daemon::stop() {
  const auto deadline = std::chrono::steady_clock::now() + stop_timeout_;
  spdlog::info("stopping: {} stream(s) to finish", table_.live());
  table_.set_draining(true);
  swap_.cancel();
  control_.close_all();
  ingest_.close_all();
  const bool finished = table_.wait_until_empty(deadline);
  if (!finished)
    spdlog::error("{} stream(s) not finished within shutdown.timeout_ms = {}", table_.live(),
                  stop_timeout_.count());
  // In the direction of the data, each when what feeds it has ended.
  scheduler_.stop();
  publisher_.stop();
  ingest_.stop();
  control_.answer_last();
  return finished;
}

}  // namespace sidewinder::live
