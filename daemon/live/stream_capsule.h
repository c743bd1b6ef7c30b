// A live stream as one plain value: saved here, gone on with here or elsewhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/live/readout.h"
#include "daemon/live/segment_text.h"
#include "daemon/live/stream_info.h"
#include "dsp/resampler.h"
#include "model/hotwords.h"
#include "model/weights.h"

namespace sidewinder::live {

// What the scheduler remembers of a stream beside its readout.
struct StreamTold {
  std::size_t partial_words = 0;  // of the open segment, when its last partial was made
  std::string partial_tentative;
  std::int64_t level_begin = 0;  // model samples: where the running level began
  double level_squares = 0;
  float level_peak = 0;
};

// A stream at one position, which all that was accepted before it has reached: nothing waits in its rings.
// Each part is filled in by the thread that owns it.
struct StreamCapsule {
  StreamInfo info;

  // The producer's.
  std::int64_t next_seq = 0;      // of the next audio message
  dsp::ResamplerState resampler;  // its counters are the position: frames accepted, model samples heard

  // The scheduler's.
  std::vector<std::byte> engine;  // Engine::save()
  std::vector<float> unread;      // the last model samples, which the engine has heard and given no frame of
  Readout::State readout;
  StreamTold told;
  std::vector<Hotword> hotwords;  // those in force

  // The publisher's.
  std::array<std::int64_t, kResultKinds> result_seqs{};  // of the next result of each kind
  std::optional<SegmentText::State> text;                // where it was to be readable

  std::int64_t finals() const { return readout.open.number; }  // published so far
};

// A capsule on its way from thread to thread, each adding its part.
struct StreamSave {
  std::uint64_t token = 0;     // control's
  bool end = false;            // the stream ends here, and goes on where the capsule is restored
  bool failed = false;         // the engine has no state any more to be saved
  ModelHash model{};           // that the stream is on
  std::uint64_t decoding = 0;  // Decoding::identity() of it
  StreamCapsule capsule;
};

// What a capsule must fit. Outlives the calls.
struct CapsuleHost {
  const ModelHash& model;
  const ModelConfig& config;
  const Decoding& decoding;
};

// As bytes: a header (magic, version, length, model's hash, checksum), then CBOR (RFC 8949), a map of the
// fields by name. `decoding` is Decoding::identity().
std::vector<std::byte> seal(const StreamCapsule& capsule, const ModelHash& model, std::uint64_t decoding);

// Throws Fault, and never anything else whatever the bytes are: bad_capsule (damaged, not one, of another
// version, or a value in it that no stream can have), other_model (names both models), unsupported (this
// daemon decodes in another way). What it returns is safe to go on with, but for the text, which the
// publisher checks.
StreamCapsule unseal(std::span<const std::byte> bytes, const CapsuleHost& host);

}  // namespace sidewinder::live
