#include "daemon/live/config.h"

#include <string>

#include <gtest/gtest.h>

namespace sidewinder::live {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_config_toml(text, "file.toml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Config, ExampleHoldsTheDefaults) {
  const Config config = load_config_file(std::filesystem::path(SIDEWINDER_TEST_DATA).parent_path() /
                                         "daemon" / "sidewinder.toml");
  const Config defaults;
  EXPECT_EQ(config.model.folder, defaults.model.folder);
  EXPECT_EQ(config.engine.precision, defaults.engine.precision);
  EXPECT_EQ(config.sockets.results, defaults.sockets.results);
  EXPECT_EQ(config.sockets.ingest, defaults.sockets.ingest);
  EXPECT_EQ(config.sockets.control, defaults.sockets.control);
  EXPECT_EQ(config.sockets.http, defaults.sockets.http);
  EXPECT_EQ(config.limits.streams, defaults.limits.streams);
  EXPECT_EQ(config.limits.buffer_ms, defaults.limits.buffer_ms);
  EXPECT_EQ(config.limits.max_message_bytes, defaults.limits.max_message_bytes);
  EXPECT_EQ(config.scheduler.chunk_ms, defaults.scheduler.chunk_ms);
  EXPECT_EQ(config.decoder.choice.kind, defaults.decoder.choice.kind);
  EXPECT_EQ(config.decoder.choice.stability, defaults.decoder.choice.stability);
  EXPECT_EQ(config.decoder.hotwords, defaults.decoder.hotwords);
  EXPECT_EQ(config.scheduler.max_wait_ms, defaults.scheduler.max_wait_ms);
  EXPECT_EQ(config.scheduler.behind_ms, defaults.scheduler.behind_ms);
  EXPECT_EQ(config.endpoint.silence_ms, defaults.endpoint.silence_ms);
  EXPECT_EQ(config.endpoint.max_segment_ms, defaults.endpoint.max_segment_ms);
  EXPECT_EQ(config.endpoint.detector, defaults.endpoint.detector);
  EXPECT_EQ(config.ingest.idle_ms, defaults.ingest.idle_ms);
  EXPECT_EQ(config.results.high_water_mark, defaults.results.high_water_mark);
  EXPECT_EQ(config.results.queue, defaults.results.queue);
  EXPECT_EQ(config.results.level_ms, defaults.results.level_ms);
  EXPECT_EQ(config.history.finals, defaults.history.finals);
  EXPECT_EQ(config.history.streams, defaults.history.streams);
  EXPECT_EQ(config.shutdown.timeout_ms, defaults.shutdown.timeout_ms);
  EXPECT_EQ(config.log.level, defaults.log.level);
  EXPECT_EQ(config.security.server_key, defaults.security.server_key);
  EXPECT_EQ(config.security.audit, defaults.security.audit);
  EXPECT_EQ(config.security.audit_max_bytes, defaults.security.audit_max_bytes);
  EXPECT_TRUE(config.keys.empty());
  EXPECT_EQ(restart_needed(config, defaults), std::vector<std::string>{});
}

TEST(Config, ReadsValues) {
  const Config config = parse_config_toml(
      "[limits]\nstreams = 7\n[scheduler]\nprofile = \"throughput\"\n[engine]\nkind = \"cpu\"\n[log]\nlevel "
      "= "
      "\"debug\"\n",
      "file.toml");
  EXPECT_EQ(config.limits.streams, 7);
  EXPECT_EQ(config.scheduler.chunk_ms, 320);
  EXPECT_EQ(config.engine.kind, EngineChoice::Cpu);
  EXPECT_EQ(config.log.level, "debug");
  EXPECT_EQ(
      parse_config_toml("[scheduler]\nchunk_ms = 40\nprofile = \"low_latency\"\n", "").scheduler.chunk_ms,
      40);
  const Config commands =
      parse_config_toml("[endpoint]\nprofile = \"commands\"\nmax_segment_ms = 5000\n", "");
  EXPECT_EQ(commands.endpoint.silence_ms, 400);
  EXPECT_EQ(commands.endpoint.max_segment_ms, 5'000);
  const Config decoder =
      parse_config_toml("[decoder]\nkind = \"beam\"\nstability = \"quick\"\nhotwords = \"names.txt\"\n", "");
  EXPECT_EQ(decoder.decoder.choice.kind, DecoderKind::Beam);
  EXPECT_EQ(decoder.decoder.choice.stability, "quick");
  EXPECT_EQ(decoder.decoder.hotwords, "names.txt");
}

TEST(Config, TakesEveryPrecision) {
  for (const auto& [name, precision] : kCudaPrecisions)
    EXPECT_EQ(parse_config_toml("[engine]\nprecision = \"" + name + "\"\n", "").engine.precision, precision);
  EXPECT_EQ(error_of("[engine]\nprecision = \"fp8\"\n"),
            "file.toml:2: engine.precision must be one of float16, bfloat16, float32, float8, not \"fp8\"");
}

TEST(Config, NamesLineAndNearestKey) {
  EXPECT_EQ(error_of("[limits]\n\nstream = 3\n"),
            "file.toml:3: limits.stream: unknown key; did you mean streams?");
  EXPECT_EQ(error_of("[limit]\nstreams = 3\n"), "file.toml:1: limit: unknown table; did you mean limits?");
  EXPECT_EQ(error_of("[limits]\nxyzzyplugh = 3\n"), "file.toml:2: limits.xyzzyplugh: unknown key");
  EXPECT_EQ(error_of("streams = 3\n").substr(0, 21), "file.toml:1: streams:");
}

TEST(Config, RefusesWrongValues) {
  EXPECT_EQ(error_of("[limits]\nstreams = 0\n"),
            "file.toml:2: limits.streams must be from 1 to 100000, not 0");
  EXPECT_EQ(error_of("[limits]\nstreams = \"3\"\n"), "file.toml:2: limits.streams must be a whole number");
  EXPECT_EQ(error_of("limits = 3\n"), "file.toml:1: limits must be a table: [limits]");
  EXPECT_EQ(error_of("[engine]\nkind = \"gpu\"\n"),
            "file.toml:2: engine.kind must be one of auto, cpu, cuda, not \"gpu\"");
  EXPECT_NE(error_of("[engine]\nencodings = 1\n").find("must be true or false"), std::string::npos);
  EXPECT_NE(error_of("[engine\n").find("file.toml:1: "), std::string::npos);
  EXPECT_THROW(load_config_file("/nonexistent/file.toml"), ConfigError);
}

TEST(Config, StaysOnLoopbackUnlessToldOtherwise) {
  EXPECT_NE(error_of("[sockets]\nresults = \"tcp://0.0.0.0:7600\"\n").find("not on loopback"),
            std::string::npos);
  EXPECT_NE(error_of("[sockets]\nhttp = \"0.0.0.0:7603\"\n").find("not on loopback"), std::string::npos);
  EXPECT_NE(error_of("[sockets]\ningest = \"udp://127.0.0.1:1\"\n").find("must be tcp://"),
            std::string::npos);
  EXPECT_NE(error_of("[sockets]\ningest = \"tcp://127.0.0.1\"\n").find("needs a port"), std::string::npos);
  EXPECT_EQ(error_of("[sockets]\nallow_remote = true\nresults = \"tcp://0.0.0.0:7600\"\n"), "");
  EXPECT_EQ(error_of("[sockets]\nresults = \"tcp://[::1]:7600\"\ningest = \"ipc:///tmp/x\"\n"), "");
}

}  // namespace
}  // namespace sidewinder::live
