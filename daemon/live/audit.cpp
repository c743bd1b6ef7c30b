#include "daemon/live/audit.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sidewinder::live {
namespace {

constexpr std::size_t kQueue = 4'096;  // entries

// RFC 3339, UTC, milliseconds.
std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[40];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1'000;
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(ms));
  return text;
}

std::string line_of(const char* event, const Json& fields) {
  Json entry{{"time", timestamp()}, {"event", event}};
  entry.update(fields);
  return dump(entry) + "\n";
}

}  // namespace

Audit::Audit(const Config& config, Metrics& metrics)
    : file_(config.security.audit),
      max_bytes_(static_cast<std::uint64_t>(config.security.audit_max_bytes)),
      metrics_(metrics),
      lines_(kQueue) {
  if (file_.empty()) return;
  if (!open())
    throw ConfigError("security.audit = \"" + file_.string() + "\" can't be opened: " + std::strerror(errno) +
                      "; make its folder, or choose another file");
  thread_ = std::thread([this] { run(); });
}

Audit::~Audit() {
  stopping_ = true;
  lines_.filled().raise();
  if (thread_.joinable()) thread_.join();
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Audit::record(const char* event, const Json& fields) {
  if (file_.empty()) return;
  if (lines_.try_push(line_of(event, fields))) return;
  lost_.fetch_add(1, std::memory_order_relaxed);
  metrics_.drop("audit_lost");
}

void Audit::record(const char* event, const Peer& who, const Json& fields) {
  if (file_.empty()) return;
  Json all = Json::object();
  if (!who.key.empty()) all["key"] = who.key;
  all["address"] = who.address;
  all.update(fields);
  record(event, all);
}

void Audit::reopen() {
  reopening_ = true;
}

void Audit::run() {
  for (bool last = false; !last;) {
    lines_.filled().wait(-1);
    last = stopping_;  // read before the queue, so that nothing queued earlier stays behind
    while (auto line = lines_.try_pop()) write(*line);
  }
}

bool Audit::open() {
  const int opened = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
  if (opened < 0) return false;
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = opened;
  struct stat status {};
  size_ = ::fstat(descriptor_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
  return true;
}

void Audit::write(const std::string& line) {
  if (reopening_.exchange(false) && !open())
    spdlog::error("security.audit = \"{}\" can't be opened again: {}", file_.string(), std::strerror(errno));
  const std::uint64_t lost = lost_.load(std::memory_order_relaxed);
  const bool told = lost == 0 || append(line_of("lost", {{"entries", lost}}));
  if (told && lost > 0) lost_.fetch_sub(lost, std::memory_order_relaxed);
  if (told && append(line)) {
    if (std::exchange(failing_, false)) spdlog::warn("the audit log {} can be written again", file_.string());
    return;
  }
  if (!std::exchange(failing_, true))
    spdlog::error("the audit log {} can't be written: {}; entries are lost until it can", file_.string(),
                  std::strerror(errno));
  lost_.fetch_add(1, std::memory_order_relaxed);
  metrics_.drop("audit_lost");
}

bool Audit::append(const std::string& line) {
  if (!make_room(line.size())) return false;
  const ssize_t written = ::write(descriptor_, line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) {
    size_ += line.size();
    return true;
  }
  if (written >= 0) {
    // Half a line would spoil the next one.
    if (::ftruncate(descriptor_, static_cast<off_t>(size_)) != 0)
      size_ += static_cast<std::uint64_t>(written);
    errno = ENOSPC;
  }
  return false;
}

bool Audit::make_room(std::size_t bytes) {
  struct stat status {};
  if (size_ + bytes <= max_bytes_ || ::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode))
    return true;
  std::error_code error;
  std::filesystem::rename(file_, file_.string() + ".1", error);
  if (!error) return open();
  errno = error.value();
  return false;
}

}  // namespace sidewinder::live
