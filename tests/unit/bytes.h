// Bytes of files made by the tests.
#pragma once

#include <cstring>
#include <string>

namespace sidewinder {

using Bytes = std::string;

// A number as it lies in a little-endian file.
template <typename T>
Bytes little(T value) {
  Bytes out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

}  // namespace sidewinder
