// Tokens of text to plain text, JSON, SubRip and WebVTT, written as they come.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "daemon/transcribe/sink.h"
#include "model/text/readable_text.h"

namespace sidewinder {

enum class TranscriptFormat { Text, Json, Srt, Vtt };

const char* extension(TranscriptFormat format);  // ".txt", ".json", ".srt", ".vtt"

// What is known before the first word.
struct TranscriptStart {
  std::string file;     // the input, as it was named
  int sample_rate = 0;  // Hz, of the input: the clock of every position in samples
  int model_rate = 0;   // Hz: the clock of Word
  int channels = 0;     // of the input
  std::string channel;  // "mix", or the channel's number from 1
  std::string engine;   // "cpu" or "cuda"
  std::string model_name;
  std::string model_hash;  // hexadecimal SHA-256
  bool readable = false;   // tokens are written text (ReadableText), not the words themselves
};

// What is known after the last.
struct TranscriptEnd {
  std::int64_t samples = 0;                         // of the input, in each channel
  double wall_seconds = 0;                          // from opening the input to here
  double read_seconds = 0;                          // of these, reading and resampling
  double engine_seconds = 0;                        // of these, this stream's share of the engine's steps
  std::optional<std::string> error = std::nullopt;  // why the input ended early, if it did
};

// One stream's transcript. Thread rule: one thread.
class TranscriptWriter {
 public:
  virtual ~TranscriptWriter() = default;
  virtual void token(const TextToken& token) = 0;     // throws OutputError
  virtual void finish(const TranscriptEnd& end) = 0;  // throws OutputError
};

// `sink` must outlive the writer. Throws OutputError.
std::unique_ptr<TranscriptWriter> make_transcript_writer(TranscriptFormat format, TranscriptStart start,
                                                         Sink& sink);

// A JSON object for an input that could not be opened: {"file": ..., "error": ...}.
std::string json_failure(const std::string& file, const std::string& error);

}  // namespace sidewinder
