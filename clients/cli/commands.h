// The subcommands that talk to a running sidewinderd; declared as in daemon/cli/commands.h.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace sidewinder {

void add_listen_command(CLI::App& app, std::function<int()>& run);
void add_send_command(CLI::App& app, std::function<int()>& run);
void add_mic_command(CLI::App& app, std::function<int()>& run);
void add_ctl_command(CLI::App& app, std::function<int()>& run);
void add_keygen_command(CLI::App& app, std::function<int()>& run);

}  // namespace sidewinder
