// PCM from a descriptor: standard input, mostly.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include "daemon/audio/audio_reader.h"

namespace sidewinder {
namespace {

class PcmStream final : public AudioReader {
 public:
  PcmStream(int descriptor, std::optional<PcmFormat> raw, int stop)
      : descriptor_(descriptor), stop_(stop), raw_(raw.has_value()) {
    std::optional<std::uint64_t> bytes;
    if (raw) {
      format_ = *raw;
    } else {
      WavHeader header = read_wav_header([this](std::span<std::byte> into) { return read_bytes(into); });
      format_ = header.format;
      bytes = header.data_bytes;
    }
    frame_bytes_ = sample_bytes(format_.samples) * static_cast<std::size_t>(std::max(format_.channels, 0));
    std::optional<std::int64_t> expected;
    if (bytes && frame_bytes_ > 0) expected = static_cast<std::int64_t>(*bytes / frame_bytes_);
    set_format(format_.rate, format_.channels, expected);
  }

  std::optional<std::string> defect() const override {
    // Without a header it is more likely that the format is another one.
    if (raw_ && odd_bytes_ > 0)
      return "the stream ends inside a frame, " + std::to_string(odd_bytes_) +
             (odd_bytes_ == 1 ? " byte" : " bytes") +
             " past the last whole one; check --sample-format and --channels, or send it again";
    if (expected_frames() && frames_read() < *expected_frames())
      return "the stream is cut short: " + std::to_string(frames_read()) + " of the " +
             std::to_string(*expected_frames()) + " frames that its header promises; send it again";
    if (frames_read() == 0) return "the stream holds no samples; check what is written to it";
    return std::nullopt;
  }

 protected:
  std::size_t read_frames(std::span<float> interleaved) override {
    std::size_t frames = interleaved.size() / static_cast<std::size_t>(channels());
    // What follows the samples of a WAV stream (tags, mostly) is not sound.
    if (expected_frames()) frames = std::min<std::size_t>(frames, *expected_frames() - frames_read());
    bytes_.resize(frames * frame_bytes_);
    std::size_t got = read_bytes(bytes_);
    if (got > 0) odd_bytes_ = got % frame_bytes_;  // and nothing follows, unless it is 0
    frames = got / frame_bytes_;
    decode_pcm(format_.samples, std::span(bytes_).first(frames * frame_bytes_),
               interleaved.first(frames * static_cast<std::size_t>(channels())));
    return frames;
  }

 private:
  std::size_t read_bytes(std::span<std::byte> into) {
    std::size_t got = 0;
    while (got < into.size()) {
      // Not left to EINTR: a signal just before a read() would be missed, and the read wait for ever.
      pollfd either[] = {{descriptor_, POLLIN, 0}, {stop_, POLLIN, 0}};
      ssize_t count = ::poll(either, 2, -1);
      if (count >= 0 && either[1].revents != 0) break;  // what came so far is transcribed
      if (count >= 0) count = ::read(descriptor_, into.data() + got, into.size() - got);
      if (count == 0) break;
      if (count < 0 && errno == EINTR) continue;
      if (count < 0)
        throw AudioError(std::string("can't be read: ") + std::strerror(errno) +
                         "; check what is connected to it");
      got += static_cast<std::size_t>(count);
    }
    return got;
  }

  int descriptor_;
  int stop_;
  bool raw_;
  PcmFormat format_;
  std::size_t frame_bytes_ = 0;
  std::size_t odd_bytes_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace

std::unique_ptr<AudioReader> open_pcm_stream(int descriptor, std::optional<PcmFormat> raw, int stop) {
  return std::make_unique<PcmStream>(descriptor, raw, stop);
}

}  // namespace sidewinder
