#include "daemon/live/file_source.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "daemon/live/thread_name.h"

namespace sidewinder::live {
namespace {

constexpr int kBlocksASecond = 50;
constexpr std::chrono::milliseconds kRoomPoll(2);  // between looks at a full ring

}  // namespace

std::variant<std::unique_ptr<FileSource>, Refusal> FileSource::open(StreamTable& table, Wanted wanted) {
  std::unique_ptr<AudioReader> reader;
  std::error_code error;
  // A pipe or a device would hold up whoever opens it.
  if (!std::filesystem::is_regular_file(wanted.file, error))
    return Refusal{"bad_file", wanted.file.string() + ": not a file that the daemon can see"};
  try {
    reader = open_sound_file(wanted.file);
  } catch (const AudioError& bad) {
    return Refusal{"bad_file", wanted.file.string() + ": " + bad.what()};
  }
  if (wanted.channel > reader->channels())
    return Refusal{"bad_format", wanted.file.string() + ": it has " + std::to_string(reader->channels()) +
                                     " channel(s), not " + std::to_string(wanted.channel)};
  StreamInfo info{.name = wanted.name,
                  .source = SourceKind::File,
                  .file = wanted.file.string(),
                  .format = "file",
                  .rate = reader->rate(),
                  .channels = reader->channels(),
                  .channel = wanted.channel,
                  .owner = wanted.owner};
  auto opened = table.open(std::move(info), wanted.owner_streams, std::move(wanted.hotwords));
  if (auto* refusal = std::get_if<Refusal>(&opened)) return *refusal;
  Stream& stream = *std::get<Stream*>(opened);
  return std::unique_ptr<FileSource>(new FileSource(std::move(reader), stream, wanted.pace));
}

FileSource::FileSource(std::unique_ptr<AudioReader> reader, Stream& stream, Pace pace)
    : reader_(std::move(reader)), stream_(stream), info_(stream.info()), pace_(pace) {
  thread_ = std::thread([this] { play(); });
}

FileSource::~FileSource() {
  stop();
  thread_.join();
}

void FileSource::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  look_.notify_all();
}

void FileSource::look() {
  look_.notify_all();
}

bool FileSource::wait_until(std::chrono::steady_clock::time_point time) {
  std::unique_lock lock(mutex_);
  return !look_.wait_until(lock, time, [this] { return stopping_ || stream_.end_requested(); });
}

void FileSource::play() {
  name_thread("file");
  using Clock = std::chrono::steady_clock;
  const std::size_t channels = static_cast<std::size_t>(reader_->channels());
  const std::size_t frames =
      std::max<std::size_t>(1, static_cast<std::size_t>(reader_->rate() / kBlocksASecond));
  std::vector<float> block(frames * channels);
  const Clock::time_point start = Clock::now();
  EndReason reason = EndReason::End;
  std::string message = "the file ended";
  try {
    for (std::size_t got = reader_->read(block); got > 0; got = reader_->read(block)) {
      Clock::time_point due = Clock::now();
      if (pace_ == Pace::RealTime)  // a block is there once its last sample has been spoken
        due = start + std::chrono::microseconds(reader_->frames_read() * 1'000'000 / reader_->rate());
      bool go_on = wait_until(due);
      const auto samples = std::span<const float>(block).first(got * channels);
      while (go_on && !stream_.write(samples)) go_on = wait_until(Clock::now() + kRoomPoll);
      if (go_on) continue;
      const bool asked = stream_.end_requested();
      reason = asked ? EndReason::Control : EndReason::Shutdown;
      message = asked ? "closed through the control socket" : "the daemon stops";
      break;
    }
    if (reason == EndReason::End && reader_->defect()) message += ", but: " + *reader_->defect();
  } catch (const AudioError& error) {
    reason = EndReason::SourceFailed;
    message = error.what();
  }
  spdlog::info("stream {} ends: {}", info_.name, message);
  stream_.end(reason, std::move(message));
  finished_.store(true, std::memory_order_release);
}

}  // namespace sidewinder::live
