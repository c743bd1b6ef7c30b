#include "daemon/audio/audio_reader.h"

#include <algorithm>
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
  if (bad_sample_) throw AudioError(*bad_sample_);
  const std::size_t channels = static_cast<std::size_t>(channels_);
  std::size_t frames = read_frames(interleaved);
  auto samples = interleaved.first(frames * channels);
  // NaN compares false.
  auto bad = std::find_if(samples.begin(), samples.end(), [](float v) { return !(std::abs(v) <= kLoudest); });
  if (bad != samples.end()) {
    auto index = static_cast<std::size_t>(bad - samples.begin());
    frames = index / channels;
    bad_sample_ =
        "sample " + std::to_string(frames_read_ + static_cast<std::int64_t>(frames)) + " of channel " +
        std::to_string(index % channels + 1) +
        (std::isfinite(*bad) ? " is far outside -1 to 1; scale the audio, or export it as 16-bit PCM"
                             : " is no finite number (NaN or infinity); export the audio again");
    if (frames == 0) throw AudioError(*bad_sample_);
  }
  frames_read_ += static_cast<std::int64_t>(frames);
  return frames;
}

}  // namespace sidewinder
