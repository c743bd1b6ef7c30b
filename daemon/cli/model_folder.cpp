#include "daemon/cli/model_folder.h"

#include <cstdlib>

namespace sidewinder {

std::filesystem::path default_model_folder() {
  if (const char* folder = std::getenv("SIDEWINDER_MODEL")) return folder;
  std::error_code error;
  auto prefix = std::filesystem::read_symlink("/proc/self/exe", error).parent_path().parent_path();
  auto installed = prefix / "share" / "sidewinder" / "model";
  auto repository = prefix.parent_path() / "model" / "pretrained";
  return std::filesystem::exists(installed, error) ? installed : repository;
}

}  // namespace sidewinder
