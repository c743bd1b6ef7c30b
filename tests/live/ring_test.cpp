#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/live/bounded_queue.h"
#include "daemon/live/sample_ring.h"

namespace sidewinder::live {
namespace {

TEST(SampleRing, TakesAllOrNothing) {
  SpscRing<int> ring(4);
  const std::vector<int> three{1, 2, 3}, two{4, 5};
  EXPECT_TRUE(ring.push(three));
  EXPECT_FALSE(ring.push(two));
  EXPECT_EQ(ring.size(), 3u);
  std::vector<int> out(2);
  EXPECT_EQ(ring.pop(out), 2u);
  EXPECT_EQ(out, (std::vector<int>{1, 2}));
  EXPECT_TRUE(ring.push(two));  // around the end
  out.resize(8);
  EXPECT_EQ(ring.pop(out), 3u);
  EXPECT_EQ(std::vector<int>(out.begin(), out.begin() + 3), (std::vector<int>{3, 4, 5}));
  EXPECT_EQ(ring.front(), nullptr);
  EXPECT_EQ(ring.written(), 5u);
  EXPECT_EQ(ring.read(), 5u);
}

TEST(SampleRing, KeepsWhatWasPopped) {
  SpscRing<int> ring(5, 3);
  EXPECT_EQ(ring.capacity(), 5u);
  std::vector<int> in(4), out(4), again(3);
  for (int at = 0; at < 100; at += 4) {  // around the end at every place
    std::iota(in.begin(), in.end(), at);
    ASSERT_TRUE(ring.push(in));
    ASSERT_EQ(ring.pop(out), 4u);
    EXPECT_EQ(out, in);
    std::iota(in.begin(), in.end(), 1'000);
    ASSERT_TRUE(ring.push(in));
    ASSERT_TRUE(ring.push(1'004)) << "all of its capacity is free";
    ASSERT_FALSE(ring.push(1'005));
    ring.recall(ring.read() - 3, again);
    EXPECT_EQ(again, (std::vector<int>{at + 1, at + 2, at + 3}));
    out.resize(5);
    ring.pop(out);
    out.resize(4);
  }
  ring.reset(77, again);
  EXPECT_EQ(ring.read(), 77u);
  std::vector<int> recalled(3);
  ring.recall(74, recalled);
  EXPECT_EQ(recalled, again);
}

TEST(SampleRing, KeepsOrderBetweenThreads) {
  constexpr std::uint32_t kItems = 200'000;
  SpscRing<std::uint32_t> ring(256);
  std::thread producer([&] {
    std::mt19937 random(1);
    std::vector<std::uint32_t> block;
    for (std::uint32_t next = 0; next < kItems;) {
      block.resize(std::min<std::size_t>(1 + random() % 200, kItems - next));
      std::iota(block.begin(), block.end(), next);
      while (!ring.push(block)) std::this_thread::yield();
      next += static_cast<std::uint32_t>(block.size());
    }
  });
  std::vector<std::uint32_t> out(100);
  std::uint32_t expected = 0;
  bool in_order = true;
  while (expected < kItems) {
    const std::size_t count = ring.pop(out);
    if (count == 0) std::this_thread::yield();
    for (std::size_t i = 0; i < count; ++i) in_order &= out[i] == expected++;
  }
  producer.join();
  EXPECT_TRUE(in_order);
}

TEST(BoundedQueue, WaitsForRoomAndKeepsOrder) {
  BoundedQueue<int> queue(2);
  queue.push(1);
  queue.push(2);
  EXPECT_TRUE(queue.filled().wait(0));
  EXPECT_FALSE(queue.filled().wait(0));
  std::thread waiting([&] { queue.push(4); });
  EXPECT_EQ(queue.try_pop(), 1);
  waiting.join();
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.try_pop(), 2);
  EXPECT_EQ(queue.try_pop(), 4);
  EXPECT_EQ(queue.try_pop(), std::nullopt);
}

}  // namespace
}  // namespace sidewinder::live
