#include "daemon/audio/audio_reader.h"

#include <cmath>

#include "dsp/resampler.h"

namespace sidewinder {

void AudioReader::set_format(int rate, int channels, std::optional<std::int64_t> expected_frames) {
  if (channels < 1) throw AudioError("it has no channels; record or convert it again");
  if (rate < dsp::kMinSampleRate || rate > dsp::kMaxSampleRate)
    throw AudioError("its sample rate is " + std::to_string(rate) +
                     " Hz; 8,000 to 192,000 Hz can be read: convert it");
  rate_ = rate;
  channels_ = channels;
  expected_frames_ = expected_frames;
}

std::size_t AudioReader::read(std::span<float> interleaved) {
  const std::size_t channels = static_cast<std::size_t>(channels_);
  const std::size_t frames = read_frames(interleaved);
  for (std::size_t i = 0; i < frames * channels; ++i)
    if (!std::isfinite(interleaved[i]))
      throw AudioError("sample " + std::to_string(frames_read_ + static_cast<std::int64_t>(i / channels)) +
                       " of channel " + std::to_string(i % channels + 1) +
                       " is no finite number (NaN or infinity); export the audio again");
  frames_read_ += static_cast<std::int64_t>(frames);
  return frames;
}

}  // namespace sidewinder
