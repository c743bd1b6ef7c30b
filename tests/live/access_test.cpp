#include "daemon/live/access.h"

#include <string>

#include <gtest/gtest.h>

#include "daemon/live/protocol.h"
#include "tests/live/fault_reason.h"

namespace sidewinder::live {
namespace {

KeyRules rules(const std::string& name) {
  return {.name = name, .public_key = name + "-key", .publish = {}, .subscribe = {}, .control = {}};
}

bool hears(const std::vector<std::string>& patterns, const std::string& topic) {
  KeyRules key = rules("k");
  key.subscribe = patterns;
  const Access access(true, {key});
  return reason_of([&] { access.require_subscribe("k", topic); }).empty();
}

bool publishes(const std::vector<std::string>& patterns, const std::string& stream) {
  KeyRules key = rules("k");
  key.publish = patterns;
  const Access access(true, {key});
  return reason_of([&] { access.require_publish("k", stream); }).empty();
}

TEST(Access, Patterns) {
  for (const char* pattern : {"a", "a*", "*", "a.b_c-9"}) {
    EXPECT_EQ(pattern_error(pattern, false), "") << pattern;
    EXPECT_EQ(pattern_error(pattern, true), "") << pattern;
  }
  for (const char* pattern :
       {"", "a/", "/final", "a*b", "**", "a b", "a/final/", "a/nonsense", "a/fin*", "\xff"}) {
    EXPECT_NE(pattern_error(pattern, false), "") << pattern;
    EXPECT_NE(pattern_error(pattern, true), "") << pattern;
  }
  for (const char* pattern : {"a/final", "a*/closed", "*/partial"}) {
    EXPECT_NE(pattern_error(pattern, false), "") << pattern;
    EXPECT_EQ(pattern_error(pattern, true), "") << pattern;
  }
}

// A prefix is allowed only if every topic that begins with it is.
TEST(Access, SubscriptionsByPrefix) {
  for (const char* topic : {"", "a", "ab/", "ab/final/", "ab/fin"}) EXPECT_TRUE(hears({"*"}, topic)) << topic;
  for (const char* topic : {"ab", "abc", "ab/", "abc/final/"}) EXPECT_TRUE(hears({"ab*"}, topic)) << topic;
  for (const char* topic : {"", "a", "b", "a/", "a/final/"}) EXPECT_FALSE(hears({"ab*"}, topic)) << topic;
  for (const char* topic : {"ab/", "ab/f", "ab/final/"}) EXPECT_TRUE(hears({"ab"}, topic)) << topic;
  for (const char* topic : {"", "a", "ab", "abc/", "b/ab/"}) EXPECT_FALSE(hears({"ab"}, topic)) << topic;
  EXPECT_TRUE(hears({"ab*/final"}, "abc/final/"));
  for (const char* topic : {"", "ab", "abc/", "abc/final", "abc/partial/", "abc/final/x", "a/final/"})
    EXPECT_FALSE(hears({"ab*/final"}, topic)) << topic;
  EXPECT_FALSE(hears({}, "a/"));
  EXPECT_TRUE(hears({"x", "a"}, "a/"));
}

TEST(Access, Publishing) {
  EXPECT_TRUE(publishes({"ab"}, "ab"));
  EXPECT_FALSE(publishes({"ab"}, "abc"));
  EXPECT_FALSE(publishes({"ab"}, ""));
  EXPECT_TRUE(publishes({"ab*"}, "abc"));
  EXPECT_FALSE(publishes({"ab*"}, ""));
  EXPECT_TRUE(publishes({"*"}, ""));
  EXPECT_FALSE(publishes({}, "a"));
}

TEST(Access, UnknownKeysMayNothing) {
  Access access(true, {rules("known")});
  EXPECT_EQ(access.name_of("known-key"), "known");
  EXPECT_EQ(access.name_of(""), "");
  EXPECT_EQ(access.name_of("other-key"), "");
  for (const char* key : {"", "other"}) {
    EXPECT_EQ(reason_of([&] { access.require_publish(key, "a"); }), "not_allowed");
    EXPECT_EQ(reason_of([&] { access.require_subscribe(key, "a/"); }), "not_allowed");
    EXPECT_EQ(reason_of([&] { access.require_control(key, "list"); }), "not_allowed");
    EXPECT_EQ(reason_of([&] { access.take_bytes(key, 1); }), "not_allowed");
    EXPECT_EQ(reason_of([&] { access.rules(key); }), "not_allowed");
  }
}

TEST(Access, WithoutKeysEverythingIsAllowed) {
  Access access(false, {});
  access.require_publish("", "");
  access.require_subscribe("", "");
  access.require_control("", "drain");
  access.take_bytes("", std::size_t{1} << 40);
  EXPECT_EQ(access.rules("").control, std::set<std::string>{"*"});
}

TEST(Access, QuotaTakesASecondsWorthAndThenSaysHowLongToWait) {
  KeyRules key = rules("k");
  key.bytes_per_second = 1'000;
  key.control = {"list"};
  key.requests_per_second = 2;
  Access access(true, {key});
  const auto wait = [&](std::size_t bytes) -> std::int64_t {
    try {
      access.take_bytes("k", bytes);
      return 0;
    } catch (const Fault& fault) {
      EXPECT_EQ(fault.reason, "over_quota");
      return fault.extra["retry_ms"].get<std::int64_t>();
    }
  };
  EXPECT_EQ(wait(5'000), 0);  // at once, or it never could be
  const std::int64_t in_debt = wait(1);
  EXPECT_GT(in_debt, 1'000);
  EXPECT_LE(in_debt, 4'001);
  access.require_control("k", "list");
  access.require_control("k", "list");
  EXPECT_EQ(reason_of([&] { access.require_control("k", "list"); }), "over_quota");
  EXPECT_EQ(reason_of([&] { access.require_control("k", "drain"); }), "not_allowed");
  access.replace({key});  // reading the settings again fills nothing
  EXPECT_EQ(reason_of([&] { access.take_bytes("k", 1); }), "over_quota");
}

TEST(Access, SaysWhenSubscriptionsMayHaveToGo) {
  KeyRules a = rules("a"), b = rules("b");
  a.subscribe = {"x"};
  Access access(true, {a, b});
  EXPECT_FALSE(access.replace({a, b}));
  b.streams = 3;
  EXPECT_FALSE(access.replace({a, b, rules("c")}));
  EXPECT_TRUE(access.replace({a, b}));
  a.subscribe = {"y"};
  EXPECT_TRUE(access.replace({a, b}));
  b.public_key = "another";
  EXPECT_TRUE(access.replace({a, b}));
}

}  // namespace
}  // namespace sidewinder::live
