// A capture device as a live stream, on a thread of its own.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <variant>

#include "daemon/audio/capture.h"
#include "daemon/live/metrics.h"
#include "daemon/live/source.h"
#include "daemon/live/stream_table.h"

namespace sidewinder::live {

// What the device or its ring lost, and the time for which the device was away, goes into the stream as
// silence and is told as a gap.
class CaptureSource final : public Source {
 public:
  struct Wanted {
    Capture::Wanted capture;
    std::string name;                // of the stream; empty: chosen
    int channel = 0;                 // from 1, or 0 for the mix
    std::string owner{};             // StreamInfo's
    std::int64_t owner_streams = 0;  // StreamTable::open()'s
    FirstHotwords hotwords{};
  };

  // Opens the device and its stream and starts; `table` and `metrics` must outlive it.
  static std::variant<std::unique_ptr<CaptureSource>, Refusal> open(StreamTable& table, Metrics& metrics,
                                                                    Wanted wanted);
  ~CaptureSource() override;

  void stop() override { stopping_ = true; }
  void look() override {}  // it looks often
  bool finished() const override { return finished_.load(std::memory_order_acquire); }
  const StreamInfo& info() const override { return info_; }

 private:
  CaptureSource(std::unique_ptr<Capture> capture, Stream& stream, Metrics& metrics);
  void record();
  bool goes_on() const { return !stopping_ && !stream_.end_requested(); }
  void write(std::span<const float> samples);
  void write_gap(std::uint64_t frames);
  void tell();

  std::unique_ptr<Capture> capture_;
  Stream& stream_;
  Metrics& metrics_;
  const StreamInfo info_;
  std::uint64_t told_overruns_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

}  // namespace sidewinder::live
