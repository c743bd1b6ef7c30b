#include "tests/load/bystanders.h"

#include <chrono>

namespace sidewinder::load {
namespace {

constexpr std::chrono::milliseconds kInterval(5);  // between looks at the sockets

zmq::socket_t subscriber(zmq::context_t& context, const std::string& results, const std::string& topic,
                         int high_water_mark) {
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::rcvhwm, high_water_mark);
  socket.set(zmq::sockopt::subscribe, topic);
  socket.connect(results);
  return socket;
}

}  // namespace

Bystanders::Bystanders(const std::string& results, const std::vector<std::string>& topics, int stalled)
    : context_(1) {
  for (const std::string& topic : topics) reading_.push_back(subscriber(context_, results, topic, 0));
  for (int i = 0; i < stalled; ++i) stalled_.push_back(subscriber(context_, results, "", 1));
  thread_ = std::thread([this] { run(); });
}

Bystanders::~Bystanders() {
  stopping_ = true;
  thread_.join();
}

void Bystanders::run() {
  while (!stopping_) {
    zmq::message_t part;
    for (zmq::socket_t& socket : reading_)
      while (socket.recv(part, zmq::recv_flags::dontwait))
        if (!part.more()) ++received_;
    std::this_thread::sleep_for(kInterval);
  }
}

}  // namespace sidewinder::load
