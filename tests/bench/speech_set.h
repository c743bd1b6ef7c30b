// A folder of packs of recorded speech, and packs.tsv: pack, start second, seconds, speaker, text.
#pragma once

#include <algorithm>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/audio/audio_reader.h"

namespace sidewinder {

// 16 kHz mono. Throws AudioError.
inline std::vector<float> read_sound(const std::string& file) {
  auto reader = open_sound_file(file);
  if (reader->rate() != 16000 || reader->channels() != 1) throw AudioError(file + ": not 16 kHz mono");
  std::vector<float> all, block(16000);
  for (std::size_t got = reader->read(block); got > 0; got = reader->read(block))
    all.insert(all.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(got));
  return all;
}

// Calls take(first, pack, utterance) for each utterance in order, until it returns false: `pack` is all of
// its pack's samples, `utterance` its part of them, `first` whether it is its pack's first. Throws
// AudioError, and std::runtime_error where nothing is listed.
template <class Take>
void for_each_utterance(const std::string& folder, Take&& take) {
  std::ifstream list(folder + "/packs.tsv");
  std::string pack;
  std::vector<float> sound;
  bool any = false;
  for (std::string line; std::getline(list, line);) {
    std::vector<std::string> row;
    std::stringstream columns(line);
    for (std::string column; std::getline(columns, column, '\t');) row.push_back(column);
    const bool first = row.at(0) != pack;
    if (first) sound = read_sound(folder + "/" + row[0]);
    pack = row[0];
    const auto begin = std::min(static_cast<std::size_t>(std::stod(row.at(1)) * 16000 + 0.5), sound.size());
    const auto count = static_cast<std::size_t>(std::stod(row.at(2)) * 16000 + 0.5);
    any = true;
    if (!take(first, std::span<const float>(sound),
              std::span<const float>(sound).subspan(begin, std::min(count, sound.size() - begin))))
      return;
  }
  if (!any) throw std::runtime_error(folder + "/packs.tsv: lists nothing");
}

}  // namespace sidewinder
