#include "daemon/live/scheduler.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/engine_that_is_lost.h"
#include "tests/unit/support.h"

namespace sidewinder::live {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  static constexpr int kStreams = 24;

  static Config crowd() {
    Config config;
    config.limits.streams = kStreams;
    config.limits.buffer_ms = 60'000;
    config.limits.load_percent = 0;        // a capacity need not be measured
    config.scheduler.behind_ms = 600'000;  // a loaded machine is no failure
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
  std::vector<Result> run_until_closed(std::unique_ptr<Engine> engine) {
    model_.chosen.engine = std::move(engine);
    Scheduler scheduler(config_, model_, table_, results_, consumed_, metrics_);
    scheduler.start();
    EXPECT_TRUE(table_.wait_until_empty(std::chrono::steady_clock::now() + std::chrono::minutes(5)));
    failure_ = scheduler.failure();
    scheduler.stop();
    std::vector<Result> told;
    while (auto result = results_.try_pop()) told.push_back(std::move(*result));
    return told;
  }

  struct Heard {
    std::vector<Segment> segments;
    std::vector<Word> words() const {
      std::vector<Word> all;
      for (const Segment& segment : segments)
        all.insert(all.end(), segment.words.begin(), segment.words.end());
      return all;
    }
  };

  // What a model alone hears of them, by hand.
  Heard hear_alone(std::span<const float> samples) const {
    auto engine = make_cpu_engine(test::default_model(), options(1));
    Readout readout(model_.config, model_.decoding, endpoint_of(config_));
    Heard heard;
    engine->reset(0);
    for (std::size_t at = 0; at < samples.size();) {
      const std::size_t count = std::min<std::size_t>(3'000, samples.size() - at);
      const StreamInput input{0, samples.subspan(at, count), at + count == samples.size()};
      StreamOutput output;
      engine->step({&input, 1}, {&output, 1});
      at += count;
      readout.hear(input.samples);
      readout.advance(output, static_cast<std::int64_t>(at), heard.segments);
    }
    readout.finish(static_cast<std::int64_t>(samples.size()), heard.segments);
    return heard;
  }

  const Config config_ = crowd();
  LoadedModel model_{config_, test::default_model()};
  StreamTable table_{config_, model_};
  BoundedQueue<Result> results_{4'096};
  Wakeup consumed_;
  Metrics metrics_;
  std::string failure_;
};

TEST_F(SchedulerTest, LostEngineIsTold) {
  const std::vector<float> speech = test::read_clip("quilter.flac");
  Stream& stream = open("a");
  ASSERT_TRUE(stream.write(speech));
  ASSERT_TRUE(stream.flush(7));
  stream.end(EndReason::Client, {});

  const std::vector<Result> told = run_until_closed(
      std::make_unique<test::EngineThatIsLost>(make_cpu_engine(test::default_model(), options(1)), 2));
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
    std::map<std::uint32_t, std::string> heard;
    for (const Result& result : run_until_closed(make_cpu_engine(test::default_model(), options(threads))))
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

// The same weights twice are two models: what each hears of a stream it has heard alone.
TEST_F(SchedulerTest, StreamsMoveToAnotherModelInAPauseOrAtOnce) {
  const std::vector<float> speech = test::read_clip("quilter.flac");
  const std::size_t half = std::min<std::size_t>(208'000, speech.size() * 9 / 16);  // in mid-sentence
  for (const bool at_once : {false, true}) {
    SCOPED_TRACE(at_once);
    if (!at_once && speech.size() < 256'000) continue;  // the sanitizers' clip ends before the pause
    LoadedModel next(config_, test::default_model());
    ASSERT_EQ(&table_.model(), &model_);
    Scheduler scheduler(config_, model_, table_, results_, consumed_, metrics_);
    std::vector<Result> told;
    const auto take_until = [&](auto&& wanted) {
      while (true) {
        while (auto result = results_.try_pop()) {
          told.push_back(std::move(*result));
          if (wanted(told.back())) return;
        }
        results_.filled().wait(1'000);
      }
    };
    std::vector<Stream*> streams;
    for (int i = 0; i < 3; ++i) {
      streams.push_back(&open("old" + std::to_string(i)));
      // Not in step with each other.
      ASSERT_TRUE(streams.back()->write(std::span(speech).first(half - static_cast<std::size_t>(i) * 700)));
      ASSERT_TRUE(streams.back()->flush(1));
    }
    scheduler.start();
    int flushed = 0;
    take_until([&](const Result& result) {
      return std::holds_alternative<FlushedBody>(result.body) && ++flushed == 3;
    });
    EXPECT_EQ(model_.streams, 3u);
    const std::size_t before_the_order = told.size();
    table_.set_model(next);
    scheduler.move_streams(next, at_once ? 0 : std::numeric_limits<std::int64_t>::max());
    Stream& opened = open("new");
    EXPECT_EQ(&opened.model(), &next);
    ASSERT_TRUE(opened.write(speech));
    opened.end(EndReason::Client, {});
    bool released = false;
    const auto is_release = [&](const Result& result) {
      const auto* body = std::get_if<ReleasedBody>(&result.body);
      EXPECT_TRUE(body == nullptr || body->model == &model_);
      return body != nullptr;
    };
    if (at_once) take_until(is_release);  // though no audio comes
    for (int i = 0; i < 3; ++i)
      ASSERT_TRUE(streams[static_cast<std::size_t>(i)]->write(
          std::span(speech).subspan(half - static_cast<std::size_t>(i) * 700)));
    if (!at_once) take_until(is_release);
    for (Stream* stream : streams) stream->end(EndReason::Client, {});
    int closed = static_cast<int>(std::ranges::count_if(
        told, [](const Result& result) { return std::holds_alternative<ClosedBody>(result.body); }));
    take_until([&](const Result& result) {
      released |= is_release(result);
      return std::holds_alternative<ClosedBody>(result.body) && ++closed == 4;
    });
    ASSERT_TRUE(table_.wait_until_empty(std::chrono::steady_clock::now() + std::chrono::minutes(5)));
    scheduler.stop();
    while (auto result = results_.try_pop()) told.push_back(std::move(*result));
    EXPECT_FALSE(released) << "once";
    EXPECT_EQ(model_.streams, 0u);
    EXPECT_EQ(next.streams, 0u);

    const Heard whole = hear_alone(speech);
    std::map<std::uint32_t, std::vector<const Result*>> by_slot;
    for (const Result& result : told)
      if (!std::holds_alternative<ReleasedBody>(result.body)) by_slot[result.slot].push_back(&result);
    ASSERT_EQ(by_slot.size(), 4u);
    for (const auto& [slot, results] : by_slot) {
      std::vector<Segment> before, after;
      const Result* moved = nullptr;
      for (const Result* result : results) {
        if (std::holds_alternative<MovedBody>(result->body)) {
          EXPECT_EQ(moved, nullptr);
          moved = result;
          EXPECT_EQ(std::get<MovedBody>(result->body).model, &next);
        } else if (const auto* final = std::get_if<FinalBody>(&result->body)) {
          EXPECT_EQ(final->segment.number, static_cast<std::int64_t>(before.size() + after.size()));
          (moved != nullptr ? after : before).push_back(final->segment);
        }
      }
      std::int64_t origin = 0;
      if (slot == opened.slot()) {
        EXPECT_EQ(moved, nullptr);
        std::swap(before, after);
      } else {
        ASSERT_NE(moved, nullptr);
        EXPECT_GE(moved, &told[before_the_order]);
        origin = moved->model_begin;
      }
      const std::vector<Word> expected =
          hear_alone(std::span(speech).subspan(static_cast<std::size_t>(origin))).words();
      const std::vector<Word> heard = Heard{after}.words();
      ASSERT_EQ(heard.size(), expected.size());
      for (std::size_t i = 0; i < heard.size(); ++i) {
        EXPECT_EQ(heard[i].text, expected[i].text);
        EXPECT_EQ(heard[i].begin, std::max<std::int64_t>(expected[i].begin, 0) + origin);
        EXPECT_EQ(heard[i].end, expected[i].end + origin);
        EXPECT_EQ(heard[i].confidence, expected[i].confidence);
      }
      if (slot == opened.slot()) continue;
      // Before: what the first model says, up to where it was interrupted.
      ASSERT_FALSE(before.empty());
      const std::size_t undisturbed = before.size() - (before.back().reason == SegmentEnd::Model ? 1 : 0);
      EXPECT_EQ(undisturbed < before.size(), at_once);
      for (std::size_t i = 0; i < undisturbed; ++i) {
        EXPECT_EQ(committed_text(before[i]), committed_text(whole.segments[i]));
        EXPECT_EQ(before[i].begin, whole.segments[i].begin);
        EXPECT_EQ(before[i].end, whole.segments[i].end);
      }
      EXPECT_EQ(before.back().end == origin, at_once);
      EXPECT_LE(before.back().words.back().end, origin);
    }
    table_.set_model(model_);
  }
}

}  // namespace
}  // namespace sidewinder::live
