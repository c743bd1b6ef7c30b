// Microphones and other capture devices, through PortAudio.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/live/wakeup.h"

namespace sidewinder {

// what() names the device, what is wrong and what to do.
struct CaptureError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct CaptureDevice {
  int index = 0;  // PortAudio's, of this moment: it may change when devices come and go
  std::string name;
  std::string host;  // "ALSA", "JACK Audio Connection Kit", ...
  int channels = 0;  // at most
  int rate = 0;      // Hz, its own
  bool is_default = false;
};

// Those that are there now; any thread. Throws CaptureError.
std::vector<CaptureDevice> list_capture_devices();

// One device, from opening to destruction, through its absences. The device's thread puts samples into a
// ring, and neither locks, allocates nor waits. What it could not put, or the device says it lost, is told in
// its place; so is the time for which the device was away (unplugged, its server stopped), a second at a
// time, while it is looked for by name every second. So frames taken and frames lost add up to the time since
// the opening.
//
// The device is read by a process of its own, sidewinder-capture, which lies beside the program: PortAudio
// can wait for minutes to close a device whose server is gone, and a process can be killed.
//
// Thread rule: one thread.
class Capture {
 public:
  struct Wanted {
    std::string device;  // its index, its name, or a part of its name that no other has; empty: the default
    int rate = 0;        // Hz; 0: the device's own
    int channels = 0;    // 0: one, or else all that it has
  };

  // Opens and starts it. Throws CaptureError.
  explicit Capture(const Wanted& wanted);
  ~Capture();
  Capture(const Capture&) = delete;

  const std::string& device() const noexcept { return name_; }
  int rate() const noexcept { return rate_; }          // Hz
  int channels() const noexcept { return channels_; }  // interleaved

  struct Taken {
    std::size_t frames = 0;  // written to the caller's buffer
    std::uint64_t lost = 0;  // or frames that should have come at this place, and never will
  };
  // What comes next, as much of it as fits into `interleaved` (whole frames of samples in [-1, 1]); nothing
  // when there is nothing yet. Looks for a device that is away.
  Taken take(std::span<float> interleaved);

  // Waits until there may be something to take, at most so long.
  void wait(std::chrono::milliseconds longest) noexcept;
  int descriptor() const noexcept { return filled_->descriptor(); }  // readable when there is; see wait()

  bool present() const noexcept { return device_ != nullptr; }
  // How often the device or this class lost samples while the device was there.
  std::uint64_t overruns() const noexcept;
  // What has happened to the device since the last call, for a log.
  std::optional<std::string> take_notice();

 private:
  struct Device;

  void open(const std::string& device);  // sets the format that is still open; throws CaptureError
  void close() noexcept;
  void look_for_it();
  std::uint64_t frames_since(std::int64_t ns) const noexcept;

  std::string name_;
  int rate_;
  int channels_;
  std::unique_ptr<live::Wakeup> filled_;  // raised by whatever device there is
  std::unique_ptr<Device> device_;        // null while it is away

  std::uint64_t former_overruns_ = 0;  // before the device went away
  std::int64_t away_since_ns_ = 0;
  std::uint64_t away_told_ = 0;  // frames, of this absence
  std::int64_t look_ns_ = 0;     // when to look for it again
  std::optional<std::string> notice_;
};

}  // namespace sidewinder
