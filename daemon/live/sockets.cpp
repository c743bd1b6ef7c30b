#include "daemon/live/sockets.h"

#include <utility>

namespace sidewinder::live {
namespace {

constexpr int kHeartbeatMs = 5'000;
constexpr int kHeartbeatTimeoutMs = 15'000;
constexpr int kLingerMs = 2'000;  // for the last messages to leave when the daemon ends

}  // namespace

Peer peer_of(zmq::message_t& part, std::string routing_id) {
  const auto property = [&](const char* name) {
    const char* value = zmq_msg_gets(part.handle(), name);  // null for one that is not there
    return std::string(value == nullptr ? "" : value);
  };
  return {std::move(routing_id), property("User-Id"), property("Peer-Address")};
}

void prepare_socket(zmq::socket_t& socket, const Config& config, const std::string& name,
                    int high_water_mark) {
  socket.set(zmq::sockopt::sndhwm, high_water_mark);
  socket.set(zmq::sockopt::rcvhwm, high_water_mark);
  socket.set(zmq::sockopt::maxmsgsize, config.limits.max_message_bytes);
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::heartbeat_ivl, kHeartbeatMs);
  socket.set(zmq::sockopt::heartbeat_timeout, kHeartbeatTimeoutMs);
  if (config.security.secret_key.empty()) return;
  socket.set(zmq::sockopt::zap_domain, name);
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, config.security.secret_key);
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
