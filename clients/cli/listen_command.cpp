// `sidewinder listen`: transcripts as they are spoken.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include <sys/ioctl.h>
#include <unistd.h>

#include "clients/cli/caption_view.h"
#include "clients/cli/commands.h"
#include "clients/cli/result_feed.h"
#include "clients/cli/signals.h"
#include "clients/cli/wire.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder {
namespace {

using namespace clients;

constexpr std::chrono::milliseconds kPatience(1'000);  // before it is said that nobody answers

struct Arguments {
  Addresses addresses;
  std::vector<std::string> streams;
  std::vector<std::string> kinds;
  bool json = false;
  bool until_closed = false;
};

// Throws ClientError.
void write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw ClientError(kExitOutput, std::string("standard output: ") + std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

// NO_COLOR and TERM=dumb stand for a terminal that gets plain lines.
bool has_screen() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) && (no_color == nullptr || *no_color == '\0') && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

ScreenSize screen_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

bool ends(const Json& event) {
  return event.at("type") == "closed" || (event.at("type") == "missed" && event.at("kind") == "closed");
}

int listen(const Arguments& arguments) {
  Signals signals;
  zmq::context_t context(1);
  const bool screen = !arguments.json && has_screen();
  const bool named = arguments.streams.size() != 1;
  std::set<std::string> kinds(arguments.kinds.begin(), arguments.kinds.end());
  if (kinds.empty()) kinds = {"opened", "partial", "final", "gap", "behind", "closed"};
  if (!screen && !arguments.json) kinds = {"final", "closed"};
  if (arguments.until_closed) kinds.insert("closed");
  std::unique_ptr<CaptionView> view;
  if (arguments.json)
    view = std::make_unique<JsonView>();
  else if (screen)
    view = std::make_unique<ScreenView>(named);
  else
    view = std::make_unique<PlainView>(named);

  ResultFeed feed(context, arguments.addresses, arguments.streams, kinds);
  Connection& connection = feed.connection();
  std::set<std::string> awaited(arguments.streams.begin(), arguments.streams.end());
  bool told = false;  // that nobody answers
  for (bool patient = true;; patient = false) {
    while (auto event = feed.take()) {
      write_all(view->show(*event));
      if (ends(*event)) awaited.erase(event->at("stream").get<std::string>());
      if (arguments.until_closed && awaited.empty()) {
        write_all(view->refresh("", screen_size()));
        return kExitOk;
      }
    }
    std::string status;
    if (connection.lost())
      status = "The connection is lost; waiting for the daemon on " + arguments.addresses.results;
    else if (!connection.connected() && !patient)
      status = "No daemon answers on " + arguments.addresses.results + "; waiting for it";
    else if (connection.connected() && !connection.heard())
      status = "Listening";
    write_all(view->refresh(status, screen_size()));
    if (!screen && !connection.connected() && !status.empty() && !told) print_note(status);
    told = !connection.connected() && !status.empty();

    std::vector<zmq::pollitem_t> items{signals.poll_item()};
    connection.add_poll_items(items, false);
    wait_for(items, connection.connected() || told ? std::nullopt : std::optional(kPatience));
    const int signal = signals.take();
    if (signal == SIGINT || signal == SIGTERM) {
      write_all(view->finish());
      return kExitInterrupted;
    }
  }
}

}  // namespace

void add_listen_command(CLI::App& app, std::function<int()>& run) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("listen", "Show what a running daemon hears");
  command->add_option("STREAM", arguments->streams,
                      "Streams to listen to (default: all, each line with its name)");
  command->add_flag("--json", arguments->json, "Write every result as a line of JSON, as it came");
  command
      ->add_option("--kinds", arguments->kinds,
                   "With --json: only these, for example final,closed (default: all but level and encodings)")
      ->delimiter(',')
      ->check(
          CLI::IsMember({"opened", "partial", "final", "gap", "level", "behind", "closed"}).description(""))
      ->type_name("KIND,...");
  command->add_flag("--until-closed", arguments->until_closed, "End when the given streams are closed");
  add_address_option(*command, "results", arguments->addresses.results);
  add_address_option(*command, "control", arguments->addresses.control);
  add_key_options(*command, arguments->addresses);
  command->footer(
      "On a terminal, words that are settled stand solid, the word being heard dimmed; elsewhere every "
      "finished\n"
      "segment is a line. Finals missed while the connection was lost are asked for again.\n"
      "Exit codes: 0 the streams closed (--until-closed); 2 the command line is wrong; 4 standard output "
      "can't be\n"
      "written; 8 what answers is not a daemon of this version; 9 the daemon refused the keys, or what they "
      "ask for;\n130 interrupted.");
  command->callback([arguments, &run] {
    if (arguments->until_closed && arguments->streams.empty())
      throw CLI::ValidationError("--until-closed", "name the streams that it is to wait for");
    if (!arguments->kinds.empty() && !arguments->json)
      throw CLI::ValidationError("--kinds", "chooses what --json writes, so give --json too");
    run = [arguments] { return run_client([&] { return listen(*arguments); }); };
  });
}

}  // namespace sidewinder
