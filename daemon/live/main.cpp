// `sidewinderd`: the command line, signals and exit codes of the daemon.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "daemon/cli/exit_code.h"
#include "daemon/cli/model_folder.h"
#include "daemon/live/daemon.h"
#include "daemon/live/sockets.h"
#include "model/error.h"

namespace sidewinder::live {
namespace {

constexpr int kExitBind = 6;        // a port is taken
constexpr int kExitUnfinished = 7;  // what was accepted could not be transcribed within shutdown.timeout_ms

// SIGTERM and SIGINT as a descriptor. Made before any thread, so that all of them have the signals blocked.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    descriptor_ = ::signalfd(-1, &set_, SFD_CLOEXEC);
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
  }
  ~StopSignals() { ::close(descriptor_); }
  StopSignals(const StopSignals&) = delete;

  int descriptor() const { return descriptor_; }

 private:
  sigset_t set_;
  int descriptor_;
};

int serve(const Config& config) {
  StopSignals signals;
  std::signal(SIGPIPE, SIG_IGN);
  const Model model = load_model(config.model.folder.empty() ? default_model_folder() : config.model.folder);
  Daemon daemon(config, model);
  std::puts(daemon.ready_line().c_str());
  std::fflush(stdout);
  spdlog::info("serving {}", daemon.ready_line());
  return daemon.run(signals.descriptor()) ? kExitOk : kExitUnfinished;
}

int run_command_line(int argc, char** argv) {
  CLI::App app("Sidewinder: the live daemon. Prints its endpoints as a line of JSON once it serves.",
               "sidewinderd");
  app.set_version_flag("--version", "sidewinderd " SIDEWINDER_VERSION);
  std::string file;
  bool check = false;
  app.add_option("--config", file, "settings in TOML; without it, defaults on loopback");
  app.add_flag("--check", check, "check the settings and end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    spdlog::error("{}; see sidewinderd --help", error.what());
    return kExitUsage;
  }
  auto fail = [](const std::exception& error, int code) {
    spdlog::error("{}", error.what());
    return code;
  };
  try {
    const Config config = file.empty() ? Config{} : load_config_file(file);
    spdlog::set_level(spdlog::level::from_str(config.log.level));
    return check ? kExitOk : serve(config);
  } catch (const ConfigError& error) {
    return fail(error, kExitUsage);
  } catch (const ModelError& error) {
    return fail(error, kExitModel);
  } catch (const EngineUnavailable& error) {
    return fail(error, kExitEngine);
  } catch (const BindError& error) {
    return fail(error, kExitBind);
  } catch (const std::exception& error) {
    return fail(error, kExitInput);
  }
}

}  // namespace
}  // namespace sidewinder::live

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("sidewinderd"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  return sidewinder::live::run_command_line(argc, argv);
}
