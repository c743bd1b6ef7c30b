// The load generator: many live streams of real speech into a running sidewinderd, and how long their results
// take. tests/load/README.md says what is measured; tests/load/run does it all on one machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/load/bystanders.h"
#include "tests/load/pcm.h"
#include "tests/load/usage.h"
#include "tests/load/worker.h"

namespace sidewinder::load {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook(50);  // between looks at the workers

struct Arguments {
  std::string results = "tcp://127.0.0.1:7600";
  std::string ingest = "tcp://127.0.0.1:7601";
  std::string pcm;
  int rate = 16'000;
  int chunk_ms = 160;
  std::vector<std::size_t> streams{10, 20, 40, 60, 80};
  int threads = 1;
  int subscribers = 0;
  bool one_stream_each = false;
  int stalled = 0;
  double warm_up_s = 5;
  double seconds = 20;
  double limit_ms = 250;
  double patience_s = 120;
  bool all = false;
  pid_t daemon = 0;
  std::string json;
  std::uint64_t seed = 1;
};

// One number of streams, measured.
struct Level {
  std::size_t streams = 0;  // open
  std::size_t chunks = 0;   // with a lag
  double median_ms = 0, p99_ms = 0, worst_ms = 0;
  double delay_p99_ms = 0;  // of the generator: due to handed over
  std::uint64_t held = 0, results = 0;
  double mbit_s = 0;                                 // of results, to the measuring subscribers
  std::optional<double> daemon_percent, daemon_mib;  // of one core
  double own_percent = 0;
  bool broken = false;
};

// The value that a share of `values` is not above; NaN-free, 0 for none. Reorders them.
double quantile(std::vector<float>& values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(
      std::min(static_cast<double>(values.size() - 1), share * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

class Sweep {
 public:
  explicit Sweep(const Arguments& arguments)
      : arguments_(arguments),
        recording_(arguments.pcm, arguments.rate,
                   static_cast<std::size_t>(arguments.rate * arguments.chunk_ms / 1000)),
        bystanders_(arguments.results, topics(), arguments.stalled) {
    for (int i = 0; i < arguments.threads; ++i) {
      workers_.push_back(
          std::make_unique<Worker>(Worker::Options{.ingest = arguments.ingest,
                                                   .results = arguments.results,
                                                   .prefix = prefix(i),
                                                   .seed = arguments.seed + static_cast<std::uint64_t>(i)},
                                   recording_));
      workers_.back()->start();
    }
  }

  // Prints as it goes. False: at a level something broke.
  bool run();

 private:
  // Of the names of a worker's streams.
  static std::string prefix(int worker) {
    return "load-" + std::to_string(::getpid()) + "." + std::to_string(worker) + ".";
  }
  std::vector<std::string> topics() const;
  bool settle();
  Level measure();
  Totals totals() const;
  void write_json(const std::vector<Level>& levels) const;

  const Arguments& arguments_;
  const Recording recording_;
  Bystanders bystanders_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Of the subscribers beyond the workers.
std::vector<std::string> Sweep::topics() const {
  std::vector<std::string> topics(
      static_cast<std::size_t>(std::max(0, arguments_.subscribers - arguments_.threads)));
  if (!arguments_.one_stream_each) return topics;
  for (std::size_t i = 0; i < topics.size(); ++i) {
    const std::size_t stream = i % arguments_.streams.front(),
                      workers = static_cast<std::size_t>(arguments_.threads);
    topics[i] = prefix(static_cast<int>(stream % workers)) + std::to_string(stream / workers) + "/";
  }
  return topics;
}

bool Sweep::run() {
  std::printf("%8s %9s %9s %9s %9s %9s %7s %9s %8s %8s %8s\n", "streams", "chunks", "median ms", "p99 ms",
              "worst ms", "delay p99", "held", "results/s", "daemon %", "MiB", "own %");
  std::vector<Level> levels;
  for (std::size_t streams : arguments_.streams) {
    for (std::size_t i = 0; i < workers_.size(); ++i)
      workers_[i]->want(streams / workers_.size() + (i < streams % workers_.size()));
    const bool settled = settle();
    sleep_s(arguments_.warm_up_s);
    Level level = measure();
    const Totals sum = totals();
    level.broken = !settled || level.streams < streams || level.p99_ms > arguments_.limit_ms ||
                   level.held > 0 || level.chunks == 0 || sum.errors > 0 || sum.ended > 0;
    const auto optional = [](const std::optional<double>& value) {
      std::array<char, 24> text{"-"};
      if (value) std::snprintf(text.data(), text.size(), "%.1f", *value);
      return std::string(text.data());
    };
    std::printf("%8zu %9zu %9.1f %9.1f %9.1f %9.1f %7llu %9.0f %8s %8s %8.1f%s\n", level.streams,
                level.chunks, level.median_ms, level.p99_ms, level.worst_ms, level.delay_p99_ms,
                static_cast<unsigned long long>(level.held),
                static_cast<double>(level.results) / arguments_.seconds,
                optional(level.daemon_percent).c_str(), optional(level.daemon_mib).c_str(), level.own_percent,
                level.broken ? "  broken" : "");
    std::fflush(stdout);
    levels.push_back(level);
    if (level.broken && !arguments_.all) break;
  }
  const Totals sum = totals();
  std::printf("refused %llu, ended by the daemon %llu, errors %llu, results lost %llu, behind events %llu\n",
              static_cast<unsigned long long>(sum.refused), static_cast<unsigned long long>(sum.ended),
              static_cast<unsigned long long>(sum.errors), static_cast<unsigned long long>(sum.holes),
              static_cast<unsigned long long>(sum.behind));
  if (!sum.trouble.empty()) std::printf("first trouble: %s\n", sum.trouble.c_str());
  if (!arguments_.json.empty()) write_json(levels);
  for (auto& worker : workers_) worker->close_all();
  if (!settle()) std::printf("not every stream was closed within %.0f s\n", arguments_.patience_s);
  return std::none_of(levels.begin(), levels.end(), [](const Level& level) { return level.broken; });
}

// Waits until every worker has what it wants; false when that takes too long.
bool Sweep::settle() {
  const auto deadline = Clock::now() + std::chrono::duration<double>(arguments_.patience_s);
  while (
      std::any_of(workers_.begin(), workers_.end(), [](auto& worker) { return worker->unsettled() > 0; })) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

Level Sweep::measure() {
  const auto daemon_usage = [&] {
    return arguments_.daemon > 0 ? std::optional(usage_of(arguments_.daemon)) : std::nullopt;
  };
  for (auto& worker : workers_) worker->measure();
  const auto start = Clock::now();
  const auto daemon = daemon_usage();
  const Usage own = usage_of(::getpid());
  sleep_s(arguments_.seconds);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  Level level;
  if (daemon) {
    const Usage now = *daemon_usage();
    level.daemon_percent = (now.cpu_s - daemon->cpu_s) / seconds * 100;
    level.daemon_mib = now.resident_mib;
  }
  level.own_percent = (usage_of(::getpid()).cpu_s - own.cpu_s) / seconds * 100;
  std::vector<float> lags, delays;
  for (auto& worker : workers_) {
    const Seen seen = worker->take_seen();
    lags.insert(lags.end(), seen.lag_ms.begin(), seen.lag_ms.end());
    delays.insert(delays.end(), seen.delay_ms.begin(), seen.delay_ms.end());
    level.held += seen.held;
    level.results += seen.results;
    level.mbit_s += static_cast<double>(seen.result_bytes) * 8e-6 / seconds;
  }
  level.streams = totals().open;
  level.chunks = lags.size();
  level.median_ms = quantile(lags, 0.5);
  level.p99_ms = quantile(lags, 0.99);
  level.worst_ms = quantile(lags, 1);
  level.delay_p99_ms = quantile(delays, 0.99);
  return level;
}

Totals Sweep::totals() const {
  Totals sum;
  for (const auto& worker : workers_) {
    const Totals one = worker->totals();
    sum.open += one.open;
    sum.refused += one.refused;
    sum.ended += one.ended;
    sum.errors += one.errors;
    sum.holes += one.holes;
    sum.behind += one.behind;
    if (sum.trouble.empty()) sum.trouble = one.trouble;
  }
  return sum;
}

void Sweep::write_json(const std::vector<Level>& levels) const {
  const Totals sum = totals();
  Json all{{"chunk_ms", arguments_.chunk_ms},
           {"seconds", arguments_.seconds},
           {"threads", arguments_.threads},
           {"subscribers", std::max(arguments_.subscribers, arguments_.threads)},
           {"stalled_subscribers", arguments_.stalled},
           {"limit_ms", arguments_.limit_ms},
           {"refused", sum.refused},
           {"ended_by_daemon", sum.ended},
           {"errors", sum.errors},
           {"results_lost", sum.holes},
           {"behind_events", sum.behind},
           {"first_trouble", sum.trouble},
           {"levels", Json::array()}};
  for (const Level& level : levels) {
    Json row{{"streams", level.streams},
             {"chunks", level.chunks},
             {"lag_ms", {{"median", level.median_ms}, {"p99", level.p99_ms}, {"worst", level.worst_ms}}},
             {"delay_p99_ms", level.delay_p99_ms},
             {"held", level.held},
             {"results", level.results},
             {"results_mbit_s", level.mbit_s},
             {"own_cpu_percent", level.own_percent},
             {"broken", level.broken}};
    if (level.daemon_percent) row["daemon_cpu_percent"] = *level.daemon_percent;
    if (level.daemon_mib) row["daemon_resident_mib"] = *level.daemon_mib;
    all["levels"].push_back(std::move(row));
  }
  std::ofstream out(arguments_.json);
  out << all.dump(1) << '\n';
  if (!out.flush()) throw std::runtime_error(arguments_.json + ": can't be written");
}

int run_command_line(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Live streams of real speech into a running sidewinderd: how many until the results are late?",
               "load_generator");
  app.add_option("PCM", arguments.pcm, "What every stream says: raw 16-bit little-endian mono samples")
      ->required();
  app.add_option("--results", arguments.results, "The daemon's results socket")->capture_default_str();
  app.add_option("--ingest", arguments.ingest, "The daemon's ingest socket")->capture_default_str();
  app.add_option("--rate", arguments.rate, "Of the PCM, Hz")
      ->check(CLI::Range(8'000, 192'000))
      ->capture_default_str();
  app.add_option("--chunk-ms", arguments.chunk_ms, "Audio a message; best the daemon's own chunk")
      ->check(CLI::Range(40, 2'000))
      ->capture_default_str();
  app.add_option("--streams", arguments.streams, "Numbers of streams to measure at, rising: 10,20,40")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "Sending threads, each also a subscriber of its own streams")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--subscribers", arguments.subscribers,
                 "Subscribers in all: those beyond the threads' take every message and do nothing with it")
      ->check(CLI::Range(0, 10'000));
  app.add_flag("--one-stream-each", arguments.one_stream_each,
               "Of those beyond the threads' each takes one stream's messages, not everything");
  app.add_option("--stalled", arguments.stalled, "Further subscribers of everything, which never read")
      ->check(CLI::Range(0, 10'000));
  app.add_option("--warm-up", arguments.warm_up_s, "Seconds at each number before measuring")
      ->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "Measured at each number")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--limit-ms", arguments.limit_ms, "A 99th percentile over this is broken")
      ->capture_default_str();
  app.add_option("--patience", arguments.patience_s, "Seconds for all streams to open, or to close")
      ->capture_default_str();
  app.add_flag("--all", arguments.all, "Go on to the last number though it is broken already");
  app.add_option("--daemon-pid", arguments.daemon, "The daemon's process, to tell its CPU time and memory");
  app.add_option("--json", arguments.json, "Write the figures to this file as well");
  app.add_option("--seed", arguments.seed, "Of the random phases")->capture_default_str();
  app.footer("Exit codes: 0 every number of streams held; 1 one was broken; 2 it could not be measured.");
  CLI11_PARSE(app, argc, argv);
  if (!std::is_sorted(arguments.streams.begin(), arguments.streams.end()))
    throw std::runtime_error("--streams must rise: streams are added, never taken away");
  return Sweep(arguments).run() ? 0 : 1;
}

}  // namespace
}  // namespace sidewinder::load

int main(int argc, char** argv) {
  try {
    return sidewinder::load::run_command_line(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "load_generator: %s\n", error.what());
    return 2;
  }
}
