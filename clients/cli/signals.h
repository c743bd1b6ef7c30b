// Ctrl-C and the terminal's size as something to poll for.
#pragma once

#include <csignal>

#include <zmq.hpp>

namespace sidewinder::clients {

// Blocks SIGINT, SIGTERM and SIGWINCH while it lives. Made before any thread is, or they would not be blocked
// there.
class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  zmq::pollitem_t poll_item() const { return {nullptr, descriptor_, ZMQ_POLLIN, 0}; }

  int take();  // the next one that came; 0 if there is none

 private:
  sigset_t former_;
  int descriptor_;
};

}  // namespace sidewinder::clients
