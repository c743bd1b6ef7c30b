#include "model/engine_group.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "model/thread_team.h"

namespace sidewinder {
namespace {

class EngineGroup final : public Engine {
 public:
  EngineGroup(std::uint32_t members, const EngineOptions& options, const MakeMember& make)
      : options_(options), team_(static_cast<int>(members)) {
    for (std::uint32_t i = 0; i < members; ++i) {
      EngineOptions share = options;
      share.slots = (options.slots - i + members - 1) / members;
      share.max_batch = std::min(options.max_batch, share.slots);
      Member& member = members_.emplace_back();
      member.engine = make(i, share);
      member.inputs.reserve(share.max_batch);
      member.places.reserve(share.max_batch);
      member.outputs.resize(share.max_batch);
    }
  }

  const char* name() const noexcept override { return members_[0].engine->name(); }
  const ModelConfig& config() const noexcept override { return members_[0].engine->config(); }
  const ModelHash& model_hash() const noexcept override { return members_[0].engine->model_hash(); }
  const EngineOptions& options() const noexcept override { return options_; }
  std::uint32_t devices() const noexcept override { return static_cast<std::uint32_t>(members_.size()); }

  void reset(std::uint32_t slot) noexcept override { owner(slot).engine->reset(slot / devices()); }

  void step(std::span<const StreamInput> batch, std::span<StreamOutput> out) noexcept override {
    for (Member& member : members_) {
      member.inputs.clear();
      member.places.clear();
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      Member& member = owner(batch[i].slot);
      member.inputs.push_back({batch[i].slot / devices(), batch[i].samples, batch[i].end});
      member.places.push_back(i);
    }
    team_.run([&](int index) {
      Member& member = members_[static_cast<std::size_t>(index)];
      if (member.inputs.empty()) return;
      member.engine->step(member.inputs, std::span(member.outputs).first(member.inputs.size()));
      for (std::size_t i = 0; i < member.places.size(); ++i) out[member.places[i]] = member.outputs[i];
    });
  }

  std::string_view failure() const noexcept override {
    for (const Member& member : members_)
      if (const std::string_view failure = member.engine->failure(); !failure.empty()) return failure;
    return {};
  }

  std::size_t capsule_bytes() const noexcept override { return members_[0].engine->capsule_bytes(); }
  void save(std::uint32_t slot, std::span<std::byte> into) const noexcept override {
    members_[slot % devices()].engine->save(slot / devices(), into);
  }
  void load(std::uint32_t slot, std::span<const std::byte> capsule) override {
    owner(slot).engine->load(slot / devices(), capsule);
  }

 private:
  // An engine and its part of the step at hand.
  struct Member {
    std::unique_ptr<Engine> engine;
    std::vector<StreamInput> inputs;
    std::vector<std::size_t> places;  // of the inputs, in the group's batch
    std::vector<StreamOutput> outputs;
  };

  Member& owner(std::uint32_t slot) { return members_[slot % devices()]; }

  EngineOptions options_;
  std::vector<Member> members_;
  ThreadTeam team_;
};

}  // namespace

std::unique_ptr<Engine> make_engine_group(std::uint32_t members, const EngineOptions& options,
                                          const MakeMember& make) {
  check_options(options);
  if (members < 1 || members > options.slots)
    throw std::invalid_argument("engine group: " + std::to_string(members) + " engines for " +
                                std::to_string(options.slots) + " slots; each needs a slot at least");
  return std::make_unique<EngineGroup>(members, options, make);
}

}  // namespace sidewinder
