#include "daemon/live/scheduler.h"

#include <algorithm>
#include <chrono>
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
  static Config one_stream() {
    Config config;
    config.limits.streams = 1;
    config.limits.buffer_ms = 60'000;
    config.limits.load_percent = 0;  // a capacity need not be measured
    config.engine.threads = 1;
    return config;
  }

  // Runs the scheduler until the stream, which has been ended, is closed; all that it said.
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

  const Config config_ = one_stream();
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
  EngineThatIsLost engine(make_cpu_engine(model_, scheduler_engine_options(config_, model_.config, true)), 2);
  Stream& stream = *std::get<Stream*>(
      table_.open({.name = "a", .file = {}, .format = "f32le", .rate = model_.config.sample_rate}));
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

}  // namespace
}  // namespace sidewinder::live
