// Cuts a step into waves: which samples of which streams go through the network together. Integer arithmetic
// only, no CUDA; nothing here changes a result, since any cut gives the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/wave.h"
#include "model/capsule.h"
#include "model/config.h"
#include "model/engine.h"

namespace sidewinder::cuda {

// How far a step has come with one stream. Times are in samples of this step, end padding included.
struct Cursor {
  std::uint32_t stream = 0;  // of the batch
  bool end = false;          // lookahead runs out behind the last sample
  std::int64_t taken = 0;
  std::int64_t total = 0;
  std::int64_t given = 0;     // samples the caller gave; zeros follow
  std::int32_t next_out = 0;  // row of the step's outputs
  bool done() const { return taken == total && !end; }
};

// What a wave holds so far.
struct WaveFill {
  std::int32_t segments = 0;
  std::int32_t rows = 0;
  std::int32_t stem_rows = 0;
  std::int64_t samples = 0;           // of PCM, each segment's padded to kPcmAlign
  std::int32_t segment_features = 0;  // most of one segment
  std::int32_t segment_rows = 0;      // most of one segment
};

// Segments start at multiples of this many samples.
constexpr std::int64_t kPcmAlign = 8;

// Encoder rows a stream has given after `samples` samples.
std::int64_t rows_given(const ModelConfig& config, const StreamClock& clock);

class WavePlanner {
 public:
  // The limits must hold one stream's least piece: at least `lookahead + 1` rows and as many stem rows and
  // samples as smallest_limits() says.
  WavePlanner(const ModelConfig& config, std::int32_t rows, std::int32_t segments, std::int32_t stem_rows,
              std::int64_t samples);

  // Adds the cursor's next piece, of at most about `slice` rows, to the wave; moves cursor and clock on.
  // False, and nothing has changed, when the wave has no room for a sensible piece.
  bool add(Cursor& cursor, StreamClock& clock, std::uint32_t slot, std::int32_t slice, WaveFill& fill,
           WaveSegment& segment) const;

 private:
  ModelConfig config_;
  std::int32_t rows_, segments_, stem_rows_;
  std::int64_t samples_;
};

}  // namespace sidewinder::cuda
