// A queue between threads that holds so many and no more.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "daemon/live/wakeup.h"

namespace sidewinder::live {

// Any number of threads on either end; not for audio callbacks, for it locks.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) {}

  // Waits for room, so whoever pops must outlast this thread.
  void push(T&& item) {
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [this] { return items_.size() < capacity_; });
      items_.push_back(std::move(item));
    }
    filled_.raise();
  }

  // Pushes all of them in order and leaves `items` empty; waits for room as push() does, as often as it must.
  void push_all(std::vector<T>& items) {
    for (std::size_t pushed = 0; pushed < items.size();) {
      {
        std::unique_lock lock(mutex_);
        room_.wait(lock, [this] { return items_.size() < capacity_; });
        for (; pushed < items.size() && items_.size() < capacity_; ++pushed)
          items_.push_back(std::move(items[pushed]));
      }
      filled_.raise();
    }
    items.clear();
  }

  // False, and nothing happened, when there is no room.
  bool try_push(T&& item) {
    {
      std::lock_guard lock(mutex_);
      if (items_.size() >= capacity_) return false;
      items_.push_back(std::move(item));
    }
    filled_.raise();
    return true;
  }

  std::optional<T> try_pop() {
    std::optional<T> item;
    {
      std::lock_guard lock(mutex_);
      if (items_.empty()) return item;
      item.emplace(std::move(items_.front()));
      items_.pop_front();
    }
    room_.notify_one();
    return item;
  }

  std::size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }
  std::size_t capacity() const { return capacity_; }

  // Raised after each push. The popping thread clears it first and then pops until the queue is empty.
  Wakeup& filled() { return filled_; }

 private:
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::deque<T> items_;
  Wakeup filled_;
};

}  // namespace sidewinder::live
