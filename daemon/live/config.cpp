#include "daemon/live/config.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <toml++/toml.h>

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
    if (!sockets.allow_remote && !is_loopback(address))
      section.refuse(*node, key,
                     "is not on loopback, and nothing on it would be encrypted; use 127.0.0.1, or set "
                     "sockets.allow_remote = true if the network is trusted");
  }
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
    s.boolean("encodings", config.engine.encodings);
  });
  section("sockets", [&](Section& s) { read_sockets(s, config); });
  section("limits", [&](Section& s) {
    s.integer("streams", 1, 100'000, config.limits.streams);
    s.integer("buffer_ms", 500, 60'000, config.limits.buffer_ms);
    s.integer("max_message_bytes", 4'096, 1 << 28, config.limits.max_message_bytes);
  });
  section("scheduler", [&](Section& s) {
    s.choice<std::int64_t>("profile", {{"low_latency", 80}, {"balanced", 160}, {"throughput", 320}},
                           config.scheduler.chunk_ms);
    s.integer("chunk_ms", 10, 2'000, config.scheduler.chunk_ms);
    s.integer("max_wait_ms", 0, 1'000, config.scheduler.max_wait_ms);
    s.integer("behind_ms", 10, kDay, config.scheduler.behind_ms);
  });
  section("endpoint", [&](Section& s) {
    s.integer("silence_ms", 40, kDay, config.endpoint.silence_ms);
    s.integer("max_segment_ms", 1'000, kDay, config.endpoint.max_segment_ms);
  });
  section("ingest", [&](Section& s) { s.integer("idle_ms", 50, kDay, config.ingest.idle_ms); });
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

Config load_config_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) throw ConfigError(file.string() + ": can't be read; check the path given with --config");
  return parse_config_toml(text, file.string());
}

}  // namespace sidewinder::live
