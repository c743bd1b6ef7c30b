// `sidewinder transcribe`: recordings in, transcripts out, many at once in one batch.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "daemon/audio/pcm.h"
#include "daemon/engine_choice.h"
#include "daemon/transcribe/transcript_writer.h"
#include "model/decoding.h"

namespace sidewinder {

// Which of an input's channels become streams.
struct ChannelChoice {
  enum class Kind { Mix, One, Each } kind = Kind::Mix;
  int number = 0;  // One: from 1
};

struct TranscribeOptions {
  std::vector<std::string> inputs;  // paths; "-" is standard input
  TranscriptFormat format = TranscriptFormat::Text;
  TextStyle text = TextStyle::Words;
  std::optional<std::filesystem::path> output;  // folder for one transcript an input; else standard output
  std::filesystem::path model;
  EngineChoice engine = EngineChoice::Auto;
  int gpus = 1;  // that share the inputs; 0: all
  CudaPrecision precision = CudaPrecision::Float16;
  DecodingChoice decoding;
  std::optional<std::filesystem::path> hotwords;  // a file of phrases to favour
  int chunk_ms = 1920;                            // 48 encoder frames: one whole tile of the CPU engine
  int threads = 0;                                // 0: one a core, no more than inputs
  ChannelChoice channel;
  bool progress = false;         // a bar on standard error, if that is a terminal
  bool realtime = false;         // no faster than the audio was spoken
  std::optional<PcmFormat> raw;  // standard input without a header
};

// With --output an input's transcript is this and the format's extension.
std::string output_stem(const std::string& input);

// Runs to the end and returns an exit code (daemon/cli/exit_code.h); says what went wrong on standard error,
// a line each. Throws ModelError, HotwordError, EngineUnavailable, and OutputError for standard output.
int transcribe(const TranscribeOptions& options);

}  // namespace sidewinder
