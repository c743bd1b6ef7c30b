// `sidewinder keygen`: a pair of CURVE keys.
#include <cstdio>
#include <memory>
#include <string>

#include "clients/cli/certificate.h"
#include "clients/cli/commands.h"
#include "clients/cli/wire.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder {
namespace {

using namespace clients;

struct Arguments {
  std::string prefix;
  bool force = false;
};

int keygen(const Arguments& arguments) {
  const Certificate certificate = make_certificate();
  try {
    write_certificate(certificate, arguments.prefix, arguments.force);
  } catch (const CertificateError& error) {
    throw ClientError(kExitOutput, error.what());
  }
  print_note("wrote " + arguments.prefix + ".key (to hand out) and " + arguments.prefix +
             ".key_secret (to keep secret)");
  std::printf("%s\n", certificate.public_key.c_str());
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    throw ClientError(kExitOutput, "standard output can't be written");
  return kExitOk;
}

}  // namespace

void add_keygen_command(CLI::App& app, std::function<int()>& run) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("keygen", "Make a pair of keys, for a daemon or for a client");
  command->add_option("PREFIX", arguments->prefix, "Writes PREFIX.key and PREFIX.key_secret")->required();
  command->add_flag("--force", arguments->force, "Replace files that are there already");
  command->footer(
      "Prints the public key. The daemon's settings take its own PREFIX.key_secret as security.server_key, "
      "and a\n"
      "client's public key as public_key in [keys.NAME]; a client takes --server-key (the daemon's "
      "PREFIX.key) and\n"
      "--keys (its own PREFIX.key_secret).\n"
      "Exit codes: 0 written; 2 the command line is wrong; 4 the files can't be written, or are there "
      "already.");
  command->callback(
      [arguments, &run] { run = [arguments] { return run_client([&] { return keygen(*arguments); }); }; });
}

}  // namespace sidewinder
