// Compiled with -fno-trapping-math: without it the compiler does not vectorise this loop.
#include "kernels/pack_samples.h"

#include <algorithm>

namespace sidewinder::cuda {

bool pack_16bit(const float* __restrict from, std::size_t count, std::int16_t* __restrict to) noexcept {
  std::int32_t bad = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const float scaled = from[i] * 32'768.0f;
    const float kept = std::min(std::max(scaled, -32'768.0f), 32'767.0f);
    const std::int32_t whole = static_cast<std::int32_t>(kept);
    to[i] = static_cast<std::int16_t>(whole);
    bad |= static_cast<float>(whole) == scaled ? 0 : 1;
  }
  return bad == 0;
}

}  // namespace sidewinder::cuda
