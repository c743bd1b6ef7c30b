// Who may connect: ZeroMQ's authentication protocol (ZAP, RFC 27) for all three sockets.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <zmq.hpp>

#include "daemon/live/metrics.h"
#include "daemon/live/security.h"
#include "daemon/live/wakeup.h"

namespace sidewinder::live {

// Answers the context's sockets from a thread of its own: a CURVE key that is authorised gets its name, which
// comes with each of its messages from then on (peer_of()); every other is turned away. Make it before the
// sockets are bound, or they turn everybody away.
class Authenticator {
 public:
  // Does nothing where no keys are in use. References must outlive it.
  Authenticator(zmq::context_t& context, Security& security, Metrics& metrics);
  ~Authenticator();
  Authenticator(const Authenticator&) = delete;

 private:
  // Those who are turned away try again, some ten times a second.
  struct Refused {
    std::int64_t told_ns = 0;
    std::uint64_t since = 0;  // how often since then
  };

  void run();
  void answer();
  void tell_refused(const std::string& socket, const std::string& address, const std::string& key);

  Security& security_;
  Metrics& metrics_;
  zmq::socket_t socket_;
  std::map<std::string, Refused> refused_;  // by address and key
  Wakeup stop_;
  std::thread thread_;
};

}  // namespace sidewinder::live
