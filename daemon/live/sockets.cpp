#include "daemon/live/sockets.h"

namespace sidewinder::live {
namespace {

constexpr int kHeartbeatMs = 5'000;
constexpr int kHeartbeatTimeoutMs = 15'000;
constexpr int kLingerMs = 2'000;  // for the last messages to leave when the daemon ends

}  // namespace

void prepare_socket(zmq::socket_t& socket, const Config& config, int high_water_mark) {
  socket.set(zmq::sockopt::sndhwm, high_water_mark);
  socket.set(zmq::sockopt::rcvhwm, high_water_mark);
  socket.set(zmq::sockopt::maxmsgsize, config.limits.max_message_bytes);
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::heartbeat_ivl, kHeartbeatMs);
  socket.set(zmq::sockopt::heartbeat_timeout, kHeartbeatTimeoutMs);
}

std::string bind_socket(zmq::socket_t& socket, const std::string& endpoint, const std::string& key) {
  try {
    socket.bind(endpoint);
  } catch (const zmq::error_t& error) {
    throw BindError("sockets." + key + " = \"" + endpoint + "\" can't be bound: " + error.what() +
                    "; stop what uses it, or choose another in the config");
  }
  return socket.get(zmq::sockopt::last_endpoint);
}

}  // namespace sidewinder::live
