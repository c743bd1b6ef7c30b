// What sidewinderd runs with: defaults, or a TOML file (daemon/sidewinder.toml shows every key).
#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/engine_choice.h"
#include "daemon/live/access.h"
#include "daemon/live/readout.h"
#include "model/decoding.h"
#include "model/text/readable_text.h"

namespace sidewinder::live {

// The file is wrong; what() has file, line, key and what to do.
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What may be spent on sockets without harm to the engine: 1 to 4.
int quarter_of_cores();

// Read once, then constant: any thread.
struct Config {
  struct {
    std::filesystem::path folder;  // empty: the default model
  } model;
  struct {
    EngineChoice kind = EngineChoice::Auto;
    int threads = 0;  // 0: one a core
    int gpus = 1;     // of those that the driver shows; 0: all
    CudaPrecision precision = CudaPrecision::Float16;
    bool encodings = false;  // streams may ask for the encoder's output
  } engine;
  struct {
    DecodingChoice choice;
    std::filesystem::path hotwords;  // a file of phrases for every stream that brings none; empty: none
  } decoder;
  struct {
    std::string results = "tcp://127.0.0.1:7600";
    std::string ingest = "tcp://127.0.0.1:7601";
    std::string control = "tcp://127.0.0.1:7602";
    std::string http = "127.0.0.1:7603";  // host:port; port 0: any
    bool allow_remote = false;            // bind elsewhere than on loopback what is not encrypted
  } sockets;
  struct {
    std::int64_t streams = 64;
    std::int64_t buffer_ms = 4'000;  // audio that a stream may have waiting
    std::int64_t max_message_bytes = 1 << 20;
    std::int64_t load_percent = 75;  // of the measured capacity that live streams may take; 0: no such limit
  } limits;
  struct {
    std::int64_t chunk_ms = 160;
    std::int64_t max_wait_ms = 10;  // that a full chunk waits for those of other streams
    std::int64_t behind_ms = 1'000;
  } scheduler;
  struct {
    std::int64_t silence_ms = 800;
    std::int64_t max_segment_ms = 30'000;
    SilenceDetector detector = SilenceDetector::Blanks;
  } endpoint;
  struct {
    TextStyle style = TextStyle::Words;  // of what is published beside the words
  } text;
  struct {
    std::int64_t idle_ms = 30'000;
    std::int64_t threads = quarter_of_cores();  // that read what clients send
  } ingest;
  struct {
    std::int64_t high_water_mark = 1'000;  // messages queued for one subscriber
    std::int64_t queue = 4'096;            // results between scheduler and publisher
    std::int64_t level_ms = 1'000;         // 0: none
  } results;
  struct {
    std::int64_t finals = 64;   // kept a stream
    std::int64_t streams = 64;  // closed streams kept
  } history;
  struct {
    std::int64_t timeout_ms = 10'000;
  } shutdown;
  struct {
    std::filesystem::path server_key;  // the daemon's secret certificate; empty: nothing is encrypted
    std::string secret_key;            // Z85, read from it by load_config_file()
    std::filesystem::path audit;       // empty: none
    std::int64_t audit_max_bytes = 64 << 20;
  } security;
  std::vector<KeyRules> keys;  // [keys.NAME]
  struct {
    std::string level = "info";  // trace, debug, info, warning, error
  } log;
};

Endpoint endpoint_of(const Config& config);

// `origin` names the text in errors. Throws ConfigError: bad TOML, an unknown key, a value of the wrong type
// or out of range, an address off loopback that is neither encrypted nor allowed by sockets.allow_remote.
Config parse_config_toml(std::string_view text, const std::string& origin);

// The settings that differ and can't change while the daemon runs, as "TABLE.KEY". All others are log.level,
// endpoint.*, ingest.idle_ms, shutdown.timeout_ms and keys.*.
std::vector<std::string> restart_needed(const Config& running, const Config& wanted);

// The sockets off loopback that nothing encrypts, as "sockets.NAME = ADDRESS".
std::vector<std::string> exposed_sockets(const Config& config);

// Reads the server's certificate too, whose errors are ConfigErrors.
Config load_config_file(const std::filesystem::path& file);

}  // namespace sidewinder::live
