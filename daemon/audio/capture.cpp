#include "daemon/audio/capture.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/audio/capture_record.h"
#include "daemon/live/clock.h"
#include "daemon/live/sample_ring.h"

namespace sidewinder {
namespace {

using live::now_ns;

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kStallNs = 3 * kSecondNs;  // a process that says nothing for so long is killed
constexpr int kPatienceMs = 10'000;               // for the process to open its device

// A running sidewinder-capture and what it writes.
class Process {
 public:
  // Throws CaptureError: it can't be started.
  explicit Process(std::vector<std::string> arguments);
  ~Process() {
    ::kill(id_, SIGKILL);
    ::close(output_);
    while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Process(const Process&) = delete;

  // Waits for a record and what follows it. False: the process has ended, or writes nonsense, or nothing
  // came for `patience_ms` (-1: as long as it takes).
  bool read(CaptureRecord& record, std::vector<char>& data, int patience_ms);
  void kill() noexcept { ::kill(id_, SIGKILL); }  // any thread, while this lives

 private:
  bool read_all(void* into, std::size_t bytes, int patience_ms);

  pid_t id_ = -1;
  int output_ = -1;
};

Process::Process(std::vector<std::string> arguments) {
  const auto program =
      std::filesystem::read_symlink("/proc/self/exe").replace_filename("sidewinder-capture").string();
  arguments.insert(arguments.begin(), program);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw CaptureError(std::string("no pipe for a capture device: ") + std::strerror(errno));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  // ALSA and JACK write there whatever they do not find.
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  const int error = ::posix_spawn(&id_, program.c_str(), &actions, nullptr, pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  output_ = ends[0];
  if (error != 0) {
    ::close(output_);
    throw CaptureError(program + " can't be run: " + std::strerror(error) +
                       "; it belongs beside this program");
  }
}

bool Process::read(CaptureRecord& record, std::vector<char>& data, int patience_ms) {
  if (!read_all(&record, sizeof record, patience_ms) || record.bytes > CaptureRecord::kMostBytes)
    return false;
  data.resize(record.bytes);
  return read_all(data.data(), data.size(), patience_ms);
}

bool Process::read_all(void* into, std::size_t bytes, int patience_ms) {
  char* at = static_cast<char*>(into);
  while (bytes > 0) {
    pollfd item{output_, POLLIN, 0};
    const int ready = ::poll(&item, 1, patience_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t got = ::read(output_, at, bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

// The first record; throws CaptureError for none and for Error.
CaptureRecord first(Process& process, std::vector<char>& data) {
  CaptureRecord record;
  if (!process.read(record, data, kPatienceMs))
    throw CaptureError("sidewinder-capture ended without an answer, or gave none in " +
                       std::to_string(kPatienceMs / 1000) + " s; does the sound server hang?");
  if (record.kind == CaptureRecord::Error) throw CaptureError(std::string(data.begin(), data.end()));
  return record;
}

struct Loss {
  std::uint64_t position = 0;  // of the ring: before the sample there
  std::uint64_t frames = 0;
};

}  // namespace

// An open device: its process, and a thread that brings what it writes into a ring.
struct Capture::Device {
  Device(std::vector<std::string> arguments, live::Wakeup& wakeup)
      : process(std::move(arguments)), filled(wakeup) {
    const CaptureRecord opened = first(process, data);
    name.assign(data.begin(), data.end());
    rate = opened.rate;
    channels = opened.channels;
    ring.emplace(static_cast<std::size_t>(2 * rate * channels));
    reader = std::thread([this] { read(); });
  }
  ~Device() {
    process.kill();
    reader.join();
  }

  void read() noexcept;
  bool is_gone() const noexcept { return ended || now_ns() - heard_ns > kStallNs; }

  Process process;
  live::Wakeup& filled;
  std::vector<char> data;
  std::string name;
  int rate = 0;
  int channels = 0;
  std::optional<live::SampleRing> ring;
  live::SpscRing<Loss> losses{64};
  std::atomic<std::int64_t> heard_ns{now_ns()};  // when the process last wrote
  std::atomic<std::uint64_t> overruns{0};
  std::atomic<bool> ended{false};
  std::thread reader;
};

void Capture::Device::read() noexcept {
  CaptureRecord record;
  std::uint64_t untold = 0;  // frames lost since the last that was put
  std::uint64_t own = 0;     // overruns of this ring
  std::vector<float> samples(CaptureRecord::kMostBytes / sizeof(float));
  const std::size_t frame_bytes = static_cast<std::size_t>(channels) * sizeof(float);
  while (process.read(record, data, -1) && record.kind == CaptureRecord::Audio &&
         data.size() % frame_bytes == 0) {
    heard_ns.store(now_ns(), std::memory_order_relaxed);
    std::memcpy(samples.data(), data.data(), data.size());
    untold += record.lost;
    if (untold > 0 && losses.push(Loss{ring->written(), untold})) untold = 0;
    if (untold > 0 || !ring->push(std::span<const float>(samples).first(data.size() / sizeof(float)))) {
      untold += data.size() / frame_bytes;
      ++own;
    }
    overruns.store(record.overruns + own, std::memory_order_relaxed);
    filled.raise();
  }
  ended = true;
  filled.raise();
}

std::vector<CaptureDevice> list_capture_devices() {
  Process process({"--list"});
  std::vector<char> data;
  first(process, data);
  std::istringstream lines(std::string(data.begin(), data.end()));
  std::vector<CaptureDevice> devices;
  for (CaptureDevice device; lines >> device.index >> device.channels >> device.rate >> device.is_default;) {
    lines.ignore(1);
    std::getline(lines, device.host, '\t');
    std::getline(lines, device.name);
    devices.push_back(device);
  }
  return devices;
}

Capture::Capture(const Wanted& wanted)
    : rate_(wanted.rate), channels_(wanted.channels), filled_(std::make_unique<live::Wakeup>()) {
  open(wanted.device);
}

Capture::~Capture() {
  close();
}

void Capture::open(const std::string& device) {
  device_ = std::make_unique<Device>(
      std::vector<std::string>{std::to_string(rate_), std::to_string(channels_), device}, *filled_);
  name_ = device_->name;
  rate_ = device_->rate;
  channels_ = device_->channels;
}

Capture::Taken Capture::take(std::span<float> interleaved) {
  if (present()) {
    const std::size_t channels = static_cast<std::size_t>(channels_);
    std::uint64_t most = interleaved.size() / channels * channels;
    if (const Loss* loss = device_->losses.front()) {
      if (loss->position == device_->ring->read()) {
        Loss taken;
        device_->losses.pop(std::span(&taken, 1));
        return {.frames = 0, .lost = taken.frames};
      }
      most = std::min(most, loss->position - device_->ring->read());
    }
    if (const std::size_t samples = device_->ring->pop(interleaved.first(most)); samples > 0)
      return {.frames = samples / channels, .lost = 0};
    if (!device_->is_gone()) return {};
    away_since_ns_ = device_->heard_ns;
    away_told_ = 0;
    close();
    look_ns_ = now_ns() + kSecondNs;
    notice_ = "capture device \"" + name_ + "\" is gone; looking for it every second";
  }
  if (now_ns() >= look_ns_) look_for_it();
  const std::uint64_t lost = frames_since(away_since_ns_) - away_told_;
  if (!present() && lost < static_cast<std::uint64_t>(rate_)) return {};
  away_told_ += lost;
  return {.frames = 0, .lost = lost};
}

void Capture::look_for_it() {
  try {
    open(name_);
    notice_ = "capture device \"" + name_ + "\" is back";
  } catch (const CaptureError&) {
    look_ns_ = now_ns() + kSecondNs;
  }
}

void Capture::close() noexcept {
  if (device_ != nullptr) former_overruns_ += device_->overruns;
  device_.reset();
}

std::uint64_t Capture::frames_since(std::int64_t ns) const noexcept {
  const double seconds = static_cast<double>(now_ns() - ns) / static_cast<double>(kSecondNs);
  return static_cast<std::uint64_t>(std::max(0.0, seconds) * rate_);
}

std::uint64_t Capture::overruns() const noexcept {
  return former_overruns_ + (present() ? device_->overruns.load(std::memory_order_relaxed) : 0);
}

void Capture::wait(std::chrono::milliseconds longest) noexcept {
  filled_->wait(static_cast<int>(longest.count()));
}

std::optional<std::string> Capture::take_notice() {
  return std::exchange(notice_, std::nullopt);
}

}  // namespace sidewinder
