// `sidewinder transcribe` with an engine that is lost in mid-run. This program has a make_engine() of its
// own, which the linker takes instead of the library's.
#include "daemon/transcribe/transcribe.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "daemon/cli/exit_code.h"
#include "tests/engine/engine_that_is_lost.h"
#include "tests/unit/support.h"

namespace sidewinder {
namespace {

namespace fs = std::filesystem;

int steps_until_lost = 0;

class TranscribeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "sidewinder-transcribe-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  // The transcripts of `clips` by an engine that works for so many steps; {} where there is none.
  std::vector<nlohmann::json> run(const std::vector<std::string>& clips, int steps, int expected_code) {
    steps_until_lost = steps;
    TranscribeOptions options;
    options.model = test::default_model_folder();
    options.format = TranscriptFormat::Json;
    options.output = folder_;
    options.decoding.kind = DecoderKind::BestPath;
    options.threads = 1;
    for (const std::string& clip : clips)
      options.inputs.push_back((test::tests_folder() / "data" / clip).string());
    EXPECT_EQ(transcribe(options), expected_code);
    std::vector<nlohmann::json> transcripts;
    for (const std::string& clip : clips) {
      std::ifstream file(folder_ / (fs::path(clip).stem().string() + ".json"));
      transcripts.push_back(file ? nlohmann::json::parse(file) : nlohmann::json());
    }
    return transcripts;
  }

  fs::path folder_;
};

TEST_F(TranscribeTest, WhatWasHeardBeforeTheEngineWasLostIsWritten) {
  const nlohmann::json whole = run({"quilter.flac"}, 1'000, kExitOk).at(0);
  ::testing::internal::CaptureStderr();
  const nlohmann::json cut = run({"quilter.flac"}, 3, kExitEngineFailed).at(0);
  const std::string told = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(told.find("quilter.flac"), std::string::npos) << told;
  EXPECT_NE(told.find("the engine failed: the device fell off the bus; run it again, or with --engine cpu"),
            std::string::npos)
      << told;
  const auto& all = whole.at("words");
  const auto& words = cut.at("words");
  ASSERT_GT(words.size(), 5u);
  ASSERT_LT(words.size(), all.size() / 2);
  for (std::size_t i = 0; i + 1 < words.size(); ++i)
    EXPECT_EQ(words[i], all[i]);  // the last may be cut short
}

TEST_F(TranscribeTest, LostAtOnceEveryInputIsToldOf) {
  ::testing::internal::CaptureStderr();
  const auto transcripts = run({"quilter.flac", "northanger.flac"}, 0, kExitEngineFailed);
  const std::string told = ::testing::internal::GetCapturedStderr();
  for (const char* name : {"quilter.flac", "northanger.flac"})
    EXPECT_NE(told.find(name), std::string::npos) << told;
  for (const nlohmann::json& transcript : transcripts) EXPECT_TRUE(transcript.at("words").empty());
}

}  // namespace

ChosenEngine make_engine(EngineChoice, const Model& model, const EngineOptions& options, int, CudaPrecision) {
  return {
      std::make_unique<test::EngineThatIsLost>(make_cpu_engine(model, options), steps_until_lost), "", {}};
}

}  // namespace sidewinder
