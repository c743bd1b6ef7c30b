#include "daemon/live/config.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include "clients/cli/certificate.h"
#include "daemon/live/protocol.h"

namespace sidewinder::live {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

// The known name that an unknown one was most likely meant to be.
std::string suggestion(std::string_view unknown, const std::set<std::string>& known) {
  auto nearest = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
    return edit_distance(unknown, a) < edit_distance(unknown, b);
  });
  if (nearest == known.end() ||
      edit_distance(unknown, *nearest) > std::max<std::size_t>(2, unknown.size() / 2))
    return "";
  return "; did you mean " + *nearest + "?";
}

[[noreturn]] void fail(const std::string& origin, const toml::source_region& where, const std::string& what) {
  throw ConfigError(origin + ":" + std::to_string(where.begin.line) + ": " + what);
}

// One [table] of the file. Every key is asked for once; finish() refuses those that nobody asked for.
class Section {
 public:
  Section(const std::string& origin, const toml::table& root, std::string name)
      : origin_(origin), name_(std::move(name)) {
    const toml::node* node = root.get(name_);
    if (node == nullptr) return;
    table_ = node->as_table();
    if (table_ == nullptr) fail(origin_, node->source(), name_ + " must be a table: [" + name_ + "]");
  }

  // A table within one.
  Section(const Section& outer, const std::string& key, const toml::node& node)
      : origin_(outer.origin_), name_(outer.name_ + "." + key), table_(node.as_table()) {
    if (table_ == nullptr) fail(origin_, node.source(), name_ + " must be a table: [" + name_ + "]");
  }

  void integer(const std::string& key, std::int64_t least, std::int64_t most, std::int64_t& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_integer()) refuse(*node, key, "must be a whole number");
    value = node->as_integer()->get();
    if (value < least || value > most)
      refuse(*node, key,
             "must be from " + std::to_string(least) + " to " + std::to_string(most) + ", not " +
                 std::to_string(value));
  }

  void boolean(const std::string& key, bool& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_boolean()) refuse(*node, key, "must be true or false");
    value = node->as_boolean()->get();
  }

  void text(const std::string& key, std::string& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_string()) refuse(*node, key, "must be a string in quotes");
    value = node->as_string()->get();
  }

  void texts(const std::string& key, std::vector<std::string>& values) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_array()) refuse(*node, key, "must be a list of strings in brackets");
    values.clear();
    for (const toml::node& each : *node->as_array()) {
      if (!each.is_string()) refuse(each, key, "must be a list of strings in brackets");
      values.push_back(each.as_string()->get());
    }
  }

  // What is in the table, whatever its keys are called; every key counts as known.
  template <typename Take>
  void each(Take&& take) {
    if (table_ == nullptr) return;
    for (const auto& [key, node] : *table_) {
      known_.insert(std::string(key.str()));
      take(std::string(key.str()), node);
    }
  }

  template <typename T>
  void choice(const std::string& key, const std::vector<std::pair<std::string, T>>& choices, T& value) {
    std::string name;
    text(key, name);
    if (find(key) == nullptr) return;
    std::string names;
    for (const auto& [each, meaning] : choices) {
      if (each == name) {
        value = meaning;
        return;
      }
      names += (names.empty() ? "" : ", ") + each;
    }
    refuse(*find(key), key, "must be one of " + names + ", not \"" + name + "\"");
  }

  void finish() const {
    if (table_ == nullptr) return;
    for (const auto& [key, node] : *table_)
      if (!known_.contains(std::string(key.str())))
        fail(origin_, key.source(),
             name_ + "." + std::string(key.str()) + ": unknown key" + suggestion(key.str(), known_));
  }

  const toml::node* find(const std::string& key) {
    known_.insert(key);
    return table_ == nullptr ? nullptr : table_->get(key);
  }

  [[noreturn]] void refuse(const toml::node& node, const std::string& key, const std::string& what) const {
    fail(origin_, node.source(), name_ + "." + key + " " + what);
  }

 private:
  const std::string& origin_;
  std::string name_;
  const toml::table* table_ = nullptr;
  std::set<std::string> known_;
};

bool is_loopback(std::string_view address) {
  for (std::string_view prefix : {"tcp://127.", "tcp://localhost:", "tcp://[::1]:", "ipc://", "inproc://"})
    if (address.starts_with(prefix)) return true;
  return false;
}

// HTTP is never encrypted.
bool is_exposed(const Config& config, std::string_view name, const std::string& address) {
  return (name == "http" || config.security.server_key.empty()) && !is_loopback(address);
}

