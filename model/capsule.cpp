#include "model/capsule.h"

#include <cstring>

#include "model/capsule_checksum.h"
#include "model/error.h"

namespace sidewinder {
namespace {

constexpr std::uint64_t kMagic = 0x3130'5041'4357'5353;  // "SSWCAP01", little-endian

struct Header {
  std::uint64_t magic;
  std::uint64_t bytes;  // of the whole capsule
  ModelHash model;
  StreamClock clock;
  std::uint64_t checksum;  // capsule_checksum(), of the floats
};
static_assert(sizeof(Header) == 72, "no padding: the header is written as it lies");

}  // namespace

std::size_t capsule_size(const StateLayout& layout) {
  return sizeof(Header) + layout.size * sizeof(float);
}

std::span<std::byte> capsule_floats(std::span<std::byte> capsule) {
  return capsule.subspan(sizeof(Header));
}
std::span<const std::byte> capsule_floats(std::span<const std::byte> capsule) {
  return capsule.subspan(sizeof(Header));
}

void seal_capsule(std::span<std::byte> capsule, const ModelHash& hash, const StreamClock& clock) {
  Header header{kMagic, capsule.size(), hash, clock, 0};
  header.checksum = capsule_checksum(header, capsule_floats(capsule));
  std::memcpy(capsule.data(), &header, sizeof(header));
}

StreamClock open_capsule(std::span<const std::byte> capsule, const StateLayout& layout,
                         const ModelHash& hash) {
  Header header;
  if (capsule.size() < sizeof(header))
    throw ModelError("state capsule: shorter than its header; save it again");
  std::memcpy(&header, capsule.data(), sizeof(header));
  if (header.magic != kMagic)
    throw ModelError("state capsule: not one of this version of Sidewinder; save it again");
  if (header.model != hash)
    throw ModelError("state capsule: saved with model " + hex(header.model) + ", this engine runs " +
                     hex(hash) + "; load that model");
  if (header.bytes != capsule.size() || capsule.size() != capsule_size(layout))
    throw ModelError("state capsule: " + std::to_string(capsule.size()) + " bytes, this model's have " +
                     std::to_string(capsule_size(layout)) + "; save it again");
  if (header.checksum != capsule_checksum(header, capsule_floats(capsule)))
    throw ModelError("state capsule: its checksum is wrong, so it is damaged; save it again");
  return header.clock;
}

}  // namespace sidewinder
