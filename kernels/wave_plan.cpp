#include "kernels/wave_plan.h"

#include <algorithm>

namespace sidewinder::cuda {

std::int64_t rows_given(const ModelConfig& config, const StreamClock& clock) {
  return clock.ended ? config.stem_frames(clock.samples) : config.frames_given(clock.samples);
}

WavePlanner::WavePlanner(const ModelConfig& config, std::int32_t rows, std::int32_t segments,
                         std::int32_t stem_rows, std::int64_t samples)
    : config_(config), rows_(rows), segments_(segments), stem_rows_(stem_rows), samples_(samples) {}

bool WavePlanner::add(Cursor& cursor, StreamClock& clock, std::uint32_t slot, std::int32_t slice,
                      WaveFill& fill, WaveSegment& segment) const {
  const std::int64_t lookahead = config_.stem.lookahead;
  const std::int64_t remaining = cursor.total - cursor.taken;
  const std::int64_t before = clock.samples;
  const std::int64_t features_before = config_.feature_frames(before);
  const std::int64_t conv1_before = config_.stem_outputs(features_before);
  const std::int64_t stem_before = config_.stem_outputs(conv1_before);

  // As many samples as can't give more than `most` stem rows. The end lets up to `lookahead` more rows out.
  if (fill.segments == segments_) return false;
  const std::int64_t room = std::min<std::int64_t>(rows_ - fill.rows - (cursor.end ? lookahead : 0),
                                                   stem_rows_ - fill.stem_rows - region_rows(0));
  const std::int64_t most = std::min<std::int64_t>(slice, room);
  auto samples_for = [&](std::int64_t rows) {
    return config_.frame_hop() * (stem_before + rows) + config_.first_frame_samples() - 1 - before;
  };
  const std::int64_t pcm_room = (samples_ - fill.samples) / kPcmAlign * kPcmAlign;
  const std::int64_t wanted = std::min(remaining, samples_for(slice));
  std::int64_t count = most < 1 ? 0 : std::min({remaining, samples_for(most), pcm_room});
  // A full wave is closed rather than a stream cut into slivers; an empty one takes what it can.
  if (fill.segments > 0 && count < wanted) return false;
  if (count == 0 && remaining > 0) return false;
  const std::int64_t after = before + count;
  const std::int64_t features_after = config_.feature_frames(after);
  const std::int64_t conv1_after = config_.stem_outputs(features_after);
  const std::int64_t stem_after = config_.stem_outputs(conv1_after);
  const bool flush = cursor.end && count == remaining;

  const std::int64_t kept = std::min(stem_before, lookahead), fresh = stem_after - stem_before;
  const std::int64_t rows = flush ? kept + fresh : std::max<std::int64_t>(0, kept + fresh - lookahead);
  if (rows > rows_ - fill.rows) return false;

  auto narrow = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  segment.slot = slot;
  segment.first_row = fill.rows;
  segment.rows = narrow(rows);
  segment.out_row = cursor.next_out;
  segment.pcm_offset = static_cast<std::uint32_t>(fill.samples);
  segment.pcm_samples = narrow(std::clamp<std::int64_t>(cursor.given - cursor.taken, 0, count));
  segment.tail = narrow(before - features_before * config_.features.hop_length);
  segment.fresh = narrow(count);
  segment.stem_base = fill.stem_rows;
  segment.features_kept = narrow(features_before - conv1_before * config_.stem.stride);
  segment.features_new = narrow(features_after - features_before);
  segment.conv1_kept = narrow(conv1_before - stem_before * config_.stem.stride);
  segment.conv1_new = narrow(conv1_after - conv1_before);
  segment.stem_kept = narrow(kept);
  segment.stem_new = narrow(fresh);
  segment.stem_left = narrow(flush ? 0 : std::min(stem_after, lookahead));

  fill.segments += 1;
  fill.rows += segment.rows;
  fill.stem_rows += region_rows(segment.stem_new);
  fill.samples += (segment.pcm_samples + kPcmAlign - 1) / kPcmAlign * kPcmAlign;
  fill.segment_features = std::max(fill.segment_features, segment.features_new);
  fill.segment_rows = std::max(fill.segment_rows, segment.rows);
  cursor.taken += count;
  cursor.next_out += segment.rows;
  clock.samples = after;
  if (flush) {
    cursor.end = false;
    clock.ended = 1;
  }
  return true;
}

}  // namespace sidewinder::cuda
