#include "daemon/live/http_server.h"

#include <charconv>
#include <chrono>

#include <httplib.h>

#include "daemon/live/sockets.h"

namespace sidewinder::live {
namespace {

constexpr int kThreads = 2;
constexpr time_t kTimeoutSeconds = 5;  // for a client to send or take what it asked for

}  // namespace

HttpServer::HttpServer(const std::string& address, Metrics& metrics, const StreamTable& table)
    : server_(std::make_unique<httplib::Server>()) {
  server_->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };  // httplib deletes it
  server_->set_read_timeout(kTimeoutSeconds);
  server_->set_write_timeout(kTimeoutSeconds);
  server_->set_payload_max_length(0);
  // Its own default shares the port with whoever has it.
  server_->set_socket_options([](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  server_->Get("/metrics", [&metrics](const httplib::Request&, httplib::Response& response) {
    response.set_content(metrics.text(), "text/plain; version=0.0.4; charset=utf-8");
  });
  server_->Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", "text/plain");
  });
  server_->Get("/readyz", [&table](const httplib::Request&, httplib::Response& response) {
    const auto refusal = table.refusing();
    if (refusal) response.status = 503;
    response.set_content(refusal ? refusal->reason + ": " + refusal->message + "\n" : "ready\n",
                         "text/plain");
  });

  const std::size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  const std::string text = colon == std::string::npos ? "" : address.substr(colon + 1);
  int port = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 0 || port > 65'535)
    throw BindError("sockets.http = \"" + address + "\" needs a port from 0 to 65535, as in 127.0.0.1:7603");
  if (port == 0)
    port = server_->bind_to_any_port(host.c_str());
  else if (!server_->bind_to_port(host.c_str(), port))
    port = -1;
  if (port < 0)
    throw BindError("sockets.http = \"" + address +
                    "\" can't be bound; stop what uses it, or choose another in the config");
  address_ = host + ":" + std::to_string(port);
  thread_ = std::thread([this] { server_->listen_after_bind(); });
  // A stop() before it listens would be lost.
  while (!server_->is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

HttpServer::~HttpServer() {
  server_->stop();
  thread_.join();
}

}  // namespace sidewinder::live
