// Several engines of one model as one: a host's GPUs behind one scheduler.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "model/engine.h"

namespace sidewinder {

// Makes member `index` of a group with its share of the slots.
using MakeMember = std::function<std::unique_ptr<Engine>(std::uint32_t index, const EngineOptions& options)>;

// An engine over `members` engines: slot s is slot s / members of member s % members. A step runs the members
// side by side, each on a thread of its own (the caller's for the first), and gives the bits that one engine
// alone would give. Capsules move freely between members. Throws std::invalid_argument (options, or fewer
// slots than members) and what `make` throws.
std::unique_ptr<Engine> make_engine_group(std::uint32_t members, const EngineOptions& options,
                                          const MakeMember& make);

}  // namespace sidewinder
