// A wave: the rows of many streams that go through the network together. Host fills it, kernels read it.
#pragma once

#include <cstdint>

namespace sidewinder::cuda {

// Row counts of a wave; every kernel reads them on the device, so that a captured graph serves any wave that
// its grid covers.
struct alignas(64) WaveCounts {
  std::int32_t segments;
  std::int32_t rows;        // encoder rows
  std::int32_t stem_rows;   // rows of the stem buffer
  std::int32_t conv1_rows;  // rows of the conv1 buffer: twice as many
  std::int32_t float_pcm;   // 1: samples are float32, 0: 16-bit
  std::int32_t scores;      // place of the step's first score behind its first token
  std::int64_t pcm;         // bytes from here to the PCM
};

// One stream's share of a wave; a stream is in a wave at most once.
//
// Stem, conv1 and feature buffers are cut into one region a segment, at rows stem_base, 2 stem_base and
// 4 stem_base, so that both strided convolutions are plain matrix products over the whole buffer: output row
// r reads input rows 2 r, 2 r + 1, 2 r + 2. Rows between the regions hold leftovers that nothing uses.
//   conv1:    kept rows at 2 stem_base, new ones behind them
//   features: kept rows at 4 stem_base + 2 conv1_kept, new ones behind them
struct WaveSegment {
  std::uint32_t slot;
  std::int32_t first_row;      // of the wave's encoder rows
  std::int32_t rows;           // encoder rows that come out
  std::int32_t out_row;        // first of them among the step's outputs
  std::uint32_t pcm_offset;    // samples into the wave's PCM
  std::int32_t pcm_samples;    // samples there; zeros follow up to `fresh`
  std::int32_t tail;           // samples waiting in the state
  std::int32_t fresh;          // samples taken in by this wave
  std::int32_t stem_base;      // row
  std::int32_t features_kept;  // rows
  std::int32_t features_new;
  std::int32_t conv1_kept;
  std::int32_t conv1_new;
  std::int32_t stem_kept;  // rows waiting for their future in the state's lookahead
  std::int32_t stem_new;
  std::int32_t stem_left;  // rows that wait after this wave
};

// Stem rows that a segment's regions take: windows of the next rows reach past the new ones.
constexpr std::int32_t region_rows(std::int32_t stem_new) {
  return stem_new + 2;
}

}  // namespace sidewinder::cuda
