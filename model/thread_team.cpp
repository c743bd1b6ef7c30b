#include "model/thread_team.h"

namespace sidewinder {

ThreadTeam::ThreadTeam(int members) {
  for (int member = 1; member < members; ++member)
    threads_.emplace_back([this, member] { member_loop(member); });
}

ThreadTeam::~ThreadTeam() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::run_erased(Function function, void* context) noexcept {
  {
    std::lock_guard lock(mutex_);
    function_ = function;
    context_ = context;
    busy_ = static_cast<int>(threads_.size());
    ++round_;
  }
  start_.notify_all();
  function(context, 0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
}

void ThreadTeam::member_loop(int member) noexcept {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stop_ || round_ != seen; });
    if (stop_) return;
    seen = round_;
    lock.unlock();
    function_(context_, member);
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace sidewinder
