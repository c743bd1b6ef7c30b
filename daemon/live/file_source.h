// A sound file as a live stream, on a thread of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>

#include "daemon/audio/audio_reader.h"
#include "daemon/live/source.h"
#include "daemon/live/stream_table.h"

namespace sidewinder::live {

enum class Pace { RealTime, Fast };

class FileSource final : public Source {
 public:
  struct Wanted {
    std::filesystem::path file;
    Pace pace = Pace::RealTime;
    std::string name;                // empty: chosen
    int channel = 0;                 // from 1, or 0 for the mix
    std::string owner{};             // StreamInfo's
    std::int64_t owner_streams = 0;  // StreamTable::open()'s
    FirstHotwords hotwords{};
  };

  // Opens the file and its stream and starts to play; `table` must outlive it.
  static std::variant<std::unique_ptr<FileSource>, Refusal> open(StreamTable& table, Wanted wanted);

  ~FileSource() override;

  void stop() override;
  void look() override;
  bool finished() const override { return finished_.load(std::memory_order_acquire); }
  const StreamInfo& info() const override { return info_; }

 private:
  FileSource(std::unique_ptr<AudioReader> reader, Stream& stream, Pace pace);
  void play();
  bool wait_until(std::chrono::steady_clock::time_point time);  // false: it is to end

  std::unique_ptr<AudioReader> reader_;
  Stream& stream_;
  const StreamInfo info_;
  const Pace pace_;
  std::mutex mutex_;
  std::condition_variable look_;
  bool stopping_ = false;
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

}  // namespace sidewinder::live
