// The engines that the one parametrised suite runs on.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <ostream>
#include <vector>

#include "model/engine.h"
#include "model/engine_group.h"

namespace sidewinder::test {

struct EngineUnderTest {
  const char* name;
  std::function<std::unique_ptr<Engine>(const Model&, const EngineOptions&)> make;
};

inline std::ostream& operator<<(std::ostream& out, const EngineUnderTest& engine) {
  return out << engine.name;
}

inline std::vector<EngineUnderTest> engines_under_test() {
  return {{"cpu", make_cpu_engine},
          {"group", [](const Model& model, const EngineOptions& options) {
             return make_engine_group(
                 std::clamp(options.slots, 1u, 3u), options,
                 [&](std::uint32_t, const EngineOptions& share) { return make_cpu_engine(model, share); });
           }}};
}

}  // namespace sidewinder::test
