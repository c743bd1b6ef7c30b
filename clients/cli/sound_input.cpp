#include "clients/cli/sound_input.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "clients/cli/wire.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder::clients {
namespace {

constexpr std::pair<const char*, std::size_t> kSampleBytes[] = {{"u8", 1},    {"s16le", 2}, {"s24le", 3},
                                                                {"s32le", 4}, {"f32le", 4}, {"f64le", 8}};
// Writers that can't seek back leave a size of 0 or one near the limit.
constexpr std::uint32_t kUnknownSize = 0x7FFF0000;

std::uint32_t little_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
  return value;
}

bool is(std::span<const std::byte> bytes, const char* name) {
  return std::memcmp(bytes.data(), name, 4) == 0;
}

}  // namespace

std::size_t SoundFormat::frame_bytes() const {
  const auto known = std::find_if(std::begin(kSampleBytes), std::end(kSampleBytes),
                                  [&](const auto& entry) { return samples == entry.first; });
  return known->second * static_cast<std::size_t>(channels);
}

bool is_sample_format(const std::string& name) {
  return std::any_of(std::begin(kSampleBytes), std::end(kSampleBytes),
                     [&](const auto& entry) { return name == entry.first; });
}

SoundInput::SoundInput(const std::string& name, std::optional<SoundFormat> raw)
    : name_(name == "-" ? "standard input" : name),
      descriptor_(name == "-" ? STDIN_FILENO : ::open(name.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) throw ClientError(kExitInput, name_ + ": " + std::strerror(errno));
  try {
    if (raw)
      format_ = *raw;
    else
      read_header();
  } catch (...) {
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
    throw;
  }
}

SoundInput::~SoundInput() {
  if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
}

std::size_t SoundInput::read(std::span<std::byte> bytes) {
  std::size_t most = bytes.size();
  if (left_) most = static_cast<std::size_t>(std::min<std::uint64_t>(most, *left_));
  if (most == 0) return 0;
  ssize_t got = 0;
  while ((got = ::read(descriptor_, bytes.data(), most)) < 0 && errno == EINTR) {
  }
  if (got < 0) throw ClientError(kExitInput, name_ + ": " + std::strerror(errno));
  if (left_) *left_ = got == 0 ? 0 : *left_ - static_cast<std::uint64_t>(got);
  return static_cast<std::size_t>(got);
}

// Source: "Multimedia Programming Interface and Data Specifications 1.0" (1991) and mmreg.h's
// WAVEFORMATEXTENSIBLE.
void SoundInput::read_header() {
  std::array<std::byte, 12> riff;
  read_all(riff);
  if (!is(std::span(riff).first(4), "RIFF") || !is(std::span(riff).subspan(8), "WAVE"))
    throw ClientError(kExitInput,
                      name_ +
                          ": not WAV; convert it (ffmpeg -i FILE -f wav - | sidewinder send - ...), or "
                          "describe raw samples with --rate and --sample-format");
  for (bool described = false;;) {
    std::array<std::byte, 8> chunk;
    read_all(chunk);
    const std::uint32_t size = little_endian(std::span(chunk).subspan(4));
    if (is(chunk, "data")) {
      if (!described) throw ClientError(kExitInput, name_ + ": its header does not say what the samples are");
      if (size != 0 && size < kUnknownSize) left_ = size;
      return;
    }
    if (!is(chunk, "fmt ") || size < 16) {
      skip(std::uint64_t{size} + size % 2);
      continue;
    }
    std::array<std::byte, 40> fmt{};
    const std::size_t head = std::min<std::size_t>(size, fmt.size());
    read_all(std::span(fmt).first(head));
    skip(size - head + size % 2);
    const auto field = [&](std::size_t at, std::size_t bytes) {
      return little_endian(std::span(fmt).subspan(at, bytes));
    };
    std::uint32_t code = field(0, 2);
    if (code == 0xFFFE && head >= 26) code = field(24, 2);  // extensible: the subformat's
    const std::uint32_t bits = field(14, 2);
    format_.channels = static_cast<int>(field(2, 2));
    format_.rate = static_cast<int>(field(4, 4));
    if (code == 1 && bits % 8 == 0 && bits >= 8 && bits <= 32)
      format_.samples = bits == 8 ? "u8" : "s" + std::to_string(bits) + "le";
    else if (code == 3 && (bits == 32 || bits == 64))
      format_.samples = "f" + std::to_string(bits) + "le";
    else
      throw ClientError(kExitInput, name_ +
                                        ": a WAV format that is not plain PCM; convert it: ffmpeg -i FILE "
                                        "-c:a pcm_s16le OUT.wav");
    if (format_.channels < 1)
      throw ClientError(kExitInput, name_ + ": its header says that there are no channels");
    described = true;
  }
}

void SoundInput::read_all(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t got = read(bytes);
    if (got == 0) throw ClientError(kExitInput, name_ + ": ends within its WAV header");
    bytes = bytes.subspan(got);
  }
}

void SoundInput::skip(std::uint64_t bytes) {
  std::array<std::byte, 4096> scratch;
  for (; bytes > 0; bytes -= std::min<std::uint64_t>(bytes, scratch.size()))
    read_all(
        std::span(scratch).first(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, scratch.size()))));
}

}  // namespace sidewinder::clients
