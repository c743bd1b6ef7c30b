#include "daemon/live/daemon.h"

#include <chrono>

#include <spdlog/spdlog.h>

#include "daemon/live/protocol.h"

namespace sidewinder::live {

Daemon::Daemon(const Config& config, const Model& model)
    : config_(config),
      tokenizer_(model.folder / "tokens.txt", model.config.vocab_size),
      chosen_(make_engine(config.engine.kind, model, scheduler_engine_options(config, model.config),
                          config.engine.gpus)),
      identity_{.hash = hex(model.hash),
                .rate = model.config.sample_rate,
                .hop = model.config.frame_hop(),
                .width = model.config.d_model},
      table_(config, model.config, tokenizer_, chosen_.engine->devices()),
      results_(static_cast<std::size_t>(config.results.queue)),
      replies_(static_cast<std::size_t>(config.results.queue)),
      history_(static_cast<std::size_t>(config.history.finals),
               static_cast<std::size_t>(config.history.streams)),
      context_(1),
      publisher_(context_, config, identity_, results_, replies_, history_, metrics_),
      ingest_(context_, config, identity_, table_, replies_, metrics_),
      scheduler_(config, *chosen_.engine, table_, results_, ingest_.look(), metrics_),
      control_(context_, config, identity_, {SIDEWINDER_VERSION, chosen_.engine->name()}, table_, results_,
               publisher_, ingest_, history_, metrics_),
      http_(config.sockets.http, metrics_, table_) {
  if (!chosen_.note.empty()) spdlog::info("{}", chosen_.note);
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

bool Daemon::run(int stop_descriptor) {
  control_.serve(stop_descriptor);
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(config_.shutdown.timeout_ms);
  spdlog::info("stopping: {} stream(s) to finish", table_.live());
  table_.set_draining(true);
  control_.close_all();
  ingest_.close_all();
  const bool finished = table_.wait_until_empty(deadline);
  if (!finished)
    spdlog::error("{} stream(s) not finished within shutdown.timeout_ms = {}", table_.live(),
                  config_.shutdown.timeout_ms);
  // In the direction of the data, each when what feeds it has ended.
  scheduler_.stop();
  publisher_.stop();
  ingest_.stop();
  return finished;
}

}  // namespace sidewinder::live
