#include "daemon/live/capture_source.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "daemon/live/thread_name.h"

namespace sidewinder::live {
namespace {

constexpr std::size_t kBlockFrames = 1'024;
constexpr std::chrono::milliseconds kLook(50);     // between looks at stop() and at the device
constexpr std::chrono::milliseconds kRoomPoll(5);  // between looks at a full ring

}  // namespace

std::variant<std::unique_ptr<CaptureSource>, Refusal> CaptureSource::open(StreamTable& table,
                                                                          Metrics& metrics, Wanted wanted) {
  std::unique_ptr<Capture> capture;
  try {
    capture = std::make_unique<Capture>(wanted.capture);
  } catch (const CaptureError& bad) {
    return Refusal{"bad_device", bad.what()};
  }
  if (wanted.channel > capture->channels())
    return Refusal{"bad_format", "capture device \"" + capture->device() + "\" is opened with " +
                                     std::to_string(capture->channels()) + " channel(s), not " +
                                     std::to_string(wanted.channel)};
  StreamInfo info{.name = wanted.name,
                  .source = SourceKind::Device,
                  .file = capture->device(),
                  .format = "device",
                  .rate = capture->rate(),
                  .channels = capture->channels(),
                  .channel = wanted.channel,
                  .owner = wanted.owner};
  auto opened = table.open(std::move(info), wanted.owner_streams, std::move(wanted.hotwords));
  if (auto* refusal = std::get_if<Refusal>(&opened)) return *refusal;
  return std::unique_ptr<CaptureSource>(
      new CaptureSource(std::move(capture), *std::get<Stream*>(opened), metrics));
}

CaptureSource::CaptureSource(std::unique_ptr<Capture> capture, Stream& stream, Metrics& metrics)
    : capture_(std::move(capture)), stream_(stream), metrics_(metrics), info_(stream.info()) {
  thread_ = std::thread([this] { record(); });
}

CaptureSource::~CaptureSource() {
  stop();
  thread_.join();
}

void CaptureSource::record() {
  name_thread("capture");
  const auto channels = static_cast<std::size_t>(capture_->channels());
  std::vector<float> block(kBlockFrames * channels);
  while (goes_on()) {
    const Capture::Taken taken = capture_->take(block);
    if (taken.frames > 0)
      write(std::span<const float>(block).first(taken.frames * channels));
    else if (taken.lost > 0)
      write_gap(taken.lost);
    else
      capture_->wait(kLook);
    tell();
  }
  const bool asked = stream_.end_requested();
  std::string message = asked ? "closed through the control socket" : "the daemon stops";
  spdlog::info("stream {} ends: {}", info_.name, message);
  stream_.end(asked ? EndReason::Control : EndReason::Shutdown, std::move(message));
  finished_.store(true, std::memory_order_release);
}

// While the engine is behind and its ring is full, the device's own ring fills, and then overruns.
void CaptureSource::write(std::span<const float> samples) {
  while (!stream_.write(samples) && goes_on()) std::this_thread::sleep_for(kRoomPoll);
}

void CaptureSource::write_gap(std::uint64_t frames) {
  while (frames > 0 && goes_on()) {
    const std::uint64_t part = std::min(frames, stream_.credit() - stream_.accepted_frames());
    if (part > 0 && stream_.write_gap(part, GapReason::Source))
      frames -= part;
    else
      std::this_thread::sleep_for(kRoomPoll);
  }
}

void CaptureSource::tell() {
  if (auto notice = capture_->take_notice()) spdlog::warn("stream {}: {}", info_.name, *notice);
  const std::uint64_t overruns = capture_->overruns();
  if (overruns == told_overruns_) return;
  for (; told_overruns_ < overruns; ++told_overruns_) metrics_.drop("capture_overrun");
  spdlog::warn("stream {}: samples of \"{}\" were lost; {} overrun(s) so far", info_.name, info_.file,
               overruns);
}

}  // namespace sidewinder::live
