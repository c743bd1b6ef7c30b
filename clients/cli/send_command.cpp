// `sidewinder send`: a recording or a pipe as a stream.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "clients/cli/commands.h"
#include "clients/cli/feeding.h"
#include "clients/cli/sender.h"
#include "clients/cli/signals.h"
#include "clients/cli/sound_input.h"
#include "clients/cli/wire.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder {
namespace {

using namespace clients;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPingInterval(5'000);  // shorter than any sensible ingest.idle_ms
constexpr std::int64_t kPiecesASecond = 25;   // real time
constexpr std::size_t kPieceBytes = 32'768;   // fast

struct Arguments {
  Addresses addresses;
  std::string file;
  std::string stream;
  std::string sample_format;
  std::string hotwords;
  int rate = 0;
  int channels = 0;
  int channel = 0;
  bool fast = false;
  bool quiet = false;
};

// One run of the command. Everything that is waited for is waited for in wait().
class Sending {
 public:
  explicit Sending(const Arguments& arguments)
      : arguments_(arguments),
        input_(arguments.file, raw_format(arguments)),
        context_(1),
        sender_(context_, arguments.addresses, arguments.stream, input_.format(), arguments.channel,
                arguments.hotwords) {}

  // Returns an exit code.
  int run();

 private:
  static std::optional<SoundFormat> raw_format(const Arguments& arguments);
  void send_input();
  void send_piece();
  std::optional<milliseconds> until_due() const;
  void wait(bool for_input, std::optional<milliseconds> longest);

  const Arguments& arguments_;
  SoundInput input_;
  Signals signals_;
  zmq::context_t context_;
  Sender sender_;
  Clock::time_point start_;
  Clock::time_point busy_;        // when audio or a ping was last sent
  std::int64_t frames_ = 0;       // sent
  std::vector<std::byte> piece_;  // read, not yet sent
  bool at_end_ = false;
  int interrupts_ = 0;
};

std::optional<SoundFormat> Sending::raw_format(const Arguments& arguments) {
  if (arguments.rate == 0) return std::nullopt;
  return SoundFormat{arguments.sample_format.empty() ? "s16le" : arguments.sample_format, arguments.rate,
                     std::max(arguments.channels, 1)};
}

int Sending::run() {
  const auto look = [this](milliseconds longest) { wait(false, longest); };
  if (!open_stream(sender_, interrupts_, look)) return kExitInterrupted;
  if (!arguments_.quiet && arguments_.stream.empty()) print_note("sending to stream " + sender_.stream());
  start_ = busy_ = Clock::now();
  send_input();
  finish_stream(sender_, interrupts_, look);
  if (interrupts_ > 1 || !sender_.closed()) return kExitInterrupted;
  check_end(sender_);
  if (!arguments_.quiet) {
    char line[160];
    std::snprintf(line, sizeof line, "%s: %.1f s sent, %lld segments", sender_.stream().c_str(),
                  static_cast<double>(frames_) / input_.format().rate,
                  static_cast<long long>(sender_.closed()->at("finals").get<std::int64_t>()));
    print_note(line);
  }
  return interrupts_ > 0 ? kExitInterrupted : kExitOk;
}

void Sending::send_input() {
  bool connected = true;
  while (!at_end_ && interrupts_ == 0 && !sender_.closed()) {
    sender_.exchange();
    if (std::exchange(connected, sender_.connected()) && !connected && !arguments_.quiet)
      print_note("the connection is lost; waiting for the daemon");
    const auto due = until_due();
    const bool wanted = sender_.room() > 0 && !due;
    if (sender_.is_open() && Clock::now() - busy_ > kPingInterval) {
      sender_.ping();
      busy_ = Clock::now();
    } else {
      wait(wanted, due ? *due : kPingInterval);
    }
  }
  if (!piece_.empty() && !arguments_.quiet) print_note("the input ends within a sample, which is left out");
}

// What there is of the next piece.
void Sending::send_piece() {
  const SoundFormat& format = input_.format();
  const std::size_t frame = format.frame_bytes();
  std::size_t most = arguments_.fast ? std::max<std::size_t>(kPieceBytes / frame, 1)
                                     : static_cast<std::size_t>(format.rate / kPiecesASecond);
  most = std::min(most, static_cast<std::size_t>(sender_.room())) * frame;
  const std::size_t had = piece_.size();
  piece_.resize(most);
  const std::size_t got = input_.read(std::span(piece_).subspan(had));
  piece_.resize(had + got);
  at_end_ = got == 0;
  const std::size_t whole = piece_.size() / frame * frame;
  if (whole == 0) return;
  sender_.put(std::span(piece_).first(whole));
  piece_.erase(piece_.begin(), piece_.begin() + static_cast<std::ptrdiff_t>(whole));
  frames_ += static_cast<std::int64_t>(whole / frame);
  busy_ = Clock::now();
}

// Until the next piece would have been recorded; nothing: it has been.
std::optional<milliseconds> Sending::until_due() const {
  if (arguments_.fast) return std::nullopt;
  const std::int64_t rate = input_.format().rate;
  const auto due = start_ + std::chrono::microseconds((frames_ + rate / kPiecesASecond) * 1'000'000 / rate);
  const auto left = std::chrono::ceil<milliseconds>(due - Clock::now());
  return left.count() > 0 ? std::optional(left) : std::nullopt;
}

void Sending::wait(bool for_input, std::optional<milliseconds> longest) {
  std::vector<zmq::pollitem_t> items{signals_.poll_item()};
  sender_.add_poll_items(items);
  if (for_input) items.push_back({nullptr, input_.descriptor(), ZMQ_POLLIN, 0});
  if (const auto held = sender_.held_until(); held && *held > Clock::now()) {
    const auto left = std::chrono::ceil<milliseconds>(*held - Clock::now());
    longest = longest ? std::min(*longest, left) : left;
  }
  wait_for(items, longest);
  if (for_input && items.back().revents != 0) send_piece();
  for (int signal = signals_.take(); signal != 0; signal = signals_.take())
    if (signal != SIGWINCH) ++interrupts_;
}

}  // namespace

void add_send_command(CLI::App& app, std::function<int()>& run) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("send", "Send audio to a running daemon as a stream");
  command->add_option("FILE", arguments->file, "A WAV file, or - for standard input (WAV, or raw samples)")
      ->required();
  command->add_option("--stream", arguments->stream, "The stream's name (default: the daemon chooses one)")
      ->type_name("NAME");
  command->add_flag("--fast", arguments->fast, "As fast as the daemon takes it, not as it was spoken");
  command->add_flag("-q,--quiet", arguments->quiet, "Say nothing unless it fails");
  command->add_option("--rate", arguments->rate, "The input is raw samples at so many Hz")
      ->check(CLI::Range(8000, 192000).description(""))
      ->type_name("HZ");
  command
      ->add_option("--sample-format", arguments->sample_format,
                   "With --rate: u8, s16le (default), s24le, s32le, f32le or f64le")
      ->check([](const std::string& name) {
        return is_sample_format(name) ? std::string()
                                      : "must be u8, s16le, s24le, s32le, f32le or f64le, not " + name;
      })
      ->type_name("NAME");
  command->add_option("--channels", arguments->channels, "With --rate: channels (default 1)")
      ->check(CLI::Range(1, 32).description(""));
  command->add_option("--channel", arguments->channel, "Take this channel, from 1 (default: all mixed)")
      ->check(CLI::Range(1, 32).description(""))
      ->type_name("N");
  add_hotwords_option(*command, arguments->hotwords);
  add_address_option(*command, "ingest", arguments->addresses.ingest);
  add_key_options(*command, arguments->addresses);
  command->footer(
      "Waits until everything is transcribed and published. Ctrl-C closes the stream; again, it does not "
      "wait.\n"
      "Other formats: ffmpeg -i FILE -f wav - | sidewinder send - --stream NAME\n"
      "Exit codes: 0 all sent; 1 the input can't be read; 2 the command line is wrong; 8 no daemon answers;\n"
      "9 the daemon refused the stream or ended it; 130 interrupted.");
  command->callback([arguments, &run] {
    if (arguments->rate == 0 && (!arguments->sample_format.empty() || arguments->channels != 0))
      throw CLI::ValidationError("--sample-format, --channels", "describe raw samples, so give --rate too");
    run = [arguments] { return run_client([&] { return Sending(*arguments).run(); }); };
  });
}

}  // namespace sidewinder
