#include "daemon/live/json_writer.h"

#include <string>

#include <gtest/gtest.h>

#include "daemon/live/protocol.h"

namespace sidewinder::live {
namespace {

TEST(JsonWriter, writes_what_a_parser_reads) {
  const std::string awkward = "a \"b\" \\ \n\x01 caf\xc3\xa9";
  std::string text = "kept:";
  JsonWriter json(text);
  json.field("s", "plain");
  json.field("t", awkward);
  json.field("n", std::int64_t{-9'007'199'254'740'991});
  json.field("b", true);
  json.begin_array("none");
  json.close(']');
  json.begin_array("some");
  for (std::int64_t i = 0; i < 2; ++i) {
    json.begin_object();
    json.field("i", i);
    json.close('}');
  }
  json.close(']');
  json.field("last", false);
  json.close('}');
  ASSERT_TRUE(text.starts_with("kept:"));
  const Json expected{{"s", "plain"}, {"t", awkward},          {"n", -9'007'199'254'740'991},
                      {"b", true},    {"none", Json::array()}, {"some", {{{"i", 0}}, {{"i", 1}}}},
                      {"last", false}};
  EXPECT_EQ(Json::parse(text.substr(5)), expected);
}

TEST(JsonWriter, repairs_what_is_not_utf8) {
  std::string text;
  JsonWriter json(text);
  json.field("s", "a\xff");
  json.close('}');
  EXPECT_EQ(Json::parse(text)["s"], "a\xef\xbf\xbd");
}

TEST(JsonWriter, thousandths) {
  const auto written = [](double value) {
    std::string text;
    JsonWriter json(text);
    json.thousandths("x", value);
    json.close('}');
    return text;
  };
  EXPECT_EQ(written(0), R"({"x":0.0})");
  EXPECT_EQ(written(7.84), R"({"x":7.84})");
  EXPECT_EQ(written(1.0006), R"({"x":1.001})");
  EXPECT_EQ(written(-31.2), R"({"x":-31.2})");
  EXPECT_EQ(written(-0.0004), R"({"x":0.0})");
  EXPECT_EQ(written(0.05), R"({"x":0.05})");
  EXPECT_EQ(written(360'000.125), R"({"x":360000.125})");
}

}  // namespace
}  // namespace sidewinder::live
