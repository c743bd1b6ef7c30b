// A model folder of any size with random weights: speed and agreement of engines need no training.
#pragma once

#include <cstdint>
#include <filesystem>

namespace sidewinder {

struct RandomModelShape {
  int d_model = 256;  // multiples of 64
  int n_layer = 12;
  int d_intermediate = 512;
  int vocab_size = 401;
  int dt_rank = 16;
};

// Writes config.json, model.safetensors and tokens.txt; the same seed gives the same bytes. Makes the folder.
// Throws std::runtime_error when it can't write.
void write_random_model(const std::filesystem::path& folder, const RandomModelShape& shape,
                        std::uint64_t seed);

}  // namespace sidewinder
