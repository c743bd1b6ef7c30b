// Bytes of files made by the tests.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

namespace sidewinder {

using Bytes = std::string;

// A number, as an `As` where given, as it lies in a little-endian file.
template <typename As = void, typename Value>
Bytes little(Value value) {
  using Number = std::conditional_t<std::is_void_v<As>, Value, As>;
  const auto number = static_cast<Number>(value);
  Bytes out(sizeof number, '\0');
  std::memcpy(out.data(), &number, sizeof number);
  return out;
}

}  // namespace sidewinder
