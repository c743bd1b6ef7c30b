// The checksum in the header of a capsule, of an engine's slot (model/capsule.h) or of a whole stream
// (daemon/live).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <xxhash.h>

namespace sidewinder {

// XXH3 (xxhash.com) of the header, its `checksum` taken for zero, and of the body behind it. `Header` has no
// padding. Any thread.
template <typename Header>
std::uint64_t capsule_checksum(Header header, std::span<const std::byte> body) {
  static_assert(std::is_trivially_copyable_v<Header>);
  header.checksum = 0;
  return XXH3_64bits_withSeed(body.data(), body.size(), XXH3_64bits(&header, sizeof(header)));
}

}  // namespace sidewinder
