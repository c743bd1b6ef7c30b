#include "daemon/live/model_swap.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include <malloc.h>
#include <spdlog/spdlog.h>

#include "daemon/live/clock.h"
#include "daemon/live/thread_name.h"
#include "model/capsule.h"
#include "model/state_layout.h"

namespace sidewinder::live {
namespace {

constexpr std::int64_t kCapsuleSlack =
    1 << 20;  // bytes of a capsule beside the encoder's state: hotwords, mostly

std::int64_t capsule_bytes(const ModelConfig& model) {
  return static_cast<std::int64_t>(capsule_size(StateLayout(model))) + kCapsuleSlack;
}

}  // namespace

ModelSwap::ModelSwap(const Config& config, const std::filesystem::path& folder)
    : config_(config),
      current_(std::make_unique<LoadedModel>(config, load_model(folder))),
      most_capsule_bytes_(std::max(config.limits.max_message_bytes, capsule_bytes(current_->config))),
      kept_samples_(most_heard_again(current_->config)) {}

ModelSwap::~ModelSwap() = default;

void ModelSwap::load(const std::filesystem::path& folder) {
  loader_ = std::jthread([this, folder](const std::stop_token& stop) {
    name_thread("model loader");
    Loaded made = make(folder, stop);
    {
      std::lock_guard lock(mutex_);
      loaded_ = std::move(made);
    }
    changed_.raise();
  });
}

ModelSwap::Loaded ModelSwap::make(const std::filesystem::path& folder, const std::stop_token& stop) const {
  const std::int64_t begin_ns = now_ns();
  try {
    const Model model = load_model(folder);
    if (auto refusal = misfit(model.config)) return *refusal;
    auto loaded = std::make_unique<LoadedModel>(config_, model, stop);
    spdlog::info("model {} of {} is loaded after {:.1f} s", loaded->identity.hash, folder.string(),
                 static_cast<double>(now_ns() - begin_ns) / 1e9);
    return loaded;
  } catch (const UnsuitableModel& error) {
    return Refusal{"unsupported", error.what()};
  } catch (const HotwordError& error) {
    return Refusal{"unsupported", error.what()};
  } catch (const ModelError& error) {
    return Refusal{"bad_model", error.what()};
  } catch (const std::bad_alloc&) {
    return Refusal{"no_engine", folder.string() +
                                    ": not enough memory for a second model beside the one that runs; free "
                                    "some, lower limits.streams, or start the daemon again with it"};
  } catch (const std::exception& error) {
    return Refusal{"no_engine", error.what()};
  }
}

std::optional<Refusal> ModelSwap::misfit(const ModelConfig& model) const {
  const auto misfit = [](const std::string& what) {
    return Refusal{"unsupported", what + "; start the daemon again with that model"};
  };
  const ModelConfig& current = current_->config;
  if (model.sample_rate != current.sample_rate)
    return misfit("it hears " + std::to_string(model.sample_rate) + " Hz, the streams' buffers hold " +
                  std::to_string(current.sample_rate) + " Hz");
  if (most_heard_again(model) > kept_samples_)
    return misfit("it looks further ahead than the model at the start: a stream that moves from it has " +
                  std::to_string(most_heard_again(model)) + " samples to be heard again, the buffers keep " +
                  std::to_string(kept_samples_));
  if (capsule_bytes(model) > most_capsule_bytes_)
    return Refusal{"unsupported", "a saved stream of it has up to " + std::to_string(capsule_bytes(model)) +
                                      " bytes, the control socket takes " +
                                      std::to_string(most_capsule_bytes_) +
                                      "; raise limits.max_message_bytes and start the daemon again"};
  return std::nullopt;
}

std::optional<ModelSwap::Loaded> ModelSwap::take_loaded() {
  std::optional<Loaded> loaded;
  {
    std::lock_guard lock(mutex_);
    loaded = std::exchange(loaded_, std::nullopt);
  }
  if (loaded) loader_ = {};  // it has ended, or is about to
  return loaded;
}

void ModelSwap::install(std::unique_ptr<LoadedModel> model) {
  retiring_ = std::exchange(current_, std::move(model));
}

void ModelSwap::release(LoadedModel& model) noexcept {
  released_.store(&model, std::memory_order_release);
  changed_.raise();
}

void ModelSwap::free_released() {
  if (released_.exchange(nullptr, std::memory_order_acquire) == nullptr) return;
  spdlog::info("no stream is on model {} any more; its memory is freed", retiring_->identity.hash);
  retiring_.reset();
  ::malloc_trim(0);  // to the system: the next model may be larger
}

}  // namespace sidewinder::live
