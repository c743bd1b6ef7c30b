// Messages and sockets as clients/PROTOCOL.md has them.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <zmq.hpp>

#include "clients/cli/certificate.h"

namespace sidewinder::clients {

using Json = nlohmann::ordered_json;  // shown in the daemon's order

// what() says what went wrong and what to do; exit_code is one of daemon/cli/exit_code.h.
struct ClientError : std::runtime_error {
  ClientError(int code, const std::string& message) : std::runtime_error(message), exit_code(code) {}
  int exit_code;
};

// The daemon said no.
struct RefusedError : ClientError {
  RefusedError(std::string why, const std::string& message);
  std::string reason;  // one word of the protocol
};

// What a command does, with its errors told on standard error and turned into exit codes.
int run_client(const std::function<int()>& command);

// Text from elsewhere, on standard error after "sidewinder: ". Control characters are left out.
void print_note(const std::string& text);

// What encrypts a connection (CURVE); an empty server key: nothing does.
struct Keys {
  std::string server_key;  // the daemon's public key, in Z85
  Certificate own;
};

// The daemon's sockets, with the defaults of its own, and the keys for them.
struct Addresses {
  std::string results = "tcp://127.0.0.1:7600";
  std::string ingest = "tcp://127.0.0.1:7601";
  std::string control = "tcp://127.0.0.1:7602";
  std::string server_key;  // as given: the key, or a file that has it
  std::string keys;        // as given: a file

  // Throws ClientError: a file that can't be used, or one of the two without the other.
  Keys load_keys() const;
};

// --results, --ingest or --control, or $SIDEWINDER_RESULTS, ...
void add_address_option(CLI::App& command, const std::string& name, std::string& address);

// --server-key and --keys, or $SIDEWINDER_SERVER_KEY and $SIDEWINDER_KEYS.
void add_key_options(CLI::App& command, Addresses& addresses);

// --hotwords FILE; the file's contents go to `phrases` when the command line is parsed.
void add_hotwords_option(CLI::App& command, std::string& phrases);

std::string pack(Json message);           // adds the version
Json unpack(const zmq::message_t& part);  // throws ClientError: not this protocol, or not this version

// A socket that reconnects by itself and says when it did. Thread rule: one thread.
class Connection {
 public:
  // Throws ClientError for an address that is none. Nobody need be there yet.
  Connection(zmq::context_t& context, zmq::socket_type type, const std::string& address, const Keys& keys);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  zmq::socket_t& socket() { return socket_; }

  // Does not wait: no parts if there is no message. Follows the connection first. Throws ClientError when the
  // daemon turned the client away.
  std::vector<zmq::message_t> receive();

  // Does not wait: false if the socket is full.
  bool send(const std::string& header, std::span<const std::byte> body);

  // Adds what to wait for before calling these again.
  void add_poll_items(std::vector<zmq::pollitem_t>& items, bool writable);

  // What to throw when an answer has not come in time: nobody is there, or who is there hangs up.
  ClientError unanswered() const;

  int connections() const { return connections_; }  // how often the daemon was reached
  bool connected() const { return connected_; }
  bool heard() const { return heard_; }  // anything, ever
  bool lost() const { return connections_ > 0 && !connected_; }

 private:
  void follow();
  std::string broken_off() const;  // what to ask oneself where handshakes are

  const std::string address_;
  const bool encrypted_;
  int failures_ = 0;  // handshakes, before the first that succeeded
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
  int connections_ = 0;
  bool connected_ = false;
  bool heard_ = false;
};

// Waits for any of the items; at most so long, if given.
void wait_for(std::vector<zmq::pollitem_t>& items, std::optional<std::chrono::milliseconds> longest);

// An answer, and its second frame if it has one.
struct Answer {
  Json header;
  std::string body;
};

// One request to the control socket, with a second frame if `body` is not empty, and its answer, which must
// be of type `answer`. Throws RefusedError, and ClientError if none comes in time.
Answer exchange(zmq::context_t& context, const std::string& address, const Keys& keys, const Json& message,
                std::span<const std::byte> body, const std::string& answer,
                std::chrono::milliseconds timeout = std::chrono::milliseconds(5'000));

// The same without second frames.
Json request(zmq::context_t& context, const std::string& address, const Keys& keys, const Json& message,
             const std::string& answer, std::chrono::milliseconds timeout = std::chrono::milliseconds(5'000));

}  // namespace sidewinder::clients
