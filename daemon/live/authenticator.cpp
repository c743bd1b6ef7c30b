#include "daemon/live/authenticator.h"

#include <array>
#include <chrono>

#include <spdlog/spdlog.h>

#include "daemon/live/clock.h"

namespace sidewinder::live {
namespace {

constexpr std::int64_t kTellAgainNs = 60'000'000'000;
constexpr std::size_t kMostRefused = 1'024;  // remembered
constexpr std::size_t kKeyBytes = 32;
// A request: version, request id, domain, address, routing id, mechanism, credentials.
enum Frame { Version, RequestId, Domain, Address, RoutingId, Mechanism, Key, kFrames };

std::string z85(const zmq::message_t& key) {
  std::array<char, kKeyBytes * 5 / 4 + 1> text{};
  zmq_z85_encode(text.data(), key.data<std::uint8_t>(), kKeyBytes);
  return text.data();
}

}  // namespace

Authenticator::Authenticator(zmq::context_t& context, Security& security, Metrics& metrics)
    : security_(security), metrics_(metrics), socket_(context, zmq::socket_type::rep) {
  if (!security_.access.enabled()) return;
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
  thread_ = std::thread([this] { run(); });
}

Authenticator::~Authenticator() {
  stop_.raise();
  if (thread_.joinable()) thread_.join();
}

void Authenticator::run() {
  std::array<zmq::pollitem_t, 2> items{zmq::pollitem_t{socket_.handle(), 0, ZMQ_POLLIN, 0},
                                       zmq::pollitem_t{nullptr, stop_.descriptor(), ZMQ_POLLIN, 0}};
  while (items[1].revents == 0) {
    zmq::poll(items.data(), items.size(), std::chrono::milliseconds(-1));
    if (items[0].revents != 0) answer();
  }
}

void Authenticator::answer() {
  std::vector<zmq::message_t> request(1);
  if (!socket_.recv(request[0], zmq::recv_flags::dontwait)) return;
  while (request.back().more()) {
    request.emplace_back();
    if (!socket_.recv(request.back(), zmq::recv_flags::none)) return;
  }
  std::string name;
  if (request.size() == kFrames && request[Mechanism].to_string_view() == "CURVE" &&
      request[Key].size() == kKeyBytes) {
    const std::string key = z85(request[Key]);
    const std::string socket = request[Domain].to_string(), address = request[Address].to_string();
    name = security_.access.name_of(key);
    if (name.empty())
      tell_refused(socket, address, key);
    else
      security_.audit.record("connected", {.id = {}, .key = name, .address = address}, {{"socket", socket}});
  }
  using zmq::send_flags;
  const auto frame = [&](const std::string& text, send_flags flags) {
    socket_.send(zmq::buffer(text), flags);
  };
  frame("1.0", send_flags::sndmore);
  socket_.send(request.size() > RequestId ? request[RequestId] : request[0], send_flags::sndmore);
  frame(name.empty() ? "400" : "200", send_flags::sndmore);
  frame(name.empty() ? "this key is not authorised" : "OK", send_flags::sndmore);
  frame(name, send_flags::sndmore);
  frame("", send_flags::none);  // no metadata
}

void Authenticator::tell_refused(const std::string& socket, const std::string& address,
                                 const std::string& key) {
  metrics_.drop("unknown_key");
  if (refused_.size() >= kMostRefused) refused_.clear();
  Refused& refused = refused_[address + " " + key];
  ++refused.since;
  const std::int64_t now = now_ns();
  if (refused.told_ns != 0 && now - refused.told_ns < kTellAgainNs) return;
  spdlog::warn("a client at {} was turned away from {}: key {} is not authorised", address, socket, key);
  security_.audit.record("refused", {.id = {}, .key = {}, .address = address},
                         {{"action", "connect"},
                          {"socket", socket},
                          {"public_key", key},
                          {"times", refused.since},
                          {"reason", "unknown_key"}});
  refused = {.told_ns = now, .since = 0};
}

}  // namespace sidewinder::live
