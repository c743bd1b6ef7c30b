#include "daemon/live/stream.h"

#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/live/stream_table.h"
#include "tests/unit/support.h"

namespace sidewinder::live {
namespace {

class StreamTest : public ::testing::Test {
 protected:
  static Config small() {
    Config config;
    config.limits.streams = 2;
    config.limits.buffer_ms = 500;
    config.limits.load_percent = 0;  // a capacity need not be measured
    return config;
  }
  static StreamInfo info(const std::string& name, int rate = 48'000) {
    return {.name = name, .file = {}, .format = "f32le", .rate = rate};
  }
  Stream& open(const std::string& name, int rate = 48'000) {
    Stream& stream = *std::get<Stream*>(table_.open(info(name, rate)));
    EXPECT_EQ(table_.opened().try_pop(), &stream);  // as the scheduler would
    return stream;
  }
  std::string refusal(const StreamInfo& wanted) { return std::get<Refusal>(table_.open(wanted)).reason; }

  LoadedModel model_{small(), test::default_model()};
  StreamTable table_{small(), model_};
};

// Whoever obeys the credit is never refused, at any rate, and gets the samples that the resampler makes of
// them.
TEST_F(StreamTest, CreditIsRoom) {
  for (int rate : {8'000, 16'000, 44'100, 44'101, 192'000}) {
    Stream& stream = open("a", rate);
    std::mt19937 random(1);
    std::vector<float> all(static_cast<std::size_t>(rate) * 2);
    for (float& sample : all) sample = static_cast<float>(random() % 2'000) / 1'000 - 1;
    std::vector<float> heard, block(1'000);
    std::thread scheduler([&] {
      const Mark* mark = nullptr;
      while ((mark = stream.next_mark()) == nullptr || stream.heard() < mark->position) {
        const std::size_t count = stream.take(block);
        heard.insert(heard.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(count));
        if (count == 0) std::this_thread::yield();
      }
    });
    for (std::size_t at = 0; at < all.size();) {
      const std::uint64_t room = stream.credit() - at;
      const std::size_t count = std::min<std::size_t>({all.size() - at, room, 1 + random() % 5'000});
      if (count == 0) std::this_thread::yield();
      ASSERT_TRUE(stream.write(std::span<const float>(all).subspan(at, count)));
      at += count;
    }
    stream.end(EndReason::Client, "");
    scheduler.join();

    const dsp::ResamplerFilter filter(rate, 16'000);
    dsp::ResamplerState state;
    std::vector<float> expected(filter.max_outputs(all.size()) + 1'024);
    std::size_t count = filter.process(state, all, expected);
    count += filter.flush(state, std::span(expected).subspan(count));
    expected.resize(count);
    EXPECT_EQ(heard, expected) << rate;
    table_.retire(stream);
  }
}

TEST_F(StreamTest, PastTheCreditNothingIsTaken) {
  Stream& stream = open("a");
  const std::vector<float> block(static_cast<std::size_t>(stream.credit()) + 1);
  EXPECT_FALSE(stream.write(block));
  EXPECT_FALSE(stream.write_gap(block.size(), GapReason::Client));
  EXPECT_EQ(stream.accepted_frames(), 0u);
  EXPECT_TRUE(stream.write(std::span<const float>(block).first(block.size() - 1)));
  EXPECT_EQ(stream.accepted_frames(), block.size() - 1);
}

TEST_F(StreamTest, TheEndAlwaysHasAPlace) {
  Stream& stream = open("a");
  int marks = 0;
  while (stream.flush(7)) ++marks;
  EXPECT_GT(marks, 16);
  EXPECT_FALSE(stream.write_gap(1, GapReason::Client));
  stream.end(EndReason::Idle, "why");
  for (; marks > 0; --marks) {
    EXPECT_EQ(stream.next_mark()->kind, Mark::Kind::Flush);
    stream.drop_mark();
  }
  EXPECT_EQ(stream.next_mark()->kind, Mark::Kind::End);
  EXPECT_EQ(stream.next_mark()->end_reason, EndReason::Idle);
  EXPECT_EQ(stream.end_message(), "why");
}

TEST_F(StreamTest, TableRefusesByName) {
  Stream& a = open("a");
  EXPECT_EQ(refusal(info("a")), "in_use");
  EXPECT_EQ(refusal(info("a/b")), "bad_name");
  EXPECT_EQ(refusal(info("slow", 7'000)), "bad_format");
  Stream& chosen = open("");
  EXPECT_TRUE(chosen.info().name.starts_with("s"));
  EXPECT_GT(chosen.info().epoch, a.info().epoch);
  EXPECT_EQ(refusal(info("c")), "full");
  EXPECT_EQ(table_.live(), 2u);
  table_.retire(chosen);
  table_.set_behind(1);
  EXPECT_EQ(refusal(info("c")), "full");
  table_.set_behind(0);
  table_.set_draining(true);
  EXPECT_EQ(refusal(info("c")), "draining");
  EXPECT_EQ(table_.refusing()->reason, "draining");
  table_.set_draining(false);
  const std::int64_t epoch = a.info().epoch;
  EXPECT_EQ(table_.request_end("a"), epoch);
  EXPECT_TRUE(a.end_requested());
  table_.retire(a);
  EXPECT_EQ(table_.request_end("a"), std::nullopt);
  EXPECT_GT(open("a").info().epoch, epoch);
  EXPECT_TRUE(table_.list().size() == 1);
}

}  // namespace
}  // namespace sidewinder::live
