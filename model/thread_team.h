// A fixed team of threads that runs one task on every member and waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace sidewinder {

class ThreadTeam {
 public:
  // Starts members - 1 threads; the caller of run() is member 0.
  explicit ThreadTeam(int members);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;

  int members() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls task(member) on every member, once each, and returns when all are done. One caller at a time; no
  // allocation; the task must not throw.
  template <typename Task>
  void run(Task&& task) noexcept {
    run_erased(
        [](void* context, int member) { (*static_cast<std::remove_reference_t<Task>*>(context))(member); },
        &task);
  }

  // Calls task(i) once for every i < count, on whichever member comes first, and returns when all are done.
  // Rules as for run().
  template <typename Task>
  void deal(std::size_t count, Task&& task) noexcept {
    std::atomic<std::size_t> next{0};
    run([&](int) {
      for (std::size_t i = next++; i < count; i = next++) task(i);
    });
  }

 private:
  using Function = void (*)(void*, int);
  void run_erased(Function function, void* context) noexcept;
  void member_loop(int member) noexcept;

  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::uint64_t round_ = 0;
  int busy_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sidewinder
