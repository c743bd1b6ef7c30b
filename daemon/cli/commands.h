// The table of `sidewinder`'s subcommands.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

#include "clients/cli/commands.h"

namespace sidewinder {

// Declares a subcommand with its options under `app`. When it is the one chosen, `run` is set to what it
// does, which returns an exit code.
using AddCommand = void (*)(CLI::App& app, std::function<int()>& run);

void add_transcribe_command(CLI::App& app, std::function<int()>& run);

inline constexpr AddCommand kCommands[] = {add_transcribe_command, add_listen_command, add_send_command,
                                           add_mic_command,        add_ctl_command,    add_keygen_command};

}  // namespace sidewinder
