// Rings between one producer and one consumer, lock-free and of fixed size.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace sidewinder::live {

// One thread pushes, one pops; each position is counted from the start and never wraps (2^64 items). No call
// locks, allocates or waits after construction, so an audio callback may push.
template <typename T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  // Holds `capacity` items, and behind them the last `kept` ones that were popped.
  explicit SpscRing(std::size_t capacity, std::size_t kept = 0) : items_(capacity + kept), kept_(kept) {}

  // Producer: takes all of `in` or, without room for it, nothing.
  bool push(std::span<const T> in) noexcept {
    const std::uint64_t at = written_.load(std::memory_order_relaxed);
    if (in.size() > capacity() - (at - read_.load(std::memory_order_acquire))) return false;
    const std::size_t first = std::min(in.size(), items_.size() - index(at));
    std::copy_n(in.begin(), first, items_.begin() + static_cast<std::ptrdiff_t>(index(at)));
    std::copy(in.begin() + static_cast<std::ptrdiff_t>(first), in.end(), items_.begin());
    written_.store(at + in.size(), std::memory_order_release);
    return true;
  }
  bool push(const T& item) noexcept { return push(std::span(&item, 1)); }

  // Consumer: fills as much of `out` as there is; returns how many.
  std::size_t pop(std::span<T> out) noexcept {
    const std::uint64_t at = read_.load(std::memory_order_relaxed);
    const std::uint64_t there = written_.load(std::memory_order_acquire) - at;
    const std::size_t count = std::min<std::size_t>(out.size(), there);
    copy_out(at, out.first(count));
    read_.store(at + count, std::memory_order_release);
    return count;
  }

  // Consumer: items that were popped once more, from `position` on, which is at most `kept` before read().
  void recall(std::uint64_t position, std::span<T> out) const noexcept { copy_out(position, out); }

  // Consumer: the item that pop() would give next, or null; valid until then.
  const T* front() const noexcept {
    const std::uint64_t at = read_.load(std::memory_order_relaxed);
    return written_.load(std::memory_order_acquire) == at ? nullptr : &items_[index(at)];
  }

  // Any thread; by the time it returns the other side may have gone on.
  std::uint64_t written() const noexcept { return written_.load(std::memory_order_acquire); }
  std::uint64_t read() const noexcept { return read_.load(std::memory_order_acquire); }
  std::size_t size() const noexcept {
    const std::uint64_t taken = read();  // first, so that the difference is never negative
    return static_cast<std::size_t>(written() - taken);
  }
  std::size_t capacity() const noexcept { return items_.size() - kept_; }
  std::size_t kept() const noexcept { return kept_; }

  // Empty, and at `position`, as if `popped`, at most `kept` items, were the last ones before it. Neither
  // side may be using it.
  void reset(std::uint64_t position = 0, std::span<const T> popped = {}) noexcept {
    for (std::size_t i = 0; i < popped.size(); ++i) items_[index(position - popped.size() + i)] = popped[i];
    written_.store(position, std::memory_order_relaxed);
    read_.store(position, std::memory_order_relaxed);
  }

 private:
  std::size_t index(std::uint64_t position) const noexcept {
    return static_cast<std::size_t>(position % items_.size());
  }

  void copy_out(std::uint64_t at, std::span<T> out) const noexcept {
    const std::size_t first = std::min(out.size(), items_.size() - index(at));
    std::copy_n(items_.begin() + static_cast<std::ptrdiff_t>(index(at)), first, out.begin());
    std::copy_n(items_.begin(), out.size() - first, out.begin() + static_cast<std::ptrdiff_t>(first));
  }

  std::vector<T> items_;
  const std::size_t kept_;
  alignas(64) std::atomic<std::uint64_t> written_{0};  // apart, so that the two threads share no cache line
  alignas(64) std::atomic<std::uint64_t> read_{0};
};

using SampleRing = SpscRing<float>;  // mono at the model's rate

}  // namespace sidewinder::live
