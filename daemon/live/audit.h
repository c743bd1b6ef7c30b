// The audit log: who did what, as JSON lines.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>

#include "daemon/live/bounded_queue.h"
#include "daemon/live/config.h"
#include "daemon/live/metrics.h"
#include "daemon/live/protocol.h"
#include "daemon/live/sockets.h"

namespace sidewinder::live {

// Any thread may record; a thread of its own writes. What can't be written (a full disk, a queue that is full
// because the disk is slow) is counted (sidewinder_drops_total, reason audit_lost), told in the log, and told
// in the file by an entry `lost` once there is room again. The file is at most security.audit_max_bytes long:
// then it becomes FILE.1, in place of an older one.
class Audit {
 public:
  // Without security.audit it records nothing. Throws ConfigError when the file can't be opened. References
  // must outlive it.
  Audit(const Config& config, Metrics& metrics);
  ~Audit();  // writes what is queued
  Audit(const Audit&) = delete;

  // `event` and `fields` are those of clients/PROTOCOL.md. Never waits.
  void record(const char* event, const Json& fields);
  void record(const char* event, const Peer& who, const Json& fields);

  void reopen();  // before the next entry: the file may have been moved away (SIGHUP)

 private:
  void run();
  bool open();                           // false: errno says why
  void write(const std::string& line);   // or counts it as lost
  bool append(const std::string& line);  // all of it or nothing
  bool make_room(std::size_t bytes);     // by a new file, if need be

  const std::filesystem::path file_;
  const std::uint64_t max_bytes_;
  Metrics& metrics_;
  BoundedQueue<std::string> lines_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;  // bytes in the file
  bool failing_ = false;
  std::atomic<std::uint64_t> lost_{0};  // entries since one was last written
  std::atomic<bool> reopening_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sidewinder::live
