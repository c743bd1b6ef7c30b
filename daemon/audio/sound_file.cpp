// Sound files, through libsndfile.
#include <memory>
#include <string_view>

#include <sndfile.h>

#include "daemon/audio/audio_reader.h"

namespace sidewinder {
namespace {

struct CloseFile {
  void operator()(SNDFILE* file) const { sf_close(file); }
};

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '.' || text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// libsndfile mends a header that promises more than the file holds, and tells its log only.
bool log_says_truncated(SNDFILE* file) {
  std::string log(16384, '\0');
  int size = sf_command(file, SFC_GET_LOG_INFO, log.data(), static_cast<int>(log.size()));
  std::string_view text(log.data(), static_cast<std::size_t>(std::max(size, 0)));
  std::size_t data = text.find("data : ");
  if (data == std::string_view::npos) data = text.find("SSND : ");
  if (data == std::string_view::npos) return false;
  std::string_view line = text.substr(data, text.find('\n', data) - data);
  return line.find("should be") != std::string_view::npos;
}

class SoundFile final : public AudioReader {
 public:
  explicit SoundFile(const std::filesystem::path& path) {
    std::error_code error;
    auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw AudioError("no such file; check the path");
    if (std::filesystem::is_directory(status)) throw AudioError("a directory; give the files in it");
    if (std::filesystem::is_regular_file(status) && std::filesystem::file_size(path, error) == 0)
      throw AudioError("the file is empty; record or copy it again");
    SF_INFO info{};
    file_.reset(sf_open(path.c_str(), SFM_READ, &info));
    if (!file_)
      throw AudioError("not a sound file that libsndfile reads (" + trimmed(sf_strerror(nullptr)) +
                       "); convert it to WAV, FLAC, Ogg or MP3");
    std::optional<std::int64_t> expected;
    if (info.frames > 0 && info.frames < SF_COUNT_MAX) expected = info.frames;
    set_format(info.samplerate, info.channels, expected);
    cut_short_ = log_says_truncated(file_.get());
  }

  std::optional<std::string> defect() const override {
    if (cut_short_)
      return "the file is cut short: its header promises more than the " + std::to_string(frames_read()) +
             " frames it holds; copy it again";
    // Compressed formats only guess their length, within a block.
    constexpr std::int64_t kSlack = 8192;
    if (expected_frames() && frames_read() + kSlack < *expected_frames())
      return "the file is cut short or damaged: " + std::to_string(frames_read()) + " of " +
             std::to_string(*expected_frames()) + " frames could be read; copy it again";
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
  std::unique_ptr<SNDFILE, CloseFile> file_;
  bool cut_short_ = false;
};

}  // namespace

std::unique_ptr<AudioReader> open_sound_file(const std::filesystem::path& file) {
  return std::make_unique<SoundFile>(file);
}

}  // namespace sidewinder
