// Leases of engine slots. One thread at a time (the engine's caller).
#pragma once

#include <algorithm>
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
  // Slot s lives on device s % devices (Engine::devices).
  explicit SlotPool(std::uint32_t slots, std::uint32_t devices = 1) : free_(devices), generations_(slots) {
    for (std::vector<std::uint32_t>& list : free_) list.reserve(slots / devices + 1);
    for (std::uint32_t i = slots; i-- > 0;) give_back(i);
  }

  // A slot of the device that has the most left, the first of equals; nothing when every slot is taken: an
  // ordinary answer. The caller resets the slot in the engine.
  std::optional<SlotLease> acquire() {
    auto list = std::ranges::max_element(free_, {}, &std::vector<std::uint32_t>::size);
    if (list->empty()) return std::nullopt;
    std::uint32_t index = list->back();
    list->pop_back();
    return SlotLease(this, index, generations_[index]++);
  }

  std::size_t available() const {
    std::size_t sum = 0;
    for (const std::vector<std::uint32_t>& list : free_) sum += list.size();
    return sum;
  }

 private:
  friend class SlotLease;
  void give_back(std::uint32_t index) { free_[index % free_.size()].push_back(index); }

  std::vector<std::vector<std::uint32_t>> free_;  // by device
  std::vector<std::uint32_t> generations_;
};

inline SlotLease::~SlotLease() {
  if (pool_ != nullptr) pool_->give_back(index_);
}

}  // namespace sidewinder
