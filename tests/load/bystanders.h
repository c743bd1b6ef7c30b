// Subscribers beside those that measure: they read and look at nothing, or never read.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <zmq.hpp>

namespace sidewinder::load {

// One thread for all of them. Thread rule: made and destroyed by one thread; received() from any.
class Bystanders {
 public:
  // Connects to `results` one subscriber for each of `topics` (prefixes; empty: everything), and so many of
  // everything that never read.
  Bystanders(const std::string& results, const std::vector<std::string>& topics, int stalled);
  ~Bystanders();
  Bystanders(const Bystanders&) = delete;

  std::uint64_t received() const { return received_; }  // messages, by all of them

 private:
  void run();

  zmq::context_t context_;
  std::vector<zmq::socket_t> reading_;
  std::vector<zmq::socket_t> stalled_;
  std::atomic<std::uint64_t> received_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sidewinder::load
