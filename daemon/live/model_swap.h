// Who owns the models: the one that streams are opened with, and during a swap the one before it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <variant>

#include "daemon/live/config.h"
#include "daemon/live/loaded_model.h"
#include "daemon/live/stream_table.h"
#include "daemon/live/wakeup.h"

namespace sidewinder::live {

// A swap, step by step: load() starts a thread that makes the new model beside the one that serves;
// take_loaded() has it, or why there is none; install() makes it the current one, and whoever runs the
// streams moves them; the last thread that may have used the one before calls release(); free_released()
// destroys it. Thread rule: the thread that made it, where nothing else is said.
class ModelSwap {
 public:
  // The first model. Throws what LoadedModel and load_model() throw.
  ModelSwap(const Config& config, const std::filesystem::path& folder);
  ModelSwap(const ModelSwap&) = delete;
  ~ModelSwap();  // waits for the step of loading that runs

  LoadedModel& current() const noexcept { return *current_; }
  const LoadedModel* retiring() const noexcept { return retiring_.get(); }  // null: no stream is to move

  // Precondition: nothing loads, nothing retires.
  void load(const std::filesystem::path& folder);
  // Gives up what load() began, soon; nothing may be loaded afterwards.
  void cancel() noexcept { loader_.request_stop(); }

  using Loaded = std::variant<std::unique_ptr<LoadedModel>, Refusal>;
  std::optional<Loaded> take_loaded();  // nothing: it still loads, or nothing does
  void install(std::unique_ptr<LoadedModel> model);

  // By the last thread that may have used the retiring model.
  void release(LoadedModel& model) noexcept;
  void free_released();

  // Raised when take_loaded() or free_released() has something to do.
  Wakeup& changed() noexcept { return changed_; }

  // A capsule of no model that is ever current has more bytes.
  std::int64_t most_capsule_bytes() const noexcept { return most_capsule_bytes_; }

 private:
  Loaded make(const std::filesystem::path& folder, const std::stop_token& stop) const;
  // Why streams could not move to such a model.
  std::optional<Refusal> misfit(const ModelConfig& model) const;

  const Config& config_;
  Wakeup changed_;
  std::unique_ptr<LoadedModel> current_;
  std::unique_ptr<LoadedModel> retiring_;
  const std::int64_t most_capsule_bytes_;
  const std::int64_t kept_samples_;  // of each stream, that another model can hear again
  std::atomic<LoadedModel*> released_{nullptr};
  std::mutex mutex_;  // of loaded_
  std::optional<Loaded> loaded_;
  std::jthread loader_;  // last: it uses the rest
};

}  // namespace sidewinder::live
