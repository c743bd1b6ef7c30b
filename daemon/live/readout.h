// One stream's frames to segments: words, and where a segment ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/live/voice_track.h"
#include "model/config.h"
#include "model/decoding.h"

namespace sidewinder::live {

// What hears that nobody speaks.
enum class SilenceDetector {
  Blanks,  // the recogniser: frames whose likeliest token is the blank
  Voice,   // no voice activity, and blanks for as long as the decoder needs (Decoder::pause_frames())
  Both,    // no voice activity, and blanks, for all of the silence
};

// When a segment ends, in milliseconds of audio.
struct Endpoint {
  // After speech. At least Decoder::pause_frames(). Where voice is heard on and on that is not words (a
  // crowd, music), kMostSilences times as long of blanks end a segment too.
  std::int64_t silence_ms = 800;
  std::int64_t max_segment_ms = 30'000;  // and then at the next word's start
  SilenceDetector detector = SilenceDetector::Blanks;

  static constexpr std::int64_t kMostSilences = 3;
};

// Model: another model went on from there.
enum class SegmentEnd { Pause, Length, End, Model };

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

  // A stream that another readout has heard up to `origin` (samples at the model's rate): its segments'
  // numbers and the endpoint go on, and what is said of it from here on is of samples from there on. The
  // frames count from 0 again, and so does the detector of voice activity.
  void go_on_from(const Readout& before, std::int64_t origin);
  std::int64_t origin() const noexcept { return origin_; }

  // For the frames from here on.
  void set_endpoint(const Endpoint& endpoint) noexcept;

  // The samples of a step, at the model's rate, for the detector of voice activity; before the frames that
  // they brought go to advance().
  void hear(std::span<const float> samples) noexcept;

  // Takes in the next frames and appends the segments that ended in them. No word reaches past `heard`
  // (samples at the model's rate): what padding brings out ends with the audio.
  void advance(const StreamOutput& frames, std::int64_t heard, std::vector<Segment>& ended);

  // The stream's end: appends the open segment if it has words.
  void finish(std::int64_t heard, std::vector<Segment>& ended);

  // Another model goes on from `position`: appends the open segment if it has words, none of which reaches
  // past there.
  void interrupt(std::int64_t position, std::vector<Segment>& ended);

  // Whether it is a pause in which another model may go on: no word is open, and nothing has been said for
  // long enough that none is about to come out.
  bool is_idle() const noexcept;
  // In such a pause, how many of the last samples hold no word of this readout's, but maybe the beginning of
  // the next, which comes out some time after it was said (WordFit): the other model should hear them too.
  std::int64_t onset_samples() const noexcept;
  // Of any readout, the most.
  static std::int64_t most_onset_samples(const ModelConfig& config) noexcept {
    return kOnsetMs * config.sample_rate / 1000;
  }

  // The segment being built: its words are settled, tentative() may still change. Its end is not set.
  const Segment& open() const noexcept { return open_; }
  std::string_view tentative() const noexcept { return decoder_->tentative().text; }

  // All there is to it but the hotwords. Plain values, for the state capsule.
  struct State {
    Endpoint endpoint;
    std::int64_t origin = 0;         // where its frame 0 begins: samples from the stream's start
    std::vector<std::byte> decoder;  // Decoder::save()
    Segment open;
    std::int64_t last_end = 0;  // of the segment before, samples
    std::int64_t blanks = 0;    // frames since the last token
    std::int64_t quiet = 0;     // and since the last with voice
    VoiceTrack::State voice;
  };
  State state() const;
  // Whether a state that came from outside can be set, the hotwords that it had being set already.
  bool fits(const State& state) const noexcept;
  void set_state(State state);

  // See Decoder::set_hotwords(); a new stream has none.
  void set_hotwords(const Hotwords* hotwords) noexcept { decoder_->set_hotwords(hotwords); }

 private:
  static constexpr std::int64_t kOnsetMs = 400;

  void settle(std::int64_t heard);
  // A position of the decoder's, which counts from the origin, in the stream.
  std::int64_t place(std::int64_t position, std::int64_t heard) const noexcept;
  bool is_pause() const noexcept;
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
  std::int64_t origin_ = 0;  // samples of the stream before the decoder's first
  Endpoint endpoint_;
  std::int64_t silence_frames_;  // that end a segment
  std::int64_t max_samples_;     // length that ends one
  Segment open_;
  std::vector<Word> settled_;
  std::int64_t last_end_ = 0;  // of the segment before
  std::int64_t blanks_ = 0;    // so many frames since the last token
  std::int64_t quiet_ = 0;     // and since the last with voice
  VoiceTrack voice_;
};

}  // namespace sidewinder::live
