// What every ZeroMQ socket of the daemon is set to.
#pragma once

#include <string>

#include <zmq.hpp>

#include "daemon/live/config.h"

namespace sidewinder::live {

// Who sent a message, as ZeroMQ knows it.
struct Peer {
  std::string id;       // routing id
  std::string key;      // name of its key; empty without encryption
  std::string address;  // IP

  // Its key too: a client may choose the routing id of another.
  bool operator==(const Peer& other) const { return id == other.id && key == other.key; }
};

// `part` is any frame but the first of a message to a ROUTER socket, or one of an XPUB.
Peer peer_of(zmq::message_t& part, std::string routing_id);

// Limits, heartbeats, linger and, where the config has a server key, CURVE; before bind(). `name` is that of
// bind_socket().
void prepare_socket(zmq::socket_t& socket, const Config& config, const std::string& name,
                    int high_water_mark);

// An endpoint can't be bound; what() says which, why and what to do.
struct BindError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Binds, and returns the endpoint with the port that a * stood for. `key` is the config's. Throws BindError.
std::string bind_socket(zmq::socket_t& socket, const std::string& endpoint, const std::string& key);

}  // namespace sidewinder::live
