// The encoder's part of a state capsule: a header in front of a slot's floats. Same for every engine.
#pragma once

#include <cstdint>
#include <span>

#include "model/state_layout.h"
#include "model/weights.h"

namespace sidewinder {

// How far a stream has come; with StateLayout's floats, all there is to it.
struct StreamClock {
  std::int64_t samples = 0;  // samples heard, end padding included once the stream has ended
  std::int64_t ended = 0;    // 1 after the step that ended it
};

std::size_t capsule_size(const StateLayout& layout);

// Writes header and checksum before the floats, which the caller puts at capsule_floats() first.
// `capsule` holds capsule_size() bytes.
void seal_capsule(std::span<std::byte> capsule, const ModelHash& hash, const StreamClock& clock);

std::span<std::byte> capsule_floats(std::span<std::byte> capsule);
std::span<const std::byte> capsule_floats(std::span<const std::byte> capsule);

// Checks size, magic, version, model and checksum. Throws ModelError.
StreamClock open_capsule(std::span<const std::byte> capsule, const StateLayout& layout,
                         const ModelHash& hash);

}  // namespace sidewinder