void read_sockets(Section& section, Config& config) {
  auto& sockets = config.sockets;
  section.boolean("allow_remote", sockets.allow_remote);
  for (auto [key, value] : {std::pair{"results", &sockets.results},
                            {"ingest", &sockets.ingest},
                            {"control", &sockets.control},
                            {"http", &sockets.http}}) {
    section.text(key, *value);
    const toml::node* node = section.find(key);
    if (node == nullptr) continue;
    const bool http = std::string_view(key) == "http";
    const std::string address = http ? "tcp://" + *value : *value;
    if (!address.starts_with("tcp://") && !address.starts_with("ipc://"))
      section.refuse(*node, key, "must be tcp://HOST:PORT or ipc://PATH, not \"" + *value + "\"");
    if (address.starts_with("tcp://") && address.find(':', 6) == std::string::npos)
      section.refuse(*node, key,
                     std::string("needs a port, as in ") + (http ? "" : "tcp://") + "127.0.0.1:7600");
    if (!sockets.allow_remote && is_exposed(config, key, address))
      section.refuse(
          *node, key,
          std::string("is not on loopback, and nothing on it would be encrypted; use 127.0.0.1, ") +
              (http ? "" : "set security.server_key, ") +
              "or set sockets.allow_remote = true if the network is trusted");
  }
}

// Patterns and verbs of one key, held against `error_of`, which returns what is wrong with one or nothing.
template <typename ErrorOf>
void check_each(Section& section, const std::string& key, const std::vector<std::string>& values,
                ErrorOf&& error_of) {
  for (const std::string& value : values)
    if (const std::string error = error_of(value); !error.empty())
      section.refuse(*section.find(key), key, "has \"" + value + "\": " + error);
}

std::string verb_error(const std::string& verb) {
  std::string verbs = "must be one of *";
  for (const char* known : kControlVerbs) {
    if (verb == known) return "";
    verbs += std::string(", ") + known;
  }
  return verb == "*" ? "" : verbs;
}

KeyRules read_key(Section& section, const std::string& name) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  KeyRules rules;
  rules.name = name;
  section.text("public_key", rules.public_key);
  section.texts("publish", rules.publish);
  check_each(section, "publish", rules.publish, [](const auto& text) { return pattern_error(text, false); });
  section.texts("subscribe", rules.subscribe);
  check_each(section, "subscribe", rules.subscribe,
             [](const auto& text) { return pattern_error(text, true); });
  std::vector<std::string> verbs;
  section.texts("control", verbs);
  check_each(section, "control", verbs, verb_error);
  rules.control = {verbs.begin(), verbs.end()};
  section.integer("streams", 0, 100'000, rules.streams);
  section.integer("bytes_per_second", 0, kMost, rules.bytes_per_second);
  section.integer("requests_per_second", 0, kMost, rules.requests_per_second);
  return rules;
}

// Every [keys.NAME].
void read_keys(Section& section, const std::string& origin, Config& config) {
  std::map<std::string, std::string> names;  // by public key
  section.each([&](const std::string& name, const toml::node& node) {
    if (!valid_name(name))
      fail(origin, node.source(),
           "keys." + name + ": a key's name is 1 to 64 characters out of A-Z a-z 0-9 . _ -");
    if (config.security.server_key.empty())
      fail(origin, node.source(),
           "keys." + name +
               ": keys count only where sockets are encrypted; set security.server_key to the "
               "daemon's own certificate (sidewinder keygen)");
    Section key(section, name, node);
    KeyRules rules = read_key(key, name);
    key.finish();
    if (!valid_key(rules.public_key))
      fail(origin, node.source(),
           "keys." + name + ".public_key must be the 40 characters that sidewinder keygen printed");
    const auto [other, is_new] = names.emplace(rules.public_key, name);
    if (!is_new)
      fail(origin, node.source(),
           "keys." + name + ".public_key is that of keys." + other->second + " too; give each key one name");
    config.keys.push_back(std::move(rules));
  });
  if (config.keys.empty() && !config.security.server_key.empty())
    throw ConfigError(origin +
                      ": security.server_key is set and no key is authorised, so nobody could connect; add a "
                      "[keys.NAME] with its public_key");
}

