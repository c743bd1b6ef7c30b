#include "daemon/live/protocol.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/live/fault_reason.h"

namespace sidewinder::live {
namespace {

Request parse(const std::string& text) {
  return Request(std::as_bytes(std::span(text)));
}

TEST(Protocol, RefusesWhatIsNoMessage) {
  for (const char* text : {"", "{", "[]", "1", "null", "{}", R"({"v":1})", R"({"v":"1","type":"ping"})",
                           R"({"v":1,"type":3})", R"({"v":1.5,"type":"ping"})", "\xff\xfe"})
    EXPECT_EQ(reason_of([&] { parse(text); }), "bad_message") << text;
  EXPECT_EQ(reason_of([] { parse(R"({"v":2,"type":"ping"})"); }), "version");
  EXPECT_EQ(reason_of([] { parse(R"({"v":1,"type":"ping","id":")" + std::string(5000, 'x') + "\"}"); }),
            "bad_message");
  EXPECT_EQ(reason_of([] { parse(std::string(4000, '[')); }), "bad_message");
}

TEST(Protocol, ReadsFields) {
  const Request request = parse(
      R"({"v":1,"type":"audio","stream":"a","seq":9007199254740991,"big":18446744073709551615,"neg":-1})");
  EXPECT_EQ(request.type(), "audio");
  EXPECT_EQ(request.integer("seq", 0, kMaxInteger), kMaxInteger);
  EXPECT_EQ(request.text("stream", 64), "a");
  EXPECT_EQ(request.optional_text("id", 64), std::nullopt);
  EXPECT_EQ(reason_of([&] { request.integer("big", 0, kMaxInteger); }), "bad_message");
  EXPECT_EQ(reason_of([&] { request.integer("neg", 0, kMaxInteger); }), "bad_message");
  EXPECT_EQ(reason_of([&] { request.integer("none", 0, 1); }), "bad_message");
  EXPECT_EQ(reason_of([&] { request.integer("stream", 0, 1); }), "bad_message");
  Json answer = message("error");
  request.echo(answer);
  EXPECT_EQ(dump(answer), R"({"v":1,"type":"error","stream":"a","seq":9007199254740991})");
}

TEST(Protocol, ReadsOpen) {
  const StreamInfo info = read_open(
      parse(R"({"v":1,"type":"open","stream":"a","rate":48000,"format":"s16le","channels":2,"channel":1})"));
  EXPECT_EQ(info.name, "a");
  EXPECT_EQ(info.rate, 48'000);
  EXPECT_EQ(info.channels, 2);
  EXPECT_EQ(info.channel, 1);
  auto reason = [](const std::string& fields) {
    return reason_of([&] { read_open(parse(R"({"v":1,"type":"open",)" + fields + "}")); });
  };
  EXPECT_EQ(reason(R"("rate":16000,"format":"f32le")"), "");
  EXPECT_EQ(reason(R"("rate":4000,"format":"s16le")"), "bad_format");
  EXPECT_EQ(reason(R"("rate":16000,"format":"mp3")"), "bad_format");
  EXPECT_EQ(reason(R"("rate":16000,"format":"s16le","channel":2)"), "bad_format");
  EXPECT_EQ(reason(R"("rate":16000,"format":"s16le","encodings":"float64")"), "bad_format");
  EXPECT_EQ(reason(R"("rate":16000,"format":"s16le","stream":"")"), "bad_name");
  EXPECT_EQ(reason(R"("rate":16000)"), "bad_message");
  EXPECT_EQ(reason(R"("rate":16000,"format":"s16le","channels":33)"), "bad_message");
}

TEST(Protocol, Names) {
  EXPECT_TRUE(valid_name("A-z_0.9"));
  EXPECT_TRUE(valid_name(std::string(64, 'a')));
  for (const std::string& name : {std::string(), std::string(65, 'a'), std::string("a/b"), std::string("ä"),
                                  std::string("a b"), std::string("a\0b", 3)})
    EXPECT_FALSE(valid_name(name));
}

TEST(Protocol, RepairsText) {
  Json answer = message("error");
  answer["message"] = "\xff";
  EXPECT_EQ(dump(answer), "{\"v\":1,\"type\":\"error\",\"message\":\"\xEF\xBF\xBD\"}");
}

// Any bytes either parse or are a Fault.
TEST(Protocol, TakesAnyBytes) {
  const std::string valid =
      R"({"v":1,"type":"open","stream":"a","rate":48000,"format":"s16le","channels":2})";
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string text = valid;
    for (int change = 0; change < 4; ++change)
      text[random() % text.size()] = static_cast<char>(round % 2 ? random() : valid[random() % valid.size()]);
    try {
      const Request request = parse(text);
      Json answer = message("error");
      request.echo(answer);
      dump(answer);
      read_open(request);
    } catch (const Fault& fault) {
      EXPECT_FALSE(fault.reason.empty());
    }
  }
}

}  // namespace
}  // namespace sidewinder::live
