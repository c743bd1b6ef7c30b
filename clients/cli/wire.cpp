#include "clients/cli/wire.h"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "clients/cli/text.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder::clients {
namespace {

constexpr int kVersion = 1;
constexpr int kHighWaterMark = 10'000;  // messages
constexpr int kReconnectMs = 100;
constexpr int kReconnectMaxMs = 2'000;
constexpr int kHeartbeatMs = 2'000;
constexpr int kHeartbeatTimeoutMs = 10'000;
constexpr int kMostFailures = 4;  // handshakes, before the first that succeeded

std::string text_or(const Json& message, const char* key, const char* otherwise) {
  auto found = message.find(key);
  return found != message.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

}  // namespace

RefusedError::RefusedError(std::string why, const std::string& message)
    : ClientError(kExitRefused, message + " (" + why + ")"), reason(std::move(why)) {}

int run_client(const std::function<int()>& command) {
  try {
    return command();
  } catch (const ClientError& error) {
    print_note(error.what());
    return error.exit_code;
  } catch (const Json::exception& error) {
    print_note(std::string("the daemon sent something that is not this protocol: ") + error.what());
    return kExitUnreachable;
  }
}

void print_note(const std::string& text) {
  std::fprintf(stderr, "sidewinder: %s\n", printable(text).c_str());
}

void add_address_option(CLI::App& command, const std::string& name, std::string& address) {
  std::string variable = "SIDEWINDER_";
  for (char c : name) variable += static_cast<char>(c - 'a' + 'A');
  command.add_option("--" + name, address, "The daemon's " + name + " socket (default " + address + ")")
      ->envname(variable)
      ->type_name("ADDRESS");
}

void add_key_options(CLI::App& command, Addresses& addresses) {
  command
      .add_option("--server-key", addresses.server_key,
                  "The daemon's public key, or the file that has it, if it wants keys")
      ->envname("SIDEWINDER_SERVER_KEY")
      ->type_name("KEY");
  command.add_option("--keys", addresses.keys, "This client's own keys (sidewinder keygen makes them)")
      ->envname("SIDEWINDER_KEYS")
      ->type_name("FILE");
}

void add_hotwords_option(CLI::App& command, std::string& phrases) {
  command
      .add_option_function<std::string>(
          "--hotwords",
          [&phrases](const std::string& file) {
            std::ifstream in(file, std::ios::binary);
            phrases.assign(std::istreambuf_iterator<char>(in), {});
            if (!in) throw CLI::ValidationError("--hotwords", file + ": can't be read; check the path");
            if (phrases.empty())
              throw CLI::ValidationError("--hotwords", file + ": is empty; give a phrase a line");
          },
          "A file of phrases to favour, one a line; behind a tab how strongly (default 1)")
      ->type_name("FILE");
}

Keys Addresses::load_keys() const {
  if (server_key.empty() && keys.empty()) return {};
  if (server_key.empty() || keys.empty())
    throw ClientError(kExitUsage, server_key.empty() ? "--keys needs --server-key, the daemon's public key"
                                                     : "--server-key needs --keys, this client's own");
  try {
    return {public_key_of(server_key), load_secret_certificate(keys)};
  } catch (const CertificateError& error) {
    throw ClientError(kExitUsage, error.what());
  }
}

std::string pack(Json message) {
  message["v"] = kVersion;
  return message.dump();
}

Json unpack(const zmq::message_t& part) {
  const std::string_view text = part.to_string_view();
  Json message = Json::parse(text, nullptr, false);
  if (!message.is_object() || message.value("v", Json()) != kVersion)
    throw ClientError(kExitUnreachable, "what answers there does not speak version " +
                                            std::to_string(kVersion) +
                                            " of Sidewinder's protocol: " + std::string(text.substr(0, 60)));
  return message;
}

Connection::Connection(zmq::context_t& context, zmq::socket_type type, const std::string& address,
                       const Keys& keys)
    : address_(address),
      encrypted_(!keys.server_key.empty()),
      socket_(context, type),
      monitor_(context, zmq::socket_type::pair) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.set(zmq::sockopt::rcvhwm, kHighWaterMark);
  socket_.set(zmq::sockopt::sndhwm, kHighWaterMark);
  socket_.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
  socket_.set(zmq::sockopt::reconnect_ivl_max, kReconnectMaxMs);
  socket_.set(zmq::sockopt::heartbeat_ivl, kHeartbeatMs);
  socket_.set(zmq::sockopt::heartbeat_timeout, kHeartbeatTimeoutMs);
  if (encrypted_) {
    socket_.set(zmq::sockopt::curve_serverkey, keys.server_key);
    socket_.set(zmq::sockopt::curve_publickey, keys.own.public_key);
    socket_.set(zmq::sockopt::curve_secretkey, keys.own.secret_key);
  }
  monitor_.set(zmq::sockopt::linger, 0);
  static std::atomic<unsigned> count = 0;  // names of closed monitors are not free at once
  const std::string events = "inproc://events-" + std::to_string(count++);
  if (zmq_socket_monitor(socket_.handle(), events.c_str(),
                         ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                             ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                             ZMQ_EVENT_DISCONNECTED) != 0)
    throw zmq::error_t();
  monitor_.connect(events);
  try {
    socket_.connect(address);
  } catch (const zmq::error_t& error) {
    throw ClientError(kExitUsage,
                      address + ": " + error.what() + "; give an address such as tcp://127.0.0.1:7600");
  }
}

