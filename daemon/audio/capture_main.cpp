// sidewinder-capture: reads one capture device through PortAudio and writes it to standard output
// (capture_record.h). A process of its own, for PortAudio waits for minutes to close a device whose server is
// gone, and shows new devices only after all are closed: a process can be killed, and started again. usage:
// sidewinder-capture --list | sidewinder-capture RATE CHANNELS DEVICE     (0: the device's own; one)
#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <portaudio.h>
#include <unistd.h>

#include "daemon/audio/capture.h"
#include "daemon/audio/capture_record.h"
#include "daemon/live/clock.h"
#include "daemon/live/sample_ring.h"

namespace sidewinder {
namespace {

using live::now_ns;

constexpr std::int64_t kStallNs = 2'000'000'000;  // a device that does not call for so long is gone
constexpr double kMostLostS = 60;  // what one overflow can have cost; more is a clock that jumped
constexpr int kLookMs = 100;       // between looks at a device that does not call
constexpr std::size_t kBlockSamples = 8'192;

[[noreturn]] void fail(const std::string& what, PaError error) {
  std::string why = Pa_GetErrorText(error);
  if (error == paUnanticipatedHostError) {
    const PaHostErrorInfo* info = Pa_GetLastHostErrorInfo();
    if (info != nullptr && info->errorText != nullptr && *info->errorText != '\0') why = info->errorText;
  }
  throw CaptureError(what + ": " + why);
}

bool equal_but_case(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

bool contains(const std::string& name, const std::string& part) {
  return std::search(name.begin(), name.end(), part.begin(), part.end(), equal_but_case) != name.end();
}

std::vector<CaptureDevice> devices() {
  std::vector<CaptureDevice> found;
  PaDeviceIndex preferred = Pa_GetDefaultInputDevice();
  for (PaDeviceIndex index = 0; index < Pa_GetDeviceCount(); ++index) {
    const PaDeviceInfo* info = Pa_GetDeviceInfo(index);
    if (info->maxInputChannels <= 0) continue;
    if (preferred == paNoDevice) preferred = Pa_GetHostApiInfo(info->hostApi)->defaultInputDevice;
    found.push_back({.index = index,
                     .name = info->name,
                     .host = Pa_GetHostApiInfo(info->hostApi)->name,
                     .channels = info->maxInputChannels,
                     .rate = static_cast<int>(std::lround(info->defaultSampleRate)),
                     .is_default = index == preferred});
  }
  return found;
}

CaptureDevice choose(const std::string& wanted) {
  const std::vector<CaptureDevice> all = devices();
  if (all.empty()) throw CaptureError("there is no capture device; plug one in, or start its server");
  if (wanted.empty()) {
    auto preferred = std::find_if(all.begin(), all.end(), [](const auto& each) { return each.is_default; });
    return preferred == all.end() ? all.front() : *preferred;
  }
  int index = -1;
  const auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), index);
  const bool number = error == std::errc() && end == wanted.data() + wanted.size();
  std::vector<CaptureDevice> like;
  for (const CaptureDevice& each : all) {
    if (number ? each.index == index : each.name == wanted) return each;
    if (!number && contains(each.name, wanted)) like.push_back(each);
  }
  if (like.size() == 1) return like.front();
  std::string names;
  for (const CaptureDevice& each : like.empty() ? all : like)
    names += (names.empty() ? "" : ", ") + std::to_string(each.index) + " \"" + each.name + "\"";
  throw CaptureError("capture device \"" + wanted +
                     (like.empty() ? "\" is not there; there are " : "\" could be any of ") + names);
}

// Ends the process when nobody reads.
void write_all(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(STDOUT_FILENO, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) std::_Exit(0);
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void write_record(CaptureRecord record, const void* data, std::size_t bytes) {
  record.bytes = static_cast<std::uint32_t>(bytes);
  write_all(&record, sizeof record);
  write_all(data, bytes);
}

struct Loss {
  std::uint64_t position = 0;  // of the ring: before the sample there
  std::uint64_t frames = 0;
};

// An open device. Never destroyed: the process ends instead.
class Device {
 public:
  // Opens and starts it. Throws CaptureError.
  Device(const CaptureDevice& device, int rate, int channels);

  void copy_to_output();  // until the device is gone

 private:
  static int on_audio(const void* in, void*, unsigned long frames, const PaStreamCallbackTimeInfo* time,
                      PaStreamCallbackFlags flags, void* device) {
    static_cast<Device*>(device)->take(static_cast<const float*>(in), frames, (flags & paInputOverflow) != 0,
                                       time->inputBufferAdcTime);
    return paContinue;
  }
  void take(const float* samples, std::size_t frames, bool overflow, double recorded_s) noexcept;

  int rate_;
  int channels_;
  PaStream* stream_ = nullptr;
  live::SampleRing ring_;
  live::SpscRing<Loss> losses_{64};
  live::Wakeup filled_;
  std::atomic<std::int64_t> heard_ns_{now_ns()};  // when the device last called
  std::atomic<std::uint64_t> overruns_{0};
  // PortAudio's thread's:
  std::uint64_t untold_ = 0;  // frames lost since the last that was put
  double expected_s_ = 0;     // the device's time of the next sample; 0: not known
};

// The ring: two seconds, longer than any wait of the thread that copies.
Device::Device(const CaptureDevice& device, int rate, int channels)
    : rate_(rate > 0 ? rate : device.rate),
      channels_(channels > 0 ? channels : 1),
      ring_(static_cast<std::size_t>(2 * rate_ * device.channels)) {
  if (channels_ > device.channels)
    throw CaptureError("capture device \"" + device.name + "\" has " + std::to_string(device.channels) +
                       " channel(s), not " + std::to_string(channels_));
  PaStreamParameters parameters{.device = device.index,
                                .channelCount = channels_,
                                .sampleFormat = paFloat32,  // PortAudio converts whatever the device has
                                .suggestedLatency = Pa_GetDeviceInfo(device.index)->defaultLowInputLatency,
                                .hostApiSpecificStreamInfo = nullptr};
  const auto try_open = [&] {
    return Pa_OpenStream(&stream_, &parameters, nullptr, rate_, paFramesPerBufferUnspecified, paNoFlag,
                         &Device::on_audio, this);
  };
  PaError error = try_open();
  if (error == paInvalidChannelCount && channels == 0) {
    parameters.channelCount = channels_ = device.channels;
    error = try_open();
  }
  const std::string what = "capture device \"" + device.name + "\" at " + std::to_string(rate_) +
                           " Hz with " + std::to_string(channels_) + " channel(s)";
  if (error != paNoError) fail(what + " can't be opened", error);
  write_record({.kind = CaptureRecord::Opened, .rate = rate_, .channels = channels_}, device.name.data(),
               device.name.size());
  if (error = Pa_StartStream(stream_); error != paNoError) fail(what + " can't be started", error);
}

// In PortAudio's thread: neither locks, allocates nor waits.
void Device::take(const float* samples, std::size_t frames, bool overflow, double recorded_s) noexcept {
  heard_ns_.store(now_ns(), std::memory_order_relaxed);
  if (overflow) {
    // The device does not say how many: by its clock if it has one, else about a buffer.
    const double late_s = recorded_s > 0 && expected_s_ > 0 ? recorded_s - expected_s_ : 0;
    const bool known = late_s > 0 && late_s < kMostLostS;
    untold_ += known ? static_cast<std::uint64_t>(std::llround(late_s * rate_)) : frames;
    overruns_.fetch_add(1, std::memory_order_relaxed);
  }
  expected_s_ = recorded_s > 0 ? recorded_s + static_cast<double>(frames) / rate_ : 0;
  if (untold_ > 0 && losses_.push(Loss{ring_.written(), untold_})) untold_ = 0;
  if (samples == nullptr || untold_ > 0 ||
      !ring_.push(std::span(samples, frames * static_cast<std::size_t>(channels_)))) {
    untold_ += frames;
    overruns_.fetch_add(1, std::memory_order_relaxed);
  }
  filled_.raise();
}

void Device::copy_to_output() {
  std::vector<float> block(kBlockSamples / static_cast<std::size_t>(channels_) *
                           static_cast<std::size_t>(channels_));
  while (Pa_IsStreamActive(stream_) == 1 && now_ns() - heard_ns_ < kStallNs) {
    filled_.wait(kLookMs);
    while (true) {
      CaptureRecord record{.kind = CaptureRecord::Audio, .overruns = overruns_};
      std::uint64_t most = block.size();
      if (const Loss* loss = losses_.front(); loss != nullptr && loss->position == ring_.read()) {
        Loss taken;
        losses_.pop(std::span(&taken, 1));
        record.lost = taken.frames;
      }
      if (const Loss* loss = losses_.front()) most = std::min(most, loss->position - ring_.read());
      const std::size_t samples = ring_.pop(std::span(block).first(most));
      if (samples == 0 && record.lost == 0) break;
      write_record(record, block.data(), samples * sizeof(float));
    }
  }
}

int run(int argc, char** argv) {
  if (const PaError error = Pa_Initialize(); error != paNoError) fail("PortAudio can't be started", error);
  if (argc == 2 && std::string_view(argv[1]) == "--list") {
    std::string lines;
    for (const CaptureDevice& device : devices())
      lines += std::to_string(device.index) + '\t' + std::to_string(device.channels) + '\t' +
               std::to_string(device.rate) + '\t' + std::to_string(device.is_default) + '\t' + device.host +
               '\t' + device.name + '\n';
    write_record({.kind = CaptureRecord::Devices}, lines.data(), lines.size());
    return 0;
  }
  if (argc != 4) return 2;
  static Device device(choose(argv[3]), std::atoi(argv[1]), std::atoi(argv[2]));
  device.copy_to_output();
  return 1;
}

}  // namespace
}  // namespace sidewinder

// Ends without PortAudio's own farewell, which may wait for a server that is gone.
int main(int argc, char** argv) {
  int code = 1;
  try {
    code = sidewinder::run(argc, argv);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    sidewinder::write_record({.kind = sidewinder::CaptureRecord::Error}, text.data(), text.size());
  }
  std::_Exit(code);
}
