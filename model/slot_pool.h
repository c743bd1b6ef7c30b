// Leases of engine slots. One thread at a time (the engine's caller).
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace sidewinder {

class SlotPool;

// A leased slot; gives itself back when destroyed. Must not outlive its pool.
class SlotLease {
 public:
  SlotLease(SlotLease&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), index_(other.index_), generation_(other.generation_) {}
  SlotLease& operator=(SlotLease&&) = delete;
  ~SlotLease();

  std::uint32_t index() const { return index_; }
  std::uint32_t generation() const { return generation_; }  // how often this slot was leased before

 private:
  friend class SlotPool;
  SlotLease(SlotPool* pool, std::uint32_t index, std::uint32_t generation)
      : pool_(pool), index_(index), generation_(generation) {}

  SlotPool* pool_;
  std::uint32_t index_;
  std::uint32_t generation_;
};

class SlotPool {
 public:
  explicit SlotPool(std::uint32_t slots) : generations_(slots) {
    free_.reserve(slots);
    for (std::uint32_t i = slots; i-- > 0;) free_.push_back(i);
  }

  // Nothing when every slot is taken: an ordinary answer. The caller resets the slot in the engine.
  std::optional<SlotLease> acquire() {
    if (free_.empty()) return std::nullopt;
    std::uint32_t index = free_.back();
    free_.pop_back();
    return SlotLease(this, index, generations_[index]++);
  }

  std::size_t available() const { return free_.size(); }

 private:
  friend class SlotLease;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> generations_;
};

inline SlotLease::~SlotLease() {
  if (pool_ != nullptr) pool_->free_.push_back(index_);
}

}  // namespace sidewinder
