// `sidewinder mic`: a capture device of this machine as a stream.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "clients/cli/commands.h"
#include "clients/cli/feeding.h"
#include "clients/cli/sender.h"
#include "clients/cli/signals.h"
#include "clients/cli/wire.h"
#include "daemon/audio/capture.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder {
namespace {

using namespace clients;
using std::chrono::milliseconds;

constexpr milliseconds kLook(100);  // between looks at a device that says nothing
constexpr std::size_t kPieceFrames = 4'800;

struct Arguments {
  Addresses addresses;
  Capture::Wanted capture;
  std::string stream;
  std::string hotwords;
  bool quiet = false;
};

std::unique_ptr<Capture> open_capture(const Capture::Wanted& wanted) {
  try {
    return std::make_unique<Capture>(wanted);
  } catch (const CaptureError& error) {
    throw ClientError(kExitInput, error.what());
  }
}

// One run of the command.
class Recording {
 public:
  explicit Recording(const Arguments& arguments)
      : arguments_(arguments),
        capture_(open_capture(arguments.capture)),
        context_(1),
        sender_(context_, arguments.addresses, arguments.stream,
                {.samples = "f32le", .rate = capture_->rate(), .channels = capture_->channels()}, 0,
                arguments.hotwords) {}

  // Returns an exit code.
  int run();

 private:
  void record();
  void send_captured();
  void tell();
  void wait(milliseconds longest, bool for_audio);

  const Arguments& arguments_;
  Signals signals_;  // before PortAudio's threads
  std::unique_ptr<Capture> capture_;
  zmq::context_t context_;
  Sender sender_;
  std::vector<float> piece_;
  std::int64_t frames_ = 0;      // sent
  std::uint64_t lost_ = 0;       // frames lost, and not yet sent as a gap
  std::uint64_t lost_told_ = 0;  // and ever
  std::uint64_t overruns_ = 0;
  int interrupts_ = 0;
};

int Recording::run() {
  const auto look = [this](milliseconds longest) { wait(longest, false); };
  if (!open_stream(sender_, interrupts_, look)) return kExitInterrupted;
  if (!arguments_.quiet)
    print_note("stream " + sender_.stream() + ": \"" + capture_->device() + "\", " +
               std::to_string(capture_->rate()) + " Hz; Ctrl-C ends it");
  record();
  finish_stream(sender_, interrupts_, look);
  if (interrupts_ > 1 || !sender_.closed()) return kExitInterrupted;
  check_end(sender_);
  if (!arguments_.quiet) {
    const double rate = capture_->rate();
    char line[200];
    std::snprintf(line, sizeof line, "%s: %.1f s sent, %.1f s lost, %lld segments", sender_.stream().c_str(),
                  static_cast<double>(frames_) / rate, static_cast<double>(lost_told_) / rate,
                  static_cast<long long>(sender_.closed()->at("finals").get<std::int64_t>()));
    print_note(line);
  }
  return kExitOk;
}

void Recording::record() {
  piece_.resize(kPieceFrames * static_cast<std::size_t>(capture_->channels()));
  while (interrupts_ == 0 && !sender_.closed()) {
    sender_.exchange();
    send_captured();
    tell();
    // Without room the device's ring fills, and what it loses then comes as a gap.
    wait(kLook, sender_.room() > 0);
  }
}

// Everything there is, as far as there is room.
void Recording::send_captured() {
  const auto channels = static_cast<std::size_t>(capture_->channels());
  while (sender_.room() > 0) {
    if (lost_ > 0) {
      const std::int64_t part = std::min(sender_.room(), static_cast<std::int64_t>(lost_));
      sender_.put_gap(part);
      lost_ -= static_cast<std::uint64_t>(part);
      continue;
    }
    const std::size_t most = std::min(kPieceFrames, static_cast<std::size_t>(sender_.room())) * channels;
    const Capture::Taken taken = capture_->take(std::span(piece_).first(most));
    if (taken.frames == 0 && taken.lost == 0) return;
    lost_ = taken.lost;
    lost_told_ += taken.lost;
    if (taken.frames == 0) continue;
    sender_.put(std::as_bytes(std::span(piece_).first(taken.frames * channels)));
    frames_ += static_cast<std::int64_t>(taken.frames);
  }
}

void Recording::tell() {
  if (auto notice = capture_->take_notice()) print_note(*notice);
  if (capture_->overruns() == overruns_) return;
  overruns_ = capture_->overruns();
  print_note("samples were lost; " + std::to_string(overruns_) + " overrun(s) so far");
}

void Recording::wait(milliseconds longest, bool for_audio) {
  std::vector<zmq::pollitem_t> items{signals_.poll_item()};
  sender_.add_poll_items(items);
  if (for_audio) items.push_back({nullptr, capture_->descriptor(), ZMQ_POLLIN, 0});
  wait_for(items, longest);
  if (for_audio) capture_->wait(milliseconds(0));
  for (int signal = signals_.take(); signal != 0; signal = signals_.take())
    if (signal != SIGWINCH) ++interrupts_;
}

}  // namespace

void add_mic_command(CLI::App& app, std::function<int()>& run) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("mic", "Send what a microphone of this machine hears to a running daemon");
  command
      ->add_option("--device", arguments->capture.device,
                   "Its index, its name or a part of it (default: the system's); see sidewinderd --devices")
      ->type_name("NAME");
  command->add_option("--rate", arguments->capture.rate, "Hz (default: the device's own)")
      ->check(CLI::Range(8000, 192000).description(""))
      ->type_name("HZ");
  command->add_option("--channels", arguments->capture.channels, "To take, mixed (default 1)")
      ->check(CLI::Range(1, 32).description(""));
  command->add_option("--stream", arguments->stream, "The stream's name (default: the daemon chooses one)")
      ->type_name("NAME");
  command->add_flag("-q,--quiet", arguments->quiet, "Say nothing unless something goes wrong");
  add_hotwords_option(*command, arguments->hotwords);
  add_address_option(*command, "ingest", arguments->addresses.ingest);
  add_key_options(*command, arguments->addresses);
  command->footer(
      "Ctrl-C ends the stream and waits until everything is transcribed and published; again, it does not "
      "wait.\n"
      "A device that goes away is looked for every second, and what was missed is told as a gap.\n"
      "Exit codes: 0 ended; 1 the device can't be opened; 2 the command line is wrong; 8 no daemon answers;\n"
      "9 the daemon refused the stream or ended it; 130 interrupted.");
  command->callback([arguments, &run] {
    run = [arguments] { return run_client([&] { return Recording(*arguments).run(); }); };
  });
}

}  // namespace sidewinder
