// Who may do what: the authorised keys, their permissions and their quotas (clients/PROTOCOL.md, Security).
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace sidewinder::live {

// What control.permissions may name, beside "*".
inline constexpr const char* kControlVerbs[] = {"list",  "open",    "close",     "drain",
                                                "stats", "history", "devices",   "trace",
                                                "save",  "restore", "swap_model"};

// One [keys.NAME] of the config. A limit of 0 is none.
struct KeyRules {
  std::string name;
  std::string public_key;                // Z85
  std::vector<std::string> publish;      // streams: "NAME", "PREFIX*" or "*"
  std::vector<std::string> subscribe;    // the same, each with "/KIND" behind it or without
  std::set<std::string> control;         // verbs, or "*"
  std::int64_t streams = 0;              // alive at once
  std::int64_t bytes_per_second = 0;     // of audio taken
  std::int64_t requests_per_second = 0;  // to the control socket

  bool operator==(const KeyRules&) const = default;
};

// What is wrong with a pattern of `publish` or (with `kinds`) of `subscribe`; empty: nothing.
std::string pattern_error(std::string_view pattern, bool kinds);

// Any thread. Keys are known by their names. Without encryption there are none, every name is "", and
// everything is allowed.
class Access {
 public:
  Access(bool enabled, std::vector<KeyRules> keys);

  bool enabled() const noexcept { return enabled_; }

  // The config was read again. True when some subscription that was allowed may not be any more.
  bool replace(std::vector<KeyRules> keys);

  // The name of an authorised key, or "".
  std::string name_of(std::string_view public_key) const;

  KeyRules rules(const std::string& key) const;  // for a key unknown or none at all: everything or nothing

  // They throw Fault: not_allowed, and over_quota with `retry_ms` where waiting helps.
  void require_publish(const std::string& key, std::string_view stream) const;
  void require_subscribe(const std::string& key, std::string_view topic) const;  // a topic's prefix
  void require_control(const std::string& key, const std::string& verb);         // takes from its quota
  void take_bytes(const std::string& key, std::size_t bytes);                    // takes from its quota

  // Whether a key may see a stream in `list`, for it may publish or hear it.
  bool sees(const std::string& key, std::string_view stream) const;

 private:
  // A second's worth of what a key may have (a token bucket).
  struct Bucket {
    double left = 0;
    std::int64_t filled_ns = 0;
    // Milliseconds to wait, or 0 and it is taken.
    std::int64_t take(double amount, std::int64_t rate);
  };
  struct Entry {
    KeyRules rules;
    Bucket bytes, requests;
  };
  const Entry& entry(const std::string& key) const;  // under the lock; throws Fault
  Entry& entry(const std::string& key);

  const bool enabled_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> keys_;  // by name
};

}  // namespace sidewinder::live
