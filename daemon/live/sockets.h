// What every ZeroMQ socket of the daemon is set to.
#pragma once

#include <string>

#include <zmq.hpp>

#include "daemon/live/config.h"

namespace sidewinder::live {

// Limits, heartbeats and linger; before bind().
void prepare_socket(zmq::socket_t& socket, const Config& config, int high_water_mark);

// An endpoint can't be bound; what() says which, why and what to do.
struct BindError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Binds, and returns the endpoint with the port that a * stood for. `key` is the config's. Throws BindError.
std::string bind_socket(zmq::socket_t& socket, const std::string& endpoint, const std::string& key);

}  // namespace sidewinder::live
