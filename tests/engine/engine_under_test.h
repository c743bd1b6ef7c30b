// The engines that the one parametrised suite runs on.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <vector>

#include "model/engine.h"

namespace sidewinder::test {

struct EngineUnderTest {
  const char* name;
  std::function<std::unique_ptr<Engine>(const Model&, const EngineOptions&)> make;
};

inline std::ostream& operator<<(std::ostream& out, const EngineUnderTest& engine) {
  return out << engine.name;
}

inline std::vector<EngineUnderTest> engines_under_test() {
  return {{"cpu", make_cpu_engine}};
}

}  // namespace sidewinder::test
