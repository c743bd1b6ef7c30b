// Sound files as libsndfile reads them: good ones whole, bad ones named for what they are.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sndfile.h>
#include <unistd.h>

#include "daemon/audio/audio_reader.h"
#include "tests/unit/bytes.h"

namespace sidewinder {
namespace {

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct WavOptions {
  int rate = 16000;
  int channels = 1;
  int bits = 16;
  int tag = 1;
  std::optional<std::uint32_t> data_size = std::nullopt;  // what the header promises
};

Bytes wav(const Bytes& samples, const WavOptions& o = {}) {
  int block = o.channels * o.bits / 8;
  Bytes format = little<std::uint16_t>(o.tag) + little<std::uint16_t>(o.channels) +
                 little<std::uint32_t>(o.rate) + little<std::uint32_t>(o.rate * block) +
                 little<std::uint16_t>(block) + little<std::uint16_t>(o.bits);
  std::uint32_t size = o.data_size.value_or(static_cast<std::uint32_t>(samples.size()));
  Bytes body =
      "WAVEfmt " + little<std::uint32_t>(16) + format + "data" + little<std::uint32_t>(size) + samples;
  return "RIFF" + little<std::uint32_t>(static_cast<std::uint32_t>(body.size())) + body;
}

Bytes tone(int samples) {
  Bytes out;
  for (int i = 0; i < samples; ++i) out += little<std::int16_t>(std::lround(9000 * std::sin(i * 0.1)));
  return out;
}

class SoundFile : public testing::Test {
 protected:
  SoundFile() {
    Bytes pattern = (std::filesystem::temp_directory_path() / "sound_file_test.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~SoundFile() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path store(const Bytes& bytes, const std::string& name = "file.wav") {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }

  static std::string open_error(const std::filesystem::path& path) {
    try {
      open_sound_file(path);
    } catch (const AudioError& error) {
      return error.what();
    }
    return "no error";
  }

  struct Heard {
    std::vector<float> samples;  // interleaved
    std::string defect;          // or the error of a read
  };

  static Heard hear(const std::filesystem::path& path, std::size_t frames = 1000) {
    auto reader = open_sound_file(path);
    Heard heard;
    std::vector<float> block(frames * static_cast<std::size_t>(reader->channels()));
    try {
      while (std::size_t count = reader->read(block))
        heard.samples.insert(heard.samples.end(), block.begin(),
                             block.begin() + static_cast<std::ptrdiff_t>(count * reader->channels()));
      heard.defect = reader->defect().value_or("");
    } catch (const AudioError& error) {
      heard.defect = error.what();
    }
    return heard;
  }

  // Three seconds of noise in the format, as libsndfile writes it; with a bit rate mode, silence after the
  // first half second, so that a variable rate varies.
  std::filesystem::path encode(int format, const std::string& name, int bitrate_mode = -1) {
    SF_INFO info{};
    info.samplerate = 16000;
    info.channels = 1;
    info.format = format;
    SNDFILE* file = sf_open((folder_ / name).c_str(), SFM_WRITE, &info);
    EXPECT_NE(file, nullptr) << sf_strerror(nullptr);
    if (bitrate_mode >= 0) sf_command(file, SFC_SET_BITRATE_MODE, &bitrate_mode, sizeof(bitrate_mode));
    std::minstd_rand random(1);
    std::vector<float> samples(48000);
    for (std::size_t i = 0; i < (bitrate_mode < 0 ? samples.size() : 8000); ++i)
      samples[i] = std::uniform_real_distribution<float>(-0.5f, 0.5f)(random);
    EXPECT_EQ(sf_writef_float(file, samples.data(), 48000), 48000);
    sf_close(file);
    return folder_ / name;
  }

  // The file without the given share of it at its end.
  std::filesystem::path cut(const std::filesystem::path& whole, double share) {
    Bytes bytes = read_file(whole);
    bytes.resize(bytes.size() - static_cast<std::size_t>(static_cast<double>(bytes.size()) * share));
    return store(bytes, "cut" + whole.extension().string());
  }

  std::filesystem::path folder_;
};

bool says(const std::string& text, const std::string& fragment) {
  return text.find(fragment) != std::string::npos;
}

TEST_F(SoundFile, SamplesWholeInAnyCalls) {
  Bytes samples = tone(999);
  auto path = store(wav(samples, {.channels = 3}));
  auto reader = open_sound_file(path);
  EXPECT_EQ(reader->rate(), 16000);
  EXPECT_EQ(reader->channels(), 3);
  EXPECT_EQ(reader->expected_frames(), 333);
  Heard heard = hear(path);
  ASSERT_EQ(heard.samples.size(), 999u);
  EXPECT_EQ(heard.samples[1], std::lround(9000 * std::sin(0.1)) / 32768.0f);
  EXPECT_EQ(heard.defect, "");
  EXPECT_EQ(hear(path, 1).samples, heard.samples);
  EXPECT_EQ(hear(path, 100).samples, heard.samples);
}

TEST_F(SoundFile, WhatCannotBeOpenedSaysWhy) {
  EXPECT_TRUE(says(open_error(folder_ / "none.wav"), "no such file"));
  EXPECT_TRUE(says(open_error(folder_), "a directory"));
  EXPECT_TRUE(says(open_error(store("")), "empty"));
  EXPECT_TRUE(says(open_error(store("These words are not sound.\n")), "not a sound file"));
  EXPECT_TRUE(says(open_error(store("These words are not sound.\n", "file.mp3")), "Format not recognised"));
  EXPECT_TRUE(says(open_error(store(wav("").substr(0, 30))), "not a sound file"));
  EXPECT_TRUE(says(open_error(store(wav(tone(100), {.channels = 0}))), "Channel count is zero"));
}

TEST_F(SoundFile, RatesAtTheLimits) {
  EXPECT_TRUE(says(open_error(store(wav(tone(100), {.rate = 7999}))), "7999 Hz"));
  EXPECT_EQ(open_error(store(wav(tone(100), {.rate = 8000}))), "no error");
  EXPECT_EQ(open_error(store(wav(tone(100), {.rate = 192000}))), "no error");
  EXPECT_TRUE(says(open_error(store(wav(tone(100), {.rate = 192001}))), "192001 Hz"));
}

TEST_F(SoundFile, HeaderWithoutSamples) {
  EXPECT_TRUE(says(hear(store(wav(""))).defect, "no samples"));
}

TEST_F(SoundFile, WavThatPromisesMore) {
  for (std::uint32_t promised : {802u, 4000u, 0x7000'0000u, 0xF000'0000u}) {
    Heard heard = hear(store(wav(tone(400), {.data_size = promised})));
    EXPECT_EQ(heard.samples.size(), 400u);
    EXPECT_TRUE(says(heard.defect, "promises more than the 400 frames")) << promised << heard.defect;
  }
}

TEST_F(SoundFile, WavOfAWriterThatCouldNotSeekBack) {
  for (std::uint32_t promised : {0x7FFF'F000u, 0x8000'0000u, 0xFFFF'FFFFu}) {
    Heard heard = hear(store(wav(tone(400), {.data_size = promised})));
    EXPECT_EQ(heard.samples.size(), 400u);
    EXPECT_EQ(heard.defect, "") << promised;
  }
}

TEST_F(SoundFile, NotANumber) {
  Bytes samples;
  for (int i = 0; i < 100; ++i) samples += little(i < 60 ? 0.25f : std::nanf(""));
  Heard heard = hear(store(wav(samples, {.bits = 32, .tag = 3})));
  EXPECT_EQ(heard.samples, std::vector<float>(60, 0.25f));
  EXPECT_TRUE(says(heard.defect, "sample 60 of channel 1")) << heard.defect;
}

TEST_F(SoundFile, FlacCutAnywhere) {
  const std::filesystem::path clip = std::filesystem::path(SIDEWINDER_TEST_DATA) / "data" / "quilter.flac";
  Heard whole = hear(clip);
  EXPECT_EQ(whole.defect, "");
  ASSERT_EQ(whole.samples.size(), 371085u);
  const Bytes bytes = read_file(clip);
  for (std::size_t kept : {bytes.size() - 1, bytes.size() - 3000, bytes.size() / 2}) {
    Heard heard = hear(store(bytes.substr(0, kept), "cut.flac"));
    EXPECT_TRUE(says(heard.defect, "cut short or damaged")) << kept;
    ASSERT_LT(heard.samples.size(), whole.samples.size());
    EXPECT_TRUE(std::equal(heard.samples.begin(), heard.samples.end(), whole.samples.begin()));
  }
  Bytes holed = bytes;
  std::fill_n(holed.begin() + static_cast<std::ptrdiff_t>(holed.size() / 2), 300, '\0');
  EXPECT_TRUE(says(hear(store(holed, "hole.flac")).defect, "cut short or damaged"));
}

TEST_F(SoundFile, OtherFormatsWholeAndCut) {
  struct Case {
    int format;
    const char* name;
  };
  for (const Case& c :
       {Case{SF_FORMAT_AIFF | SF_FORMAT_PCM_16, "a.aiff"}, Case{SF_FORMAT_AU | SF_FORMAT_PCM_16, "a.au"},
        Case{SF_FORMAT_W64 | SF_FORMAT_PCM_16, "a.w64"}, Case{SF_FORMAT_RF64 | SF_FORMAT_PCM_16, "a.rf64"},
        Case{SF_FORMAT_FLAC | SF_FORMAT_PCM_16, "a.flac"}, Case{SF_FORMAT_OGG | SF_FORMAT_VORBIS, "a.ogg"},
        Case{SF_FORMAT_OGG | SF_FORMAT_OPUS, "a.opus"},
        Case{SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, "a.mp3"}}) {
    auto path = encode(c.format, c.name);
    Heard whole = hear(path);
    EXPECT_EQ(whole.samples.size(), 48000u) << c.name;
    EXPECT_EQ(whole.defect, "") << c.name;
    SCOPED_TRACE(c.name);
    Heard half = hear(cut(path, 0.5));
    EXPECT_LT(half.samples.size(), 48000u) << c.name;
    EXPECT_TRUE(says(half.defect, "cut short")) << c.name << ": " << half.defect;
  }
}

// The first frame of such a file says nothing of its length, and a guess from its bit rate is far too short.
TEST_F(SoundFile, Mp3OfVariableBitRateWithoutItsIndex) {
  Bytes bytes =
      read_file(encode(SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, "vbr.mp3", SF_BITRATE_MODE_VARIABLE));
  std::size_t index = std::min(bytes.find("Xing"), bytes.find("Info"));
  ASSERT_NE(index, std::string::npos);
  bytes.replace(index, 4, "none");
  Heard heard = hear(store(bytes, "bare.mp3"));
  EXPECT_GE(heard.samples.size(), 48000u);
  EXPECT_EQ(heard.defect, "");
  // Its length is in doubt, but a hole in it is not.
  ASSERT_GT(bytes.size(), 5000u);
  std::fill_n(bytes.begin() + 2000, 2500, '\0');
  EXPECT_TRUE(says(hear(store(bytes, "hole.mp3")).defect, "cut short or damaged after frame"));
}

}  // namespace
}  // namespace sidewinder
