#include "daemon/live/tracer.h"

namespace sidewinder::live {

const char* to_string(Tracer::Stage stage) noexcept {
  constexpr const char* kNames[Tracer::kStages] = {"accept", "wait", "step", "readout", "queue", "publish"};
  return kNames[static_cast<int>(stage)];
}

bool Tracer::start(std::uint32_t slot) {
  std::lock_guard lock(mutex_);
  if (slot_ >= 0 && now_ns() - trace_.begin_ns < kForgottenNs) return false;
  trace_.events.clear();
  trace_.dropped = 0;
  trace_.begin_ns = now_ns();
  slot_ = slot;
  return true;
}

std::optional<Tracer::Trace> Tracer::stop(std::uint32_t slot) {
  std::lock_guard lock(mutex_);
  if (slot_ != slot) return std::nullopt;
  slot_ = -1;
  return trace_;
}

void Tracer::record(std::uint32_t slot, const Event& event) noexcept {
  if (!wants(slot)) return;
  std::lock_guard lock(mutex_);
  if (!wants(slot)) return;
  if (trace_.events.size() < kMostEvents)
    trace_.events.push_back(event);
  else
    ++trace_.dropped;
}

}  // namespace sidewinder::live
