#include "daemon/live/access.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "daemon/live/clock.h"
#include "daemon/live/protocol.h"
#include "daemon/live/publisher.h"

namespace sidewinder::live {
namespace {

// A pattern, or a topic's prefix, before and behind its "/".
struct Topic {
  explicit Topic(std::string_view text)
      : stream(text.substr(0, text.find('/'))),
        whole(stream.size() < text.size()),
        kind(whole ? text.substr(stream.size() + 1) : "") {}
  std::string_view stream;
  bool whole;  // there was a "/"
  std::string_view kind;
};

bool is_prefix(std::string_view pattern) {
  return pattern.ends_with('*');
}

// Whether a pattern without a kind covers the stream.
bool covers(std::string_view pattern, std::string_view stream) {
  if (is_prefix(pattern)) return stream.starts_with(pattern.substr(0, pattern.size() - 1));
  return stream == pattern;
}

// Whether a pattern covers every topic that begins with `prefix`.
bool covers_topics(std::string_view pattern_text, std::string_view prefix) {
  const Topic pattern(pattern_text), topic(prefix);
  // A prefix that ends within a stream's name means streams of more than one name.
  if (!topic.whole) return !pattern.whole && is_prefix(pattern.stream) && covers(pattern.stream, prefix);
  if (!covers(pattern.stream, topic.stream)) return false;
  return !pattern.whole || topic.kind == std::string(pattern.kind) + "/";
}

bool any_covers(const std::vector<std::string>& patterns, std::string_view stream) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const auto& pattern) { return covers(Topic(pattern).stream, stream); });
}

std::string listed(const std::vector<std::string>& patterns) {
  std::string text;
  for (const std::string& pattern : patterns) text += (text.empty() ? "" : ", ") + pattern;
  return text.empty() ? "nothing" : text;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Fault{"not_allowed", message};
}

[[noreturn]] void over_quota(const std::string& message, std::int64_t retry_ms) {
  throw Fault{"over_quota", message, {{"retry_ms", retry_ms}}};
}

}  // namespace

std::string pattern_error(std::string_view pattern, bool kinds) {
  const Topic topic(pattern);
  if (topic.whole && !kinds) return "names a stream only: NAME, PREFIX* or *";
  std::string_view name = topic.stream;
  if (is_prefix(name)) name.remove_suffix(1);
  if (name != topic.stream ? !name.empty() && !valid_name(name) : !valid_name(name))
    return kinds ? "must be STREAM or STREAM/KIND, where STREAM is NAME, PREFIX* or *"
                 : "must be NAME, PREFIX* or *";
  if (topic.whole && !is_result_kind(topic.kind)) return "ends in a kind that results do not have";
  return "";
}

Access::Access(bool enabled, std::vector<KeyRules> keys) : enabled_(enabled) {
  replace(std::move(keys));
}

bool Access::replace(std::vector<KeyRules> keys) {
  std::lock_guard lock(mutex_);
  std::map<std::string, Entry> next;
  for (KeyRules& rules : keys) {
    const std::string name = rules.name;
    next[name].rules = std::move(rules);
  }
  bool narrowed = false;
  for (auto& [name, old] : keys_) {
    const auto now = next.find(name);
    narrowed |= now == next.end() || now->second.rules.public_key != old.rules.public_key ||
                now->second.rules.subscribe != old.rules.subscribe;
    if (now == next.end()) continue;
    now->second.bytes = old.bytes;
    now->second.requests = old.requests;
  }
  keys_ = std::move(next);
  return narrowed;
}

std::string Access::name_of(std::string_view public_key) const {
  std::lock_guard lock(mutex_);
  for (const auto& [name, entry] : keys_)
    if (entry.rules.public_key == public_key) return name;
  return "";
}

KeyRules Access::rules(const std::string& key) const {
  if (!enabled_)
    return {.name = "", .public_key = "", .publish = {"*"}, .subscribe = {"*"}, .control = {"*"}};
  std::lock_guard lock(mutex_);
  return entry(key).rules;
}

const Access::Entry& Access::entry(const std::string& key) const {
  auto found = keys_.find(key);
  if (found == keys_.end()) refuse("key " + key + " is not authorised any more");
  return found->second;
}

Access::Entry& Access::entry(const std::string& key) {
  return const_cast<Entry&>(std::as_const(*this).entry(key));
}

void Access::require_publish(const std::string& key, std::string_view stream) const {
  if (!enabled_) return;
  std::lock_guard lock(mutex_);
  const KeyRules& rules = entry(key).rules;
  if (any_covers(rules.publish, stream)) return;
  refuse("key " + key + " may publish " + listed(rules.publish) + ", not " +
         (stream.empty() ? "a stream without a name" : "stream " + std::string(stream)));
}

void Access::require_subscribe(const std::string& key, std::string_view topic) const {
  if (!enabled_) return;
  std::lock_guard lock(mutex_);
  const KeyRules& rules = entry(key).rules;
  for (const std::string& pattern : rules.subscribe)
    if (covers_topics(pattern, topic)) return;
  refuse("key " + key + " may subscribe to " + listed(rules.subscribe) + ", not to " +
         (topic.empty() ? "all topics" : "all of " + std::string(topic)));
}

void Access::require_control(const std::string& key, const std::string& verb) {
  if (!enabled_) return;
  std::lock_guard lock(mutex_);
  Entry& found = entry(key);
  const auto& verbs = found.rules.control;
  if (!verbs.contains(verb) && !verbs.contains("*"))
    refuse("key " + key + " may ask for " + listed({verbs.begin(), verbs.end()}) + ", not for " + verb);
  const std::int64_t rate = found.rules.requests_per_second;
  if (const std::int64_t wait = found.requests.take(1, rate); wait > 0)
    over_quota("key " + key + " may send " + std::to_string(rate) + " requests a second", wait);
}

void Access::take_bytes(const std::string& key, std::size_t bytes) {
  if (!enabled_) return;
  std::lock_guard lock(mutex_);
  Entry& found = entry(key);
  const std::int64_t rate = found.rules.bytes_per_second;
  if (const std::int64_t wait = found.bytes.take(static_cast<double>(bytes), rate); wait > 0)
    over_quota("key " + key + " may send " + std::to_string(rate) + " bytes of audio a second", wait);
}

bool Access::sees(const std::string& key, std::string_view stream) const {
  if (!enabled_) return true;
  std::lock_guard lock(mutex_);
  const KeyRules& rules = entry(key).rules;
  return any_covers(rules.publish, stream) || any_covers(rules.subscribe, stream);
}

std::int64_t Access::Bucket::take(double amount, std::int64_t rate) {
  if (rate == 0) return 0;
  const std::int64_t now = now_ns();
  const double full = static_cast<double>(rate);
  left = filled_ns == 0 ? full : std::min(full, left + full * static_cast<double>(now - filled_ns) / 1e9);
  filled_ns = now;
  // More than a second's worth at once is taken when nothing was for a second, and paid off afterwards.
  const double needed = std::min(amount, full);
  if (left < needed) return static_cast<std::int64_t>(std::ceil((needed - left) / full * 1000));
  left -= amount;
  return 0;
}

}  // namespace sidewinder::live
