#include "daemon/live/history.h"

#include <gtest/gtest.h>

namespace sidewinder::live {
namespace {

TEST(History, KeepsTheLastOfEachStream) {
  History history(2, 1);
  history.open("a", 10);
  EXPECT_EQ(history.ask("a", 10, 0, 5)->next, 0);
  for (const char* text : {"zero", "one", "two"}) history.add("a", 10, text);
  auto all = history.ask("a", 10, 0, 9);
  EXPECT_EQ(all->next, 3);
  EXPECT_EQ(all->first, 1);  // 0 fell out
  EXPECT_EQ(all->headers, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(history.ask("a", 10, 2, 2)->headers, (std::vector<std::string>{"two"}));
  EXPECT_TRUE(history.ask("a", 10, 3, 9)->headers.empty());
  EXPECT_TRUE(history.ask("a", 10, 5, 2)->headers.empty());
  EXPECT_FALSE(history.ask("a", 11, 0, 9));
  EXPECT_FALSE(history.ask("b", 0, 0, 9));
}

TEST(History, LatestEpochAndClosedStreams) {
  History history(2, 1);
  history.add("a", 10, "old");
  history.close("a", 10);
  history.add("a", 20, "new");
  EXPECT_EQ(history.ask("a", 0, 0, 0)->headers, (std::vector<std::string>{"new"}));
  EXPECT_EQ(history.ask("a", 10, 0, 0)->headers, (std::vector<std::string>{"old"}));
  history.close("a", 20);
  EXPECT_FALSE(history.ask("a", 10, 0, 0));  // one closed stream is kept
  EXPECT_TRUE(history.ask("a", 20, 0, 0));
}

}  // namespace
}  // namespace sidewinder::live
