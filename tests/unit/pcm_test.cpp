// PCM samples, the header of a WAV stream, and streams on a descriptor.
#include "daemon/audio/pcm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/audio/audio_reader.h"
#include "tests/unit/bytes.h"

namespace sidewinder {
namespace {

Bytes chunk(const Bytes& id, const Bytes& body) {
  return id + little(static_cast<std::uint32_t>(body.size())) + body + Bytes(body.size() % 2, '\0');
}

Bytes format_body(int tag, int channels, int rate, int bits) {
  int block = channels * bits / 8;
  return little<std::uint16_t>(tag) + little<std::uint16_t>(channels) + little<std::uint32_t>(rate) +
         little<std::uint32_t>(rate * block) + little<std::uint16_t>(block) + little<std::uint16_t>(bits);
}

Bytes format_chunk(int tag, int channels, int rate, int bits) {
  return chunk("fmt ", format_body(tag, channels, rate, bits));
}

// Up to the first sample.
Bytes wav_head(const Bytes& chunks, std::uint32_t data_size) {
  return "RIFF" + little<std::uint32_t>(0) + "WAVE" + chunks + "data" + little(data_size);
}

ByteSource source_of(const Bytes& bytes, std::size_t& at) {
  return [&bytes, &at](std::span<std::byte> into) {
    std::size_t count = std::min(into.size(), bytes.size() - at);
    std::memcpy(into.data(), bytes.data() + at, count);
    at += count;
    return count;
  };
}

WavHeader header_of(const Bytes& bytes) {
  std::size_t at = 0;
  WavHeader header = read_wav_header(source_of(bytes, at));
  EXPECT_EQ(at, bytes.size()) << "the source must stand at the first sample";
  return header;
}

std::string header_error(const Bytes& bytes) {
  std::size_t at = 0;
  try {
    read_wav_header(source_of(bytes, at));
  } catch (const AudioError& error) {
    return error.what();
  }
  return "no error";
}

std::vector<float> decoded(SampleFormat format, const Bytes& bytes) {
  std::vector<float> out(bytes.size() / sample_bytes(format));
  decode_pcm(format, std::as_bytes(std::span(bytes)), out);
  return out;
}

TEST(SampleFormats, NamesAndSizes) {
  const std::vector<std::pair<std::string, std::size_t>> formats{{"u8", 1},    {"s16le", 2}, {"s24le", 3},
                                                                 {"s32le", 4}, {"f32le", 4}, {"f64le", 8}};
  for (const auto& [name, bytes] : formats) {
    ASSERT_TRUE(parse_sample_format(name)) << name;
    EXPECT_EQ(sample_bytes(*parse_sample_format(name)), bytes) << name;
  }
  for (const char* other : {"", "s16", "S16LE", "s16be", "f16le", "u8 "})
    EXPECT_FALSE(parse_sample_format(other)) << other;
}

TEST(DecodePcm, EndsAndMiddleOfEachFormat) {
  EXPECT_EQ(decoded(SampleFormat::U8, Bytes("\0\x80\xFF", 3)), (std::vector<float>{-1, 0, 127.0f / 128}));
  EXPECT_EQ(decoded(SampleFormat::S16, little<std::int16_t>(-32768) + little<std::int16_t>(1)),
            (std::vector<float>{-1, 1.0f / 32768}));
  EXPECT_EQ(decoded(SampleFormat::S24, Bytes("\0\0\x80\xFF\xFF\x7F\xFF\xFF\xFF\x01\0\0", 12)),
            (std::vector<float>{-1, 8388607.0f / 8388608, -1.0f / 8388608, 1.0f / 8388608}));
  EXPECT_EQ(decoded(SampleFormat::S32, little<std::int32_t>(INT32_MIN) + little<std::int32_t>(1 << 30)),
            (std::vector<float>{-1, 0.5f}));
  EXPECT_EQ(decoded(SampleFormat::F32, little(0.1f) + little(-2.5f)), (std::vector<float>{0.1f, -2.5f}));
  EXPECT_EQ(decoded(SampleFormat::F64, little(0.1) + little(1e300)),
            (std::vector<float>{0.1f, std::numeric_limits<float>::infinity()}));
}

TEST(DecodePcm, WiderFormatsOfOneSampleAreTheSameFloat) {
  for (int value : {-32768, -12345, -1, 0, 1, 77, 32767}) {
    float expected = decoded(SampleFormat::S16, little<std::int16_t>(value))[0];
    auto s32 = little<std::int32_t>(value * 65536);
    EXPECT_EQ(decoded(SampleFormat::S32, s32)[0], expected);
    EXPECT_EQ(decoded(SampleFormat::S24, s32.substr(1))[0], expected);
  }
}

TEST(WavHeader, EachFormat) {
  struct Case {
    int tag, bits;
    SampleFormat samples;
  };
  for (const Case& c :
       {Case{1, 8, SampleFormat::U8}, Case{1, 16, SampleFormat::S16}, Case{1, 24, SampleFormat::S24},
        Case{1, 32, SampleFormat::S32}, Case{3, 32, SampleFormat::F32}, Case{3, 64, SampleFormat::F64}}) {
    WavHeader header = header_of(wav_head(format_chunk(c.tag, 3, 44100, c.bits), 960));
    EXPECT_EQ(header.format.samples, c.samples);
    EXPECT_EQ(header.format.rate, 44100);
    EXPECT_EQ(header.format.channels, 3);
    EXPECT_EQ(header.data_bytes, 960u);
  }
}

TEST(WavHeader, ExtensibleNamesItsFormatInside) {
  // Size of the extension, valid bits, channel mask, and the sub-format's GUID, which begins with the tag.
  Bytes extension = little<std::uint16_t>(22) + little<std::uint16_t>(24) + little<std::uint32_t>(3) +
                    little<std::uint16_t>(1) + Bytes(14, '\x11');
  Bytes body = format_body(0xFFFE, 2, 48000, 24) + extension;
  EXPECT_EQ(header_of(wav_head(chunk("fmt ", body), 6)).format.samples, SampleFormat::S24);
  EXPECT_NE(header_error(wav_head(chunk("fmt ", format_body(0xFFFE, 2, 48000, 24)), 6)).find("65534"),
            std::string::npos)
      << "without the extension the tag stands for nothing";
}

TEST(WavHeader, OtherChunksAreSkipped) {
  Bytes odd = chunk("LIST", "INFOISFT!");
  Bytes large = chunk("junk", Bytes(100'001, 'j'));
  Bytes odd_format = chunk("fmt ", format_body(1, 1, 8000, 16) + "x");
  EXPECT_EQ(header_of(wav_head(odd_format + odd, 2)).format.rate, 8000);
  EXPECT_EQ(header_of(wav_head(large + format_chunk(1, 1, 8000, 16) + odd + odd, 2)).format.rate, 8000);
}

TEST(WavHeader, SizesThatWritersLeaveWhenTheyCannotSeekBack) {
  auto known = [](std::uint32_t size) {
    return header_of(wav_head(format_chunk(1, 1, 16000, 16), size)).data_bytes.has_value();
  };
  // sox, arecord, ffmpeg, and each of them in whole frames of 12 bytes.
  for (std::uint32_t size : {0u, 0x7FFF'F000u, 0x8000'0000u, 0x7FFF'FFFFu, 0xFFFF'FFFFu, 0xFFFF'FFF0u,
                             0x7FFF'F000u / 12 * 12, 0xFFFF'FFFFu / 12 * 12})
    EXPECT_FALSE(known(size)) << std::hex << size;
  for (std::uint32_t size : {1u, 2u, 0x7000'0000u, 0x8000'0001u, 0xF000'0000u})
    EXPECT_TRUE(known(size)) << std::hex << size;
}

TEST(WavHeader, CutAnywhere) {
  Bytes whole = wav_head(chunk("LIST", "INFOISFT!") + format_chunk(1, 1, 16000, 16), 2);
  EXPECT_NE(header_error("").find("empty"), std::string::npos);
  for (std::size_t size = 1; size < whole.size(); ++size) {
    std::string expected = size < 12 ? "not a WAV stream" : "cut short";
    EXPECT_NE(header_error(whole.substr(0, size)).find(expected), std::string::npos) << size << " bytes";
  }
}

TEST(WavHeader, WhatIsWrongIsSaid) {
  auto head = [](int tag, int channels, int rate, int bits) {
    return wav_head(format_chunk(tag, channels, rate, bits), 100);
  };
  EXPECT_NE(header_error(Bytes(100, 'x')).find("not a WAV stream"), std::string::npos);
  EXPECT_NE(header_error(head(1, 0, 16000, 16)).find("0 channels"), std::string::npos);
  EXPECT_NE(header_error(head(1, 1, 16000, 12)).find("12 bits"), std::string::npos);
  EXPECT_NE(header_error(head(0x55, 1, 16000, 16)).find("format 85"), std::string::npos);
  EXPECT_NE(header_error(wav_head("", 100)).find("samples before its format"), std::string::npos);
  EXPECT_NE(header_error(wav_head(chunk("fmt ", "short"), 100)).find("cut short"), std::string::npos);
  Bytes block = format_body(1, 2, 16000, 16);
  block[12] = 2;
  EXPECT_NE(header_error(wav_head(chunk("fmt ", block), 100)).find("block size"), std::string::npos);
}

TEST(WavHeader, EndlessChunksAreGivenUp) {
  Bytes riff = "RIFF" + little<std::uint32_t>(0) + "WAVE";
  std::size_t at = 0;
  ByteSource endless = [&](std::span<std::byte> into) {  // "RIFF", then zeros for ever
    for (std::byte& byte : into) byte = static_cast<std::byte>(at < riff.size() ? riff[at++] : '\0');
    return into.size();
  };
  EXPECT_THROW(read_wav_header(endless), AudioError);
}

// A stream on a file in memory.
class Stream {
 public:
  explicit Stream(const Bytes& bytes, std::optional<PcmFormat> raw = std::nullopt)
      : descriptor_(::memfd_create("stream", 0)) {
    EXPECT_EQ(::write(descriptor_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ::lseek(descriptor_, 0, SEEK_SET);
    reader = open_pcm_stream(descriptor_, raw);
  }
  ~Stream() { ::close(descriptor_); }

  // Everything, in calls of so many frames.
  std::vector<float> read_all(std::size_t frames) {
    std::vector<float> all, block(frames * static_cast<std::size_t>(reader->channels()));
    while (std::size_t count = reader->read(block))
      all.insert(all.end(), block.begin(),
                 block.begin() + static_cast<std::ptrdiff_t>(count * reader->channels()));
    return all;
  }

 private:
  int descriptor_;

 public:
  std::unique_ptr<AudioReader> reader;
};

const PcmFormat kRawStereo{SampleFormat::S16, 16000, 2};

Bytes ramp(int samples) {
  Bytes out;
  for (int i = 0; i < samples; ++i) out += little<std::int16_t>(i);
  return out;
}

TEST(PcmStream, SameSamplesInCallsOfAnySize) {
  Stream whole(ramp(600), kRawStereo);
  EXPECT_FALSE(whole.reader->expected_frames());
  std::vector<float> expected = whole.read_all(1000);
  ASSERT_EQ(expected.size(), 600u);
  EXPECT_EQ(expected[599], 599.0f / 32768);
  EXPECT_EQ(whole.reader->frames_read(), 300);
  EXPECT_FALSE(whole.reader->defect());
  for (std::size_t frames : {1u, 7u, 299u, 300u}) {
    Stream stream(ramp(600), kRawStereo);
    EXPECT_EQ(stream.read_all(frames), expected) << frames;
  }
}

TEST(PcmStream, RawStreamThatEndsInsideAFrame) {
  for (std::size_t frames : {100u, 1000u}) {
    Stream stream(ramp(601) + "x", kRawStereo);
    EXPECT_EQ(stream.read_all(frames).size(), 600u);
    ASSERT_TRUE(stream.reader->defect()) << frames;
    EXPECT_NE(stream.reader->defect()->find("3 bytes past the last whole one"), std::string::npos);
  }
}

TEST(PcmStream, NothingInIt) {
  Stream raw("", kRawStereo);
  EXPECT_EQ(raw.read_all(10).size(), 0u);
  EXPECT_NE(raw.reader->defect().value_or("").find("no samples"), std::string::npos);
  Stream wav(wav_head(format_chunk(1, 1, 16000, 16), 0xFFFF'FFFFu));
  EXPECT_EQ(wav.read_all(10).size(), 0u);
  EXPECT_NE(wav.reader->defect().value_or("").find("no samples"), std::string::npos);
}

TEST(PcmStream, WhatFollowsTheSamplesIsNotSound) {
  Stream stream(wav_head(format_chunk(1, 1, 16000, 16), 200) + ramp(100) + chunk("LIST", "INFO"));
  EXPECT_EQ(stream.reader->expected_frames(), 100);
  EXPECT_EQ(stream.read_all(64).size(), 100u);
  EXPECT_FALSE(stream.reader->defect());
}

TEST(PcmStream, CutShort) {
  Stream stream(wav_head(format_chunk(1, 1, 16000, 16), 400) + ramp(100) + "x");
  EXPECT_EQ(stream.read_all(64).size(), 100u);
  EXPECT_NE(stream.reader->defect().value_or("").find("100 of the 200 frames"), std::string::npos);
}

TEST(PcmStream, UnknownLengthIsNoDefect) {
  Stream stream(wav_head(format_chunk(1, 1, 16000, 16), 0x7FFF'F000u) + ramp(100));
  EXPECT_EQ(stream.read_all(64).size(), 100u);
  EXPECT_FALSE(stream.reader->defect());
}

// A pipe that nobody closes: a read waits until it is told to stop, before it or in the middle of it.
TEST(PcmStream, StopsWithWhatCameSoFar) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  int stop = ::eventfd(0, 0);
  const Bytes sent = ramp(100);
  ASSERT_EQ(::write(pipe[1], sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
  auto reader = open_pcm_stream(pipe[0], PcmFormat{SampleFormat::S16, 16000, 1}, stop);
  std::vector<float> samples(200);
  std::thread stopper([&] {
    int waiting = 1;
    while (waiting > 0 && ::ioctl(pipe[0], FIONREAD, &waiting) == 0) std::this_thread::yield();
    ::eventfd_write(stop, 1);
  });
  EXPECT_EQ(reader->read(samples), 100u);
  stopper.join();
  EXPECT_EQ(reader->read(samples), 0u);
  EXPECT_FALSE(reader->defect());
  for (int descriptor : {pipe[0], pipe[1], stop}) ::close(descriptor);
}

TEST(PcmStream, DirectoryAsInput) {
  int descriptor = ::memfd_create("never", 0);
  ::close(descriptor);
  EXPECT_THROW(open_pcm_stream(descriptor, std::nullopt), AudioError);
}

// The samples before a bad one are heard whatever the size of the calls, then comes the error.
TEST(PcmStream, BadSampleAfterGoodOnes) {
  const PcmFormat stereo{SampleFormat::F32, 16000, 2};
  struct Case {
    float value;
    std::string fragment;
  };
  for (const Case& c : {Case{std::nanf(""), "NaN"}, Case{-INFINITY, "NaN or infinity"},
                        Case{-1000.5f, "far outside -1 to 1"}, Case{1e30f, "far outside -1 to 1"}}) {
    Bytes bytes;
    for (int i = 0; i < 51; ++i) bytes += little(0.5f);
    bytes += little(c.value) + Bytes(400, '\0');
    for (std::size_t frames : {1u, 10u, 25u, 1000u}) {
      Stream stream(bytes, stereo);
      std::vector<float> heard, block(2 * frames);
      std::string error;
      try {
        while (std::size_t count = stream.reader->read(block))
          heard.insert(heard.end(), block.begin(), block.begin() + 2 * static_cast<std::ptrdiff_t>(count));
      } catch (const AudioError& caught) {
        error = caught.what();
      }
      EXPECT_EQ(heard, std::vector<float>(50, 0.5f)) << frames;
      EXPECT_EQ(stream.reader->frames_read(), 25);
      EXPECT_NE(error.find("sample 25 of channel 2"), std::string::npos) << error;
      EXPECT_NE(error.find(c.fragment), std::string::npos) << error;
      EXPECT_THROW(stream.reader->read(block), AudioError) << "and it stays an error";
    }
  }
}

TEST(PcmStream, OverFullScaleIsNoError) {
  Stream stream(little(1.5f) + little(-1000.0f), PcmFormat{SampleFormat::F32, 16000, 1});
  EXPECT_EQ(stream.read_all(10), (std::vector<float>{1.5f, -1000.0f}));
}

TEST(PcmStream, RatesAtTheLimits) {
  auto rate_accepted = [](int rate) {
    try {
      Stream stream(ramp(10), PcmFormat{SampleFormat::S16, rate, 1});
      return true;
    } catch (const AudioError&) {
      return false;
    }
  };
  EXPECT_FALSE(rate_accepted(7999));
  EXPECT_TRUE(rate_accepted(8000));
  EXPECT_TRUE(rate_accepted(192000));
  EXPECT_FALSE(rate_accepted(192001));
}

}  // namespace
}  // namespace sidewinder
