// Where the model is, when nobody says.
#pragma once

#include <filesystem>

namespace sidewinder {

// $SIDEWINDER_MODEL if set; else the default model beside the program: in the repository it was built in, or
// in share/sidewinder/model of the prefix it was installed to. The folder need not exist.
std::filesystem::path default_model_folder();

}  // namespace sidewinder
