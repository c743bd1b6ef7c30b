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

#include "daemon/audio/capture.h"
#include "daemon/cli/exit_code.h"
#include "daemon/cli/model_folder.h"
#include "daemon/live/daemon.h"
#include "daemon/live/service_manager.h"
#include "daemon/live/sockets.h"
#include "model/error.h"

namespace sidewinder::live {
namespace {

constexpr int kExitBind = 6;        // a port is taken
constexpr int kExitUnfinished = 7;  // what was accepted could not be transcribed within shutdown.timeout_ms

// SIGTERM, SIGINT and SIGHUP as a descriptor. Made before any thread, so that all of them have the signals
// blocked.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    descriptor_ = ::signalfd(-1, &set_, SFD_CLOEXEC);
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
  }
  ~StopSignals() { ::close(descriptor_); }
  StopSignals(const StopSignals&) = delete;

  int descriptor() const { return descriptor_; }

  int take() const {  // the one that came
    signalfd_siginfo info{};
    return ::read(descriptor_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo)
                                                                  : SIGTERM;
  }

 private:
  sigset_t set_;
  int descriptor_;
};

Config load_config(const std::string& file) {
  return file.empty() ? Config{} : load_config_file(file);
}

void reload(Daemon& daemon, const std::string& file) {
  try {
    daemon.reload(load_config(file));
    spdlog::info("the settings were read again");
  } catch (const ConfigError& error) {
    spdlog::error("the settings stay as they were: {}", error.what());
  }
}

int serve(const Config& config, const std::string& file) {
  StopSignals signals;
  std::signal(SIGPIPE, SIG_IGN);
  for (const std::string& socket : exposed_sockets(config))
    spdlog::warn("{} is not on loopback and not encrypted: whoever reaches it can use it and listen in",
                 socket);
  Daemon daemon(config, config.model.folder.empty() ? default_model_folder() : config.model.folder);
  std::puts(daemon.ready_line().c_str());
  std::fflush(stdout);
  spdlog::info("serving {}", daemon.ready_line());
  ServiceManager manager;
  manager.ready();
  const auto tick = [&] { manager.keep_alive([&] { return daemon.stuck(); }); };
  daemon.serve(signals.descriptor(), tick);
  while (daemon.failure().empty() && signals.take() == SIGHUP) {
    manager.reloading();
    reload(daemon, file);
    manager.ready();
    daemon.serve(signals.descriptor(), tick);
  }
  if (!daemon.failure().empty())
    spdlog::error("the engine failed: {}; what it heard is published, then this ends", daemon.failure());
  manager.stopping();
  const bool finished = daemon.stop();
  if (!daemon.failure().empty()) return kExitEngineFailed;
  return finished ? kExitOk : kExitUnfinished;
}

int print_devices() {
  std::printf("%5s  %-40s  %8s  %6s  %s\n", "INDEX", "NAME", "CHANNELS", "HZ", "HOST");
  for (const CaptureDevice& device : list_capture_devices())
    std::printf("%5d  %-40s  %8d  %6d  %s%s\n", device.index, device.name.c_str(), device.channels,
                device.rate, device.host.c_str(), device.is_default ? " (default)" : "");
  return kExitOk;
}

int run_command_line(int argc, char** argv) {
  CLI::App app("Sidewinder: the live daemon. Prints its endpoints as a line of JSON once it serves.",
               "sidewinderd");
  app.set_version_flag("--version", "sidewinderd " SIDEWINDER_VERSION);
  std::string file;
  bool check = false, devices = false;
  app.add_option("--config", file, "settings in TOML; without it, defaults on loopback");
  app.add_flag("--check", check, "check the settings and end");
  app.add_flag("--devices", devices, "list the capture devices and end");
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
    if (devices) return print_devices();
    const Config config = load_config(file);
    spdlog::set_level(spdlog::level::from_str(config.log.level));
    return check ? kExitOk : serve(config, file);
  } catch (const ConfigError& error) {
    return fail(error, kExitUsage);
  } catch (const HotwordError& error) {
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
