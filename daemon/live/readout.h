// One stream's frames to segments: words, and where a segment ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/decoding.h"

namespace sidewinder::live {

// When a segment ends, in milliseconds of audio.
struct Endpoint {
  std::int64_t silence_ms = 800;         // frames of blank after speech; at least Decoder::pause_frames()
  std::int64_t max_segment_ms = 30'000;  // and then at the next word's start
};

enum class SegmentEnd { Pause, Length, End };

// Text of a segment; positions are samples at the model's rate, from the stream's start.
struct Segment {
  std::int64_t number = 0;  // counts the segments that have words
  std::int64_t begin = 0;   // of the first word
  std::int64_t end = 0;     // exclusive
  SegmentEnd reason = SegmentEnd::Pause;
  bool continues = false;  // the first word goes on where the segment before stopped
  std::vector<Word> words;
};

// The words of `segment` joined by spaces.
std::string committed_text(const Segment& segment);

// Thread rule: one thread at a time. The segments depend on the frames alone, not on how they were cut into
// calls; their words are those of the offline decoder. `decoding` must outlive it.
class Readout {
 public:
  Readout(const ModelConfig& config, const Decoding& decoding, const Endpoint& endpoint);

  // A stream that has heard nothing.
  void reset();

  // For the frames from here on.
  void set_endpoint(const Endpoint& endpoint) noexcept;

  // Takes in the next frames and appends the segments that ended in them. No word reaches past `heard`
  // (samples at the model's rate): what padding brings out ends with the audio.
  void advance(const StreamOutput& frames, std::int64_t heard, std::vector<Segment>& ended);

  // The stream's end: appends the open segment if it has words.
  void finish(std::int64_t heard, std::vector<Segment>& ended);

  // The segment being built: its words are settled, tentative() may still change. Its end is not set.
  const Segment& open() const noexcept { return open_; }
  std::string_view tentative() const noexcept { return decoder_->tentative().text; }

  // See Decoder::set_hotwords(); a new stream has none.
  void set_hotwords(const Hotwords* hotwords) noexcept { decoder_->set_hotwords(hotwords); }

 private:
  void settle(std::int64_t heard);
  void follow_tentative(std::int64_t heard);
  void begin_segment(std::int64_t begin, bool continues);
  void close(SegmentEnd reason, std::int64_t end, std::vector<Segment>& ended);

  const Tokenizer& tokenizer_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<std::byte> fresh_;  // the decoder's state before the first frame
  std::int32_t blank_;
  std::int64_t hop_;     // samples a frame
  std::int64_t rate_;    // Hz, the model's
  std::int64_t offset_;  // samples: where the decoder puts frame 0
  std::int64_t vocab_;
  std::int64_t silence_frames_;  // blanks that end a segment
  std::int64_t max_samples_;     // length that ends one
  Segment open_;
  std::vector<Word> settled_;
  std::int64_t last_end_ = 0;  // of the segment before
  std::int64_t blanks_ = 0;    // so many frames since the last token
};

}  // namespace sidewinder::live
