// Tokens of text to subtitle cues, broken where a subtitler would: at the ends of sentences, then at commas,
// then before words that begin a phrase; at most two lines of 42 characters, 1 to 7 seconds each, no word
// left alone. The limits are those of the BBC's and Netflix's subtitle guidelines.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "model/text/word_style.h"

namespace sidewinder {

// What a cue is made of; times in seconds.
struct CueToken {
  std::string text;  // without spaces
  double begin = 0;
  double end = 0;
  Mark mark = Mark::None;  // at the end of `text`
};

struct Cue {
  double begin = 0;  // seconds
  double end = 0;    // later than begin, no later than the next cue's begin
  std::vector<std::string> lines;
};

// Takes tokens as they come and gives each cue as soon as what follows can't change it: after a pause, after
// a sentence, or when some 30 seconds are waiting, which bounds the memory. Thread rule: one thread at a
// time.
class CueLayout {
 public:
  static constexpr std::size_t kLineCharacters = 42;
  static constexpr std::size_t kLines = 2;
  static constexpr double kShortest = 1.0, kLongest = 7.0;  // seconds

  // Appends the cues that are now settled. Tokens come in the order of time.
  void add(const CueToken& token, std::vector<Cue>& cues);

  // The end, at `audio` seconds: appends the rest. A cue of the very last instant still shows.
  void finish(double audio, std::vector<Cue>& cues);

 private:
  void take(CueToken token, std::vector<Cue>& cues);
  void lay_out(double latest, std::size_t most, std::vector<Cue>& cues);

  std::vector<CueToken> waiting_;
};

}  // namespace sidewinder
