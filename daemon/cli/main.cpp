// `sidewinder`: one program, a subcommand for each thing it does (commands.h).
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <unistd.h>

#include "daemon/cli/commands.h"
#include "daemon/cli/exit_code.h"
#include "daemon/engine_choice.h"
#include "daemon/transcribe/sink.h"
#include "model/error.h"
#include "model/hotwords.h"

namespace sidewinder {
namespace {

int fail(const std::exception& error, int code) {
  print_message(error.what());
  return code;
}

// A standard stream that the caller closed would become the next file opened: a recording would be read as
// standard input, a transcript would end in a temporary file. Opened the wrong way round, each use fails.
void hold_standard_streams() {
  for (int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(descriptor, F_GETFD) < 0)
      ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int run_command_line(int argc, char** argv) {
  CLI::App app("Sidewinder: streaming speech recognition", "sidewinder");
  app.set_version_flag("--version", "sidewinder " SIDEWINDER_VERSION);
  app.require_subcommand(1);
  std::function<int()> run;
  for (AddCommand add : kCommands) add(app, run);
  try {
    app.parse(argc, argv);
    return run();
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    if (app.get_subcommands().empty()) {
      print_message("say what to do, for example: sidewinder transcribe FILE; see sidewinder --help");
    } else {
      std::string command = app.get_subcommands().front()->get_name();
      print_message(std::string(error.what()) + "; see sidewinder " + command + " --help");
    }
    return kExitUsage;
  } catch (const ModelError& error) {
    return fail(error, kExitModel);
  } catch (const HotwordError& error) {
    return fail(error, kExitUsage);
  } catch (const OutputError& error) {
    return fail(error, kExitOutput);
  } catch (const EngineUnavailable& error) {
    return fail(error, kExitEngine);
  } catch (const std::bad_alloc&) {
    return fail(
        std::runtime_error("out of memory; transcribe fewer files at once, or with a smaller --chunk-ms"),
        kExitInput);
  } catch (const std::exception& error) {  // what no reader or writer foresaw: no thread to be had, say
    return fail(error, kExitInput);
  }
}

}  // namespace
}  // namespace sidewinder

int main(int argc, char** argv) {
  sidewinder::hold_standard_streams();
  return sidewinder::run_command_line(argc, argv);
}
