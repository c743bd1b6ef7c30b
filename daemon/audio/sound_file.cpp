// Sound files, through libsndfile.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <sndfile.h>
#include <unistd.h>

#include "daemon/audio/audio_reader.h"

namespace sidewinder {
namespace {

struct CloseFile {
  void operator()(SNDFILE* file) const { sf_close(file); }
};

// A file that is read as if its end were not in reach. The length that libsndfile gives an MP3 without a Xing
// header is a guess from the bit rate, and it stops reading there; unless the length can't be guessed.
class EndlessFile {
 public:
  explicit EndlessFile(const std::filesystem::path& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~EndlessFile() { ::close(descriptor_); }
  EndlessFile(const EndlessFile&) = delete;
  EndlessFile& operator=(const EndlessFile&) = delete;

  // Null if it is no sound file. This object must outlive the handle.
  SNDFILE* open(SF_INFO& info) {
    SF_VIRTUAL_IO io{.get_filelen = [](void*) -> sf_count_t { return SF_COUNT_MAX; },
                     .seek = [](sf_count_t offset, int whence, void* self) -> sf_count_t {
                       return whence == SEEK_END ? -1 : ::lseek(descriptor(self), offset, whence);
                     },
                     .read = [](void* into, sf_count_t bytes, void* self) -> sf_count_t {
                       return ::read(descriptor(self), into, static_cast<std::size_t>(bytes));
                     },
                     .write = [](const void*, sf_count_t, void*) -> sf_count_t { return 0; },
                     .tell = [](void* self) -> sf_count_t { return ::lseek(descriptor(self), 0, SEEK_CUR); }};
    return sf_open_virtual(&io, SFM_READ, &info, this);
  }

 private:
  static int descriptor(void* self) { return static_cast<EndlessFile*>(self)->descriptor_; }
  int descriptor_;
};

bool is_mp3(const SF_INFO& info) {
  return (info.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_MPEG;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '.' || text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// libsndfile mends a header that promises more than the file holds, and tells its log only:
// "data : 320000 (should be 160000)".
bool log_says_cut_short(SNDFILE* file) {
  std::string log(16384, '\0');
  int size = sf_command(file, SFC_GET_LOG_INFO, log.data(), static_cast<int>(log.size()));
  log.resize(static_cast<std::size_t>(std::clamp(size, 0, static_cast<int>(log.size()))));
  // The samples' chunk in WAV, AIFF and AU; the whole file in W64 and RF64.
  for (const char* key : {"data : ", "SSND : ", "Data Size   : ", "riff : ", "Riff size : "}) {
    std::size_t at = log.find(key);
    unsigned long long promised = 0, there = 0;
    if (at != std::string::npos &&
        std::sscanf(log.c_str() + at + std::strlen(key), "%llu (should be %llu)", &promised, &there) == 2)
      return promised > there && !wav_size_unknown(promised);
  }
  return false;
}

class SoundFile final : public AudioReader {
 public:
  explicit SoundFile(const std::filesystem::path& path) {
    std::error_code error;
    auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw AudioError("no such file; check the path");
    if (std::filesystem::is_directory(status)) throw AudioError("a directory; give the files in it");
    if (::access(path.c_str(), R_OK) != 0)
      throw AudioError(std::string(std::strerror(errno)) + "; check its permissions");
    if (std::filesystem::is_regular_file(status) && std::filesystem::file_size(path, error) == 0)
      throw AudioError("the file is empty; record or copy it again");
    SF_INFO info{};
    std::string why;
    if (std::filesystem::is_regular_file(status)) {
      endless_ = std::make_unique<EndlessFile>(path);
      file_.reset(endless_->open(info));
      // By its name alone the same file may be taken for an MP3, and the error be another.
      if (sf_error(nullptr) == SF_ERR_UNRECOGNISED_FORMAT) why = trimmed(sf_strerror(nullptr));
    }
    if (!file_ || !is_mp3(info)) {
      info = {};
      file_.reset(sf_open(path.c_str(), SFM_READ, &info));
      // One that begins inside a frame is found only this way.
      if (is_mp3(info)) slack_ = 8192;
    }
    if (why.empty()) why = trimmed(sf_strerror(nullptr));
    if (!file_)
      throw AudioError("not a sound file that libsndfile reads (" + why +
                       "); convert it to WAV, FLAC, Ogg or MP3");
    const bool known = info.frames > 0 && info.frames < SF_COUNT_MAX;
    set_format(info.samplerate, info.channels,
               known ? std::optional<std::int64_t>(info.frames) : std::nullopt);
    // An Ogg file's length is on its last page; a pipe can't be searched for it.
    no_end_ = endless_ && (info.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_OGG && !known;
    cut_short_ = log_says_cut_short(file_.get());
  }

  std::optional<std::string> defect() const override {
    if (cut_short_)
      return "the file is cut short: its header promises more than the " + std::to_string(frames_read()) +
             " frames it holds; copy it again";
    if (expected_frames() && (frames_read() + slack_ < *expected_frames() || sf_error(file_.get()) != 0))
      return "the file is cut short or damaged: " + std::to_string(frames_read()) + " of " +
             std::to_string(*expected_frames()) + " frames could be read; copy it again";
    if (no_end_ || sf_error(file_.get()) != 0)
      return "the file is cut short or damaged after frame " + std::to_string(frames_read()) +
             ", before its end mark; copy it again";
    if (frames_read() == 0) return "the file holds no samples; record or copy it again";
    return std::nullopt;
  }

 protected:
  std::size_t read_frames(std::span<float> interleaved) override {
    sf_count_t wanted = static_cast<sf_count_t>(interleaved.size()) / channels();
    return static_cast<std::size_t>(
        std::max<sf_count_t>(0, sf_readf_float(file_.get(), interleaved.data(), wanted)));
  }

 private:
  std::unique_ptr<EndlessFile> endless_;
  std::unique_ptr<SNDFILE, CloseFile> file_;
  std::int64_t slack_ = 0;  // frames that may be missing
  bool no_end_ = false;
  bool cut_short_ = false;
};

}  // namespace

std::unique_ptr<AudioReader> open_sound_file(const std::filesystem::path& file) {
  return std::make_unique<SoundFile>(file);
}

}  // namespace sidewinder
