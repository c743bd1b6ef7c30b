#include "daemon/audio/pcm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "daemon/audio/audio_reader.h"

namespace sidewinder {
namespace {

static_assert(std::endian::native == std::endian::little, "PCM streams are little-endian");

struct FormatRow {
  SampleFormat format;
  const char* name;
  std::size_t bytes;
};
constexpr std::array<FormatRow, 6> kFormats{{{SampleFormat::U8, "u8", 1},
                                             {SampleFormat::S16, "s16le", 2},
                                             {SampleFormat::S24, "s24le", 3},
                                             {SampleFormat::S32, "s32le", 4},
                                             {SampleFormat::F32, "f32le", 4},
                                             {SampleFormat::F64, "f64le", 8}}};

template <typename T>
T read_number(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T, typename Convert>
void decode(std::span<const std::byte> bytes, std::span<float> out, Convert&& convert) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = convert(read_number<T>(bytes.data() + i * sizeof(T)));
}

float from_s24(const std::byte* from) {
  auto byte = [&](int i) { return static_cast<std::uint32_t>(from[i]); };
  // In the upper three bytes, so that the sign is where int32 has it.
  auto value = static_cast<std::int32_t>(byte(0) << 8 | byte(1) << 16 | byte(2) << 24);
  return static_cast<float>(value) / 2147483648.0f;
}

void read_exactly(const ByteSource& source, std::span<std::byte> into) {
  if (source(into) != into.size()) throw AudioError("the WAV header is cut short; record or copy it again");
}

void skip(const ByteSource& source, std::uint64_t bytes) {
  std::array<std::byte, 4096> sink;
  while (bytes > 0) {
    std::size_t part = std::min<std::uint64_t>(bytes, sink.size());
    read_exactly(source, std::span(sink).first(part));
    bytes -= part;
  }
}

// An endless stream of empty chunks must not be read for ever; real files have fewer than ten.
constexpr int kMostChunks = 1024;

constexpr std::uint16_t kPcm = 1, kFloat = 3, kExtensible = 0xFFFE;

PcmFormat parse_format_chunk(std::span<const std::byte> chunk) {
  auto tag = read_number<std::uint16_t>(chunk.data());
  auto channels = read_number<std::uint16_t>(chunk.data() + 2);
  auto rate = read_number<std::uint32_t>(chunk.data() + 4);
  auto block = read_number<std::uint16_t>(chunk.data() + 12);
  auto bits = read_number<std::uint16_t>(chunk.data() + 14);
  // The sub-format's first two bytes are the tag that the extension stands for.
  if (tag == kExtensible && chunk.size() >= 26) tag = read_number<std::uint16_t>(chunk.data() + 24);

  PcmFormat format;
  if (tag == kPcm && bits == 8)
    format.samples = SampleFormat::U8;
  else if (tag == kPcm && bits == 16)
    format.samples = SampleFormat::S16;
  else if (tag == kPcm && bits == 24)
    format.samples = SampleFormat::S24;
  else if (tag == kPcm && bits == 32)
    format.samples = SampleFormat::S32;
  else if (tag == kFloat && bits == 32)
    format.samples = SampleFormat::F32;
  else if (tag == kFloat && bits == 64)
    format.samples = SampleFormat::F64;
  else
    throw AudioError("WAV of format " + std::to_string(tag) + " with " + std::to_string(bits) +
                     " bits can't be streamed; convert it to 16-bit PCM, or give the file by name");
  if (channels == 0) throw AudioError("the WAV header says 0 channels; record or copy it again");
  if (block != channels * sample_bytes(format.samples))
    throw AudioError(
        "the WAV header's block size does not fit its channels and bits; record or copy it again");
  format.rate = static_cast<int>(std::min<std::uint32_t>(rate, INT32_MAX));
  format.channels = channels;
  return format;
}

}  // namespace

std::optional<SampleFormat> parse_sample_format(const std::string& name) {
  for (const FormatRow& row : kFormats)
    if (name == row.name) return row.format;
  return std::nullopt;
}

std::size_t sample_bytes(SampleFormat format) {
  return std::find_if(kFormats.begin(), kFormats.end(),
                      [&](const FormatRow& row) { return row.format == format; })
      ->bytes;
}

void decode_pcm(SampleFormat format, std::span<const std::byte> bytes, std::span<float> out) {
  switch (format) {
    case SampleFormat::U8:
      decode<std::uint8_t>(bytes, out, [](int v) { return static_cast<float>(v - 128) / 128.0f; });
      break;
    case SampleFormat::S16:
      decode<std::int16_t>(bytes, out, [](int v) { return static_cast<float>(v) / 32768.0f; });
      break;
    case SampleFormat::S24:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = from_s24(bytes.data() + 3 * i);
      break;
    case SampleFormat::S32:
      decode<std::int32_t>(bytes, out, [](std::int32_t v) { return static_cast<float>(v) / 2147483648.0f; });
      break;
    case SampleFormat::F32:
      decode<float>(bytes, out, [](float v) { return v; });
      break;
    case SampleFormat::F64:
      decode<double>(bytes, out, [](double v) { return static_cast<float>(v); });
      break;
  }
}

bool wav_size_unknown(std::uint64_t bytes) {
  // sox: 0x7FFFF000, arecord: 0x80000000, ffmpeg: 0xFFFFFFFF; each rounded to whole frames by some.
  auto just_below = [&](std::uint64_t limit) { return bytes <= limit && limit - bytes <= 8192; };
  return bytes == 0 || just_below(0x8000'0000u) || just_below(0xFFFF'FFFFu);
}

WavHeader read_wav_header(const ByteSource& source) {
  std::array<std::byte, 12> riff;
  std::size_t got = source(riff);
  if (got == 0) throw AudioError("the stream is empty; check what is written to it");
  if (got != riff.size() || std::memcmp(riff.data(), "RIFF", 4) != 0 ||
      std::memcmp(riff.data() + 8, "WAVE", 4) != 0)
    throw AudioError("not a WAV stream; for samples without a header give --rate and --sample-format");
  std::optional<PcmFormat> format;
  for (int chunks = 0; chunks < kMostChunks; ++chunks) {
    std::array<std::byte, 8> head;
    read_exactly(source, head);
    auto size = read_number<std::uint32_t>(head.data() + 4);
    if (std::memcmp(head.data(), "data", 4) == 0) {
      if (!format) throw AudioError("the WAV stream has samples before its format; record or copy it again");
      return {*format, wav_size_unknown(size) ? std::nullopt : std::optional<std::uint64_t>(size)};
    }
    if (std::memcmp(head.data(), "fmt ", 4) == 0) {
      std::array<std::byte, 40> chunk{};
      if (size < 16) throw AudioError("the WAV header's format is cut short; record or copy it again");
      std::size_t used = std::min<std::size_t>(size, chunk.size());
      read_exactly(source, std::span(chunk).first(used));
      skip(source, size - used + size % 2);
      format = parse_format_chunk(std::span(chunk).first(used));
    } else {
      skip(source, static_cast<std::uint64_t>(size) + size % 2);
    }
  }
  throw AudioError("the WAV stream has no samples in its first " + std::to_string(kMostChunks) +
                   " chunks; record or copy it again");
}

}  // namespace sidewinder
