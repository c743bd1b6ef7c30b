// Samples on their way into the upload.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sidewinder::cuda {

// Samples in [-1, 1) to 16 bits; false when some sample is no multiple of 1 / 32768 in that range and would
// change. `to` is written either way. Any thread.
bool pack_16bit(const float* from, std::size_t count, std::int16_t* to) noexcept;

}  // namespace sidewinder::cuda