Connection::~Connection() {
  zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

std::vector<zmq::message_t> Connection::receive() {
  follow();
  std::vector<zmq::message_t> parts;
  zmq::message_t part;
  // The parts of a message arrive together: only the first may have to be waited for.
  while ((parts.empty() || parts.back().more()) && socket_.recv(part, zmq::recv_flags::dontwait))
    parts.push_back(std::move(part));
  heard_ |= !parts.empty();
  return parts;
}

bool Connection::send(const std::string& header, std::span<const std::byte> body) {
  const auto more = body.empty() ? zmq::send_flags::none : zmq::send_flags::sndmore;
  if (!socket_.send(zmq::buffer(header), more | zmq::send_flags::dontwait)) return false;
  if (!body.empty()) socket_.send(zmq::buffer(body.data(), body.size()), zmq::send_flags::none);
  return true;
}

void Connection::add_poll_items(std::vector<zmq::pollitem_t>& items, bool writable) {
  const short events = writable ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN;
  items.push_back({socket_.handle(), 0, events, 0});
  items.push_back({monitor_.handle(), 0, ZMQ_POLLIN, 0});
}

void Connection::follow() {
  zmq::message_t part;
  while (monitor_.recv(part, zmq::recv_flags::dontwait)) {
    std::uint16_t event = 0;
    std::memcpy(&event, part.data(), sizeof event);
    while (part.more()) (void)monitor_.recv(part, zmq::recv_flags::none);
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
      throw ClientError(kExitRefused, "the daemon on " + address_ +
                                          " does not know this key; its settings must have the public key "
                                          "of --keys under [keys.NAME]");
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
      throw ClientError(kExitRefused, "the daemon on " + address_ +
                                          (encrypted_ ? " does not encrypt; leave out --server-key and --keys"
                                                      : " wants keys; give --server-key and --keys"));
    // A daemon hangs up on who does not have its key; but so does a proxy that has lost its daemon.
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL && connections_ == 0) ++failures_;
    if (encrypted_ && failures_ >= kMostFailures)
      throw ClientError(kExitRefused, "what answers on " + address_ + broken_off());
    connected_ = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    if (connected_) ++connections_;
  }
}

std::string Connection::broken_off() const {
  return std::string(" breaks the handshake off; ") + (encrypted_
                                                           ? "is --server-key its key, and does it encrypt?"
                                                           : "does it want keys (--server-key and --keys)?");
}

ClientError Connection::unanswered() const {
  const bool hangs_up = failures_ > 0 && connections_ == 0;
  return {kExitUnreachable, "no answer from " + address_ + "; is sidewinderd running there?" +
                                (hangs_up ? " What is there" + broken_off() : "")};
}

void wait_for(std::vector<zmq::pollitem_t>& items, std::optional<std::chrono::milliseconds> longest) {
  try {
    zmq::poll(items, longest.value_or(std::chrono::milliseconds(-1)));
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;
  }
}

Answer exchange(zmq::context_t& context, const std::string& address, const Keys& keys, const Json& message,
                std::span<const std::byte> body, const std::string& answer,
                std::chrono::milliseconds timeout) {
  using Clock = std::chrono::steady_clock;
  Connection connection(context, zmq::socket_type::req, address, keys);
  connection.send(pack(message), body);
  const auto end = Clock::now() + timeout;
  std::vector<zmq::message_t> parts;
  while ((parts = connection.receive()).empty()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) throw connection.unanswered();
    std::vector<zmq::pollitem_t> items;
    connection.add_poll_items(items, false);
    wait_for(items, left + std::chrono::milliseconds(1));
  }
  Json reply = unpack(parts.front());
  const std::string type = text_or(reply, "type", "");
  if (type == "refused" || type == "error")
    throw RefusedError(text_or(reply, "reason", "?"), text_or(reply, "message", "no reason given"));
  if (type != answer)
    throw ClientError(kExitUnreachable, "asked for " + answer + ", the daemon answered " + type);
  return {std::move(reply), parts.size() > 1 ? parts[1].to_string() : ""};
}

Json request(zmq::context_t& context, const std::string& address, const Keys& keys, const Json& message,
             const std::string& answer, std::chrono::milliseconds timeout) {
  return exchange(context, address, keys, message, {}, answer, timeout).header;
}

}  // namespace sidewinder::clients