Config read(const toml::table& root, const std::string& origin) {
  Config config;
  std::set<std::string> sections;
  auto section = [&](const char* name, auto&& take) {
    sections.insert(name);
    Section table(origin, root, name);
    take(table);
    table.finish();
  };
  constexpr std::int64_t kDay = 86'400'000;  // milliseconds
  section("model", [&](Section& s) {
    std::string folder;
    s.text("folder", folder);
    config.model.folder = folder;
  });
  section("engine", [&](Section& s) {
    s.choice<EngineChoice>(
        "kind", {{"auto", EngineChoice::Auto}, {"cpu", EngineChoice::Cpu}, {"cuda", EngineChoice::Cuda}},
        config.engine.kind);
    std::int64_t threads = config.engine.threads;
    s.integer("threads", 0, 1024, threads);
    config.engine.threads = static_cast<int>(threads);
    std::int64_t gpus = config.engine.gpus;
    s.integer("gpus", 0, 64, gpus);
    config.engine.gpus = static_cast<int>(gpus);
    s.choice<CudaPrecision>("precision", kCudaPrecisions, config.engine.precision);
    s.boolean("encodings", config.engine.encodings);
  });
  // Before the sockets: what is encrypted may leave the loopback.
  section("security", [&](Section& s) {
    std::string server_key, audit;
    s.text("server_key", server_key);
    config.security.server_key = server_key;
    s.text("audit", audit);
    config.security.audit = audit;
    s.integer("audit_max_bytes", 65'536, std::int64_t{1} << 40, config.security.audit_max_bytes);
  });
  section("keys", [&](Section& s) { read_keys(s, origin, config); });
  section("decoder", [&](Section& s) {
    s.choice<std::optional<DecoderKind>>(
        "kind", {{"auto", std::nullopt}, {"best-path", DecoderKind::BestPath}, {"beam", DecoderKind::Beam}},
        config.decoder.choice.kind);
    std::string text;
    s.text("stability", text);
    if (!text.empty()) config.decoder.choice.stability = text;
    text.clear();
    s.text("hotwords", text);
    config.decoder.hotwords = text;
  });
  section("sockets", [&](Section& s) { read_sockets(s, config); });
  section("limits", [&](Section& s) {
    s.integer("streams", 1, 100'000, config.limits.streams);
    s.integer("buffer_ms", 500, 60'000, config.limits.buffer_ms);
    s.integer("max_message_bytes", 4'096, 1 << 28, config.limits.max_message_bytes);
    s.integer("load_percent", 0, 100, config.limits.load_percent);
  });
  section("scheduler", [&](Section& s) {
    s.choice<std::int64_t>("profile", {{"low_latency", 80}, {"balanced", 160}, {"throughput", 320}},
                           config.scheduler.chunk_ms);
    s.integer("chunk_ms", 10, 2'000, config.scheduler.chunk_ms);
    s.integer("max_wait_ms", 0, 1'000, config.scheduler.max_wait_ms);
    s.integer("behind_ms", 10, kDay, config.scheduler.behind_ms);
  });
  section("endpoint", [&](Section& s) {
    // A command is short and wants its answer; who dictates stops to think.
    std::pair<std::int64_t, std::int64_t> times{config.endpoint.silence_ms, config.endpoint.max_segment_ms};
    s.choice<std::pair<std::int64_t, std::int64_t>>(
        "profile", {{"captions", times}, {"dictation", {1'500, 60'000}}, {"commands", {400, 10'000}}}, times);
    std::tie(config.endpoint.silence_ms, config.endpoint.max_segment_ms) = times;
    s.integer("silence_ms", 40, kDay, config.endpoint.silence_ms);
    s.integer("max_segment_ms", 1'000, kDay, config.endpoint.max_segment_ms);
    s.choice<SilenceDetector>("detector",
                              {{"blanks", SilenceDetector::Blanks},
                               {"voice", SilenceDetector::Voice},
                               {"both", SilenceDetector::Both}},
                              config.endpoint.detector);
  });
  section("text", [&](Section& s) {
    s.choice<TextStyle>("style",
                        {{"words", TextStyle::Words},
                         {"numbers", TextStyle::Numbers},
                         {"punctuated", TextStyle::Punctuated},
                         {"readable", TextStyle::Readable}},
                        config.text.style);
  });
  section("ingest", [&](Section& s) {
    s.integer("idle_ms", 50, kDay, config.ingest.idle_ms);
    s.integer("threads", 1, 64, config.ingest.threads);
  });
  section("results", [&](Section& s) {
    s.integer("high_water_mark", 1, 1'000'000, config.results.high_water_mark);
    s.integer("queue", 16, 1'000'000, config.results.queue);
    s.integer("level_ms", 0, kDay, config.results.level_ms);
  });
  section("history", [&](Section& s) {
    s.integer("finals", 1, 100'000, config.history.finals);
    s.integer("streams", 0, 100'000, config.history.streams);
  });
  section("shutdown", [&](Section& s) { s.integer("timeout_ms", 0, kDay, config.shutdown.timeout_ms); });
  section("log", [&](Section& s) {
    const std::vector<std::pair<std::string, std::string>> levels{
        {"trace", "trace"}, {"debug", "debug"}, {"info", "info"}, {"warning", "warning"}, {"error", "error"}};
    s.choice("level", levels, config.log.level);
  });
  for (const auto& [key, node] : root)
    if (!sections.contains(std::string(key.str())))
      fail(origin, key.source(),
           std::string(key.str()) + ": unknown " + (node.is_table() ? "table" : "key") +
               suggestion(key.str(), sections));
  return config;
}

}  // namespace

Config parse_config_toml(std::string_view text, const std::string& origin) {
  try {
    return read(toml::parse(text), origin);
  } catch (const toml::parse_error& error) {
    fail(origin, error.source(), std::string(error.description()));
  }
}

Endpoint endpoint_of(const Config& config) {
  return {.silence_ms = config.endpoint.silence_ms,
          .max_segment_ms = config.endpoint.max_segment_ms,
          .detector = config.endpoint.detector};
}

int quarter_of_cores() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 4, 1, 4);
}

std::vector<std::string> restart_needed(const Config& running, const Config& wanted) {
  std::vector<std::string> changed;
  const auto compare = [&](const char* name, const auto& was, const auto& is) {
    if (!(was == is)) changed.emplace_back(name);
  };
  compare("model.folder", running.model.folder, wanted.model.folder);
  compare("engine.kind", running.engine.kind, wanted.engine.kind);
  compare("engine.threads", running.engine.threads, wanted.engine.threads);
  compare("engine.gpus", running.engine.gpus, wanted.engine.gpus);
  compare("engine.precision", running.engine.precision, wanted.engine.precision);
  compare("engine.encodings", running.engine.encodings, wanted.engine.encodings);
  compare("decoder.kind", running.decoder.choice.kind, wanted.decoder.choice.kind);
  compare("decoder.stability", running.decoder.choice.stability, wanted.decoder.choice.stability);
  compare("decoder.hotwords", running.decoder.hotwords, wanted.decoder.hotwords);
  compare("text.style", running.text.style, wanted.text.style);
  compare("sockets.results", running.sockets.results, wanted.sockets.results);
  compare("sockets.ingest", running.sockets.ingest, wanted.sockets.ingest);
  compare("sockets.control", running.sockets.control, wanted.sockets.control);
  compare("sockets.http", running.sockets.http, wanted.sockets.http);
  compare("sockets.allow_remote", running.sockets.allow_remote, wanted.sockets.allow_remote);
  compare("limits.streams", running.limits.streams, wanted.limits.streams);
  compare("limits.buffer_ms", running.limits.buffer_ms, wanted.limits.buffer_ms);
  compare("limits.max_message_bytes", running.limits.max_message_bytes, wanted.limits.max_message_bytes);
  compare("limits.load_percent", running.limits.load_percent, wanted.limits.load_percent);
  compare("ingest.threads", running.ingest.threads, wanted.ingest.threads);
  compare("scheduler.chunk_ms", running.scheduler.chunk_ms, wanted.scheduler.chunk_ms);
  compare("scheduler.max_wait_ms", running.scheduler.max_wait_ms, wanted.scheduler.max_wait_ms);
  compare("scheduler.behind_ms", running.scheduler.behind_ms, wanted.scheduler.behind_ms);
  compare("results.high_water_mark", running.results.high_water_mark, wanted.results.high_water_mark);
  compare("results.queue", running.results.queue, wanted.results.queue);
  compare("results.level_ms", running.results.level_ms, wanted.results.level_ms);
  compare("history.finals", running.history.finals, wanted.history.finals);
  compare("history.streams", running.history.streams, wanted.history.streams);
  compare("security.server_key", running.security.server_key, wanted.security.server_key);
  compare("security.server_key (its content)", running.security.secret_key, wanted.security.secret_key);
  compare("security.audit", running.security.audit, wanted.security.audit);
  compare("security.audit_max_bytes", running.security.audit_max_bytes, wanted.security.audit_max_bytes);
  return changed;
}

std::vector<std::string> exposed_sockets(const Config& config) {
  std::vector<std::string> exposed;
  for (const auto& [name, address] : {std::pair{"results", config.sockets.results},
                                      {"ingest", config.sockets.ingest},
                                      {"control", config.sockets.control},
                                      {"http", "tcp://" + config.sockets.http}})
    if (is_exposed(config, name, address))
      exposed.push_back(std::string("sockets.") + name + " = " + address);
  return exposed;
}

Config load_config_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) throw ConfigError(file.string() + ": can't be read; check the path given with --config");
  Config config = parse_config_toml(text, file.string());
  if (config.security.server_key.empty()) return config;
  try {
    config.security.secret_key = load_secret_certificate(config.security.server_key).secret_key;
  } catch (const CertificateError& error) {
    throw ConfigError(file.string() + ": security.server_key: " + error.what());
  }
  return config;
}

}  // namespace sidewinder::live
