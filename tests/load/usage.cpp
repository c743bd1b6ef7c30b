#include "tests/load/usage.h"

#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>

#include <unistd.h>

namespace sidewinder::load {

Usage usage_of(pid_t process) {
  const std::string path = "/proc/" + std::to_string(process) + "/stat";
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::size_t name_end = text.rfind(')');  // proc(5): the name before it may hold anything
  if (!in || name_end == std::string::npos)
    throw std::runtime_error(path + ": can't be read; is the process alive?");
  std::istringstream fields(text.substr(name_end + 2));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0, system = 0, resident = 0;  // fields 14, 15 (ticks) and 24 (pages)
  fields >> user >> system;
  for (int field = 16; field < 24; ++field) fields >> skipped;
  fields >> resident;
  return {.cpu_s = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK)),
          .resident_mib = resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20)};
}

}  // namespace sidewinder::load
