// Takes from a capture device that counts (each sample is its number, divided by 2^24), too slowly at first
// so that samples are lost, and checks that the losses it is told, in their places, add up to those that
// were. (What this program was too slow for is known to the sample; what the sound server loses on a loaded
// machine is only as exact as its clock, so a tenth may be told wrong.) usage: capture_probe DEVICE FRAMES
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "daemon/audio/capture.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const auto wanted = std::strtoull(argv[2], nullptr, 10);
  sidewinder::Capture capture({.device = argv[1]});
  while (capture.overruns() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::vector<float> block(1'000);
  std::uint64_t taken = 0, lost = 0, losses = 0;
  double wrong = 0;  // frames
  double next = -1;  // the number that is due; not known before the first
  while (taken < wanted) {
    const auto got = capture.take(block);
    if (got.lost > 0) {
      ++losses;
      lost += got.lost;
      if (next >= 0) next += static_cast<double>(got.lost);
    }
    for (std::size_t i = 0; i < got.frames; ++i) {
      const double number = std::ldexp(static_cast<double>(block[i]), 24);
      if (number == 0) continue;  // before the first, there is nothing to count
      if (next >= 0) wrong += std::abs(number - next);
      next = number + 1;
      ++taken;
    }
    if (got.frames == 0 && got.lost == 0) capture.wait(std::chrono::milliseconds(100));
  }
  std::printf("%llu taken, %llu lost in %llu places, %llu overruns, told wrong by %.0f\n",
              static_cast<unsigned long long>(taken), static_cast<unsigned long long>(lost),
              static_cast<unsigned long long>(losses), static_cast<unsigned long long>(capture.overruns()),
              wrong);
  return losses > 0 && wrong <= 0.1 * static_cast<double>(lost) + 4'096 ? 0 : 1;
}
