// A bar on the terminal: how much of the audio has been read, and how fast.
#pragma once

#include <chrono>
#include <optional>

namespace sidewinder {

// Thread rule: one thread.
class ProgressBar {
 public:
  // Draws nothing, ever, unless `wanted` and standard error is a terminal.
  explicit ProgressBar(bool wanted);
  ~ProgressBar();  // removes the bar

  // Seconds of audio read so far, and in all if that is known. Redraws ten times a second at the most.
  void update(double done, std::optional<double> total);

  // Makes room for a line of text: removes the bar until the next update.
  void hide();

 private:
  using Clock = std::chrono::steady_clock;
  bool active_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_ = start_;
};

}  // namespace sidewinder
