// An engine whose device is lost in mid-run.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "model/engine.h"

namespace sidewinder::test {

// The CPU engine, until it is lost: then what a CUDA engine without its device does.
class EngineThatIsLost final : public Engine {
 public:
  EngineThatIsLost(std::unique_ptr<Engine> engine, int steps) : engine_(std::move(engine)), steps_(steps) {}

  const char* name() const noexcept override { return engine_->name(); }
  const ModelConfig& config() const noexcept override { return engine_->config(); }
  const ModelHash& model_hash() const noexcept override { return engine_->model_hash(); }
  const EngineOptions& options() const noexcept override { return engine_->options(); }
  void reset(std::uint32_t slot) noexcept override { engine_->reset(slot); }
  std::size_t capsule_bytes() const noexcept override { return engine_->capsule_bytes(); }
  void save(std::uint32_t slot, std::span<std::byte> into) const noexcept override {
    engine_->save(slot, into);
  }
  void load(std::uint32_t slot, std::span<const std::byte> capsule) override { engine_->load(slot, capsule); }

  void step(std::span<const StreamInput> batch, std::span<StreamOutput> out) noexcept override {
    if (steps_ > 0) {
      --steps_;
      engine_->step(batch, out);
      return;
    }
    failure_ = "the device fell off the bus";
    for (std::size_t i = 0; i < batch.size(); ++i) out[i].frames = 0;
  }
  std::string_view failure() const noexcept override { return failure_; }

 private:
  std::unique_ptr<Engine> engine_;
  int steps_;
  std::string_view failure_;
};

}  // namespace sidewinder::test
