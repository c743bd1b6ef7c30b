// The one exception type that loading a model throws.
#pragma once

#include <stdexcept>
#include <string>

namespace sidewinder {

// A model folder that can't be used. what() names the file, the rule it broke and the way out.
struct ModelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sidewinder
