// Plain PCM: sample formats, and the header of a WAV stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace sidewinder {

// Little-endian, interleaved.
enum class SampleFormat { U8, S16, S24, S32, F32, F64 };

// "u8", "s16le", "s24le", "s32le", "f32le", "f64le", as ffmpeg names them; nothing for any other text.
std::optional<SampleFormat> parse_sample_format(const std::string& name);
std::size_t sample_bytes(SampleFormat format);

struct PcmFormat {
  SampleFormat samples = SampleFormat::S16;
  int rate = 0;  // Hz
  int channels = 1;
};

// Integers become value / 2^(bits - 1) (U8: (value - 128) / 128); floats stay as they are.
// bytes.size() is out.size() * sample_bytes(format).
void decode_pcm(SampleFormat format, std::span<const std::byte> bytes, std::span<float> out);

// Reads exactly as many bytes as asked for, or fewer where the input ends; returns how many.
using ByteSource = std::function<std::size_t(std::span<std::byte>)>;

// Writers that can't seek back leave a data size of 0 or one near their limit, 2 or 4 GiB.
bool wav_size_unknown(std::uint64_t bytes);

struct WavHeader {
  PcmFormat format;
  std::optional<std::uint64_t> data_bytes;  // nothing when the writer did not know
};

// Reads from the start of a RIFF/WAVE stream up to its first sample, without seeking: PCM of 8 to 32 bits,
// IEEE float, and WAVE_FORMAT_EXTENSIBLE of these. Throws AudioError (audio_reader.h) for anything else.
// Source: "Multimedia Programming Interface and Data Specifications 1.0" (1991) and mmreg.h's
// WAVEFORMATEXTENSIBLE.
WavHeader read_wav_header(const ByteSource& source);

}  // namespace sidewinder
