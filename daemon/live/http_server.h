// /metrics, /healthz and /readyz.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "daemon/live/metrics.h"
#include "daemon/live/stream_table.h"

namespace httplib {
class Server;
}

namespace sidewinder::live {

class HttpServer {
 public:
  // Binds to "HOST:PORT" and serves on threads of its own; throws BindError. References must outlive it.
  HttpServer(const std::string& address, Metrics& metrics, const StreamTable& table);
  ~HttpServer();

  std::string address() const { return address_; }  // as bound

 private:
  std::unique_ptr<httplib::Server> server_;
  std::string address_;
  std::thread thread_;
};

}  // namespace sidewinder::live
