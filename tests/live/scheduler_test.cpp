#include "daemon/live/scheduler.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/support.h"

namespace sidewinder::live {
namespace {

// The CPU engine, until it is lost: then what a CUDA engine without its device does.
class EngineThatIsLost final : public Engine {
 public:
  EngineThatIsLost(std::unique_ptr<Engine> engine, int steps) : engine_(std::move(engine)), steps_(steps) {}

  const char* name() const noexcept override { return engine_->name(); }
  const ModelConfig& config() const noexcept override { return engine_->config(); }
  const ModelHash& model_hash() const noexcept override { return engine_->model_hash(); }
  const EngineOptions& options() const noexcept override { return engine_->options(); }
  void reset(std::uint32_t slot) noexcept override { engine_->reset(slot); }
  std::size_t capsule_bytes() const noexcept override { return engine_->capsule_bytes(); }
  void save(std::uint32_t slot, std::span<std::byte> into) const noexcept override {
    engine_->save(slot, into);
  }
  void load(std::uint32_t slot, std::span<const std::byte> capsule) override { engine_->load(slot, capsule); }

  void step(std::span<const StreamInput> batch, std::span<StreamOutput> out) noexcept override {
    if (steps_ > 0) {
      --steps_;
      engine_->step(batch, out);
      return;
    }
    failure_ = "the device fell off the bus";
    for (std::size_t i = 0; i < batch.size(); ++i) out[i].frames = 0;
  }
  std::string_view failure() const noexcept override { return failure_; }

 private:
  std::unique_ptr<Engine> engine_;
  int steps_;
  std::string_view failure_;
};

class SchedulerTest : public ::testing::Test {
 protected:
  static constexpr int kStreams = 24;

  static Config crowd() {
    Config config;
    config.limits.streams = kStreams;
    config.limits.buffer_ms = 60'000;
    config.limits.load_percent = 0;  // a capacity need not be measured
    return config;
  }

  // A stream of 32-bit samples at the model's rate.
  Stream& open(const std::string& name) {
    return *std::get<Stream*>(
        table_.open({.name = name, .file = {}, .format = "f32le", .rate = model_.config.sample_rate}));
  }

  EngineOptions options(int threads) const {
    EngineOptions options = scheduler_engine_options(config_, model_.config, true);
    options.threads = threads;
    return options;
  }

  // Runs the scheduler until the streams, which have been ended, are closed; all that it said.
  std::vector<Result> run_until_closed(Engine& engine) {
    Scheduler scheduler(config_, engine, table_, results_, consumed_, metrics_);
    scheduler.start();
    EXPECT_TRUE(table_.wait_until_empty(std::chrono::steady_clock::now() + std::chrono::minutes(5)));
    failure_ = scheduler.failure();
    scheduler.stop();
    std::vector<Result> told;
    while (auto result = results_.try_pop()) told.push_back(std::move(*result));
    return told;
  }

  const Config config_ = crowd();
  const Model& model_ = test::default_model();
  Tokenizer tokenizer_{test::default_model_folder() / "tokens.txt", model_.config.vocab_size};
  Decoding decoding_{test::default_model_folder(), model_.config, tokenizer_, {}};
  StreamTable table_{config_, model_.config, decoding_, nullptr};
  BoundedQueue<Result> results_{4'096};
  Wakeup consumed_;
  Metrics metrics_;
  std::string failure_;
};

TEST_F(SchedulerTest, LostEngineIsTold) {
  const std::vector<float> speech = test::read_clip("quilter.flac");
  EngineThatIsLost engine(make_cpu_engine(model_, options(1)), 2);
  Stream& stream = open("a");
  ASSERT_TRUE(stream.write(speech));
  ASSERT_TRUE(stream.flush(7));
  stream.end(EndReason::Client, {});

  const std::vector<Result> told = run_until_closed(engine);
  EXPECT_EQ(failure_, "the device fell off the bus");
  EXPECT_TRUE(table_.draining());
  const auto gap = std::ranges::find_if(
      told, [](const Result& result) { return std::holds_alternative<GapBody>(result.body); });
  ASSERT_NE(gap, told.end());
  EXPECT_EQ(std::get<GapBody>(gap->body).reason, GapReason::Engine);
  EXPECT_GT(gap->begin, 0);
  EXPECT_EQ(gap->end, static_cast<std::int64_t>(speech.size()));
  std::size_t words = 0, gaps = 0;
  bool flushed = false;
  for (const Result& result : told) {
    if (std::holds_alternative<GapBody>(result.body)) {
      ++gaps;
      EXPECT_FALSE(flushed) << "what was lost is told before everything is said to be told";
    } else if (std::holds_alternative<FlushedBody>(result.body)) {
      flushed = true;
    } else if (const auto* final = std::get_if<FinalBody>(&result.body)) {
      words += final->segment.words.size();
      EXPECT_LE(result.end, gap->begin);
    }
  }
  EXPECT_EQ(gaps, 1u);
  EXPECT_TRUE(flushed);
  EXPECT_GT(words, 2u) << "what was heard before is published";
  EXPECT_TRUE(std::holds_alternative<ClosedBody>(told.back().body));
}

// Finals of streams that each hear another part of a clip, by slot.
TEST_F(SchedulerTest, CrowdDecodedByATeamIsHeardLikeEachAlone) {
  const std::vector<float> speech = test::read_clip("quilter.flac");
  const std::size_t length = speech.size() / 2, shift = (speech.size() - length) / kStreams;
  const auto words = [&](int first, int streams, int threads) {
    for (int i = first; i < first + streams; ++i) {
      Stream& stream = open(std::to_string(i));
      EXPECT_TRUE(stream.write(std::span(speech).subspan(static_cast<std::size_t>(i) * shift, length)));
      stream.end(EndReason::Client, {});
    }
    auto engine = make_cpu_engine(model_, options(threads));
    std::map<std::uint32_t, std::string> heard;
    for (const Result& result : run_until_closed(*engine))
      if (const auto* final = std::get_if<FinalBody>(&result.body))
        for (const Word& word : final->segment.words)
          heard[result.slot] +=
              word.text + "@" + std::to_string(word.begin) + "-" + std::to_string(word.end) + " ";
    std::vector<std::string> texts;
    for (auto& [slot, text] : heard) texts.push_back(std::move(text));
    return texts;
  };
  const std::vector<std::string> together = words(0, kStreams, 3);
  ASSERT_EQ(together.size(), std::size_t{kStreams});
  for (int i = 0; i < kStreams; i += 5)
    EXPECT_EQ(words(i, 1, 1), std::vector{together[static_cast<std::size_t>(i)]});
}

}  // namespace
}  // namespace sidewinder::live
