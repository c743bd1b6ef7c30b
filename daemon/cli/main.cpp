// `sidewinder`: one program, a subcommand for each thing it does (commands.h).
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>

#include "daemon/cli/commands.h"
#include "daemon/cli/exit_code.h"
#include "daemon/engine_choice.h"
#include "daemon/transcribe/sink.h"
#include "model/error.h"

namespace sidewinder {
namespace {

int fail(const std::exception& error, int code) {
  std::fprintf(stderr, "sidewinder: %s\n", error.what());
  return code;
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
    std::fprintf(stderr, "sidewinder: %s; see sidewinder %s --help\n", error.what(),
                 app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name().c_str());
    return kExitUsage;
  } catch (const ModelError& error) {
    return fail(error, kExitModel);
  } catch (const OutputError& error) {
    return fail(error, kExitOutput);
  } catch (const EngineUnavailable& error) {
    return fail(error, kExitEngine);
  } catch (const std::bad_alloc&) {
    return fail(
        std::runtime_error("out of memory; transcribe fewer files at once, or with a smaller --chunk-ms"),
        kExitInput);
  }
}

}  // namespace
}  // namespace sidewinder

int main(int argc, char** argv) {
  return sidewinder::run_command_line(argc, argv);
}
