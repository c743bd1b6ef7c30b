#include "daemon/transcribe/progress_bar.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include <unistd.h>

namespace sidewinder {
namespace {

std::string clock_text(double seconds) {
  long total = static_cast<long>(seconds);
  char text[32];
  std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
  return text;
}

}  // namespace

ProgressBar::ProgressBar(bool wanted) : active_(wanted && isatty(STDERR_FILENO)) {}

ProgressBar::~ProgressBar() {
  hide();
}

void ProgressBar::update(double done, std::optional<double> total) {
  Clock::time_point now = Clock::now();
  if (!active_ || now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  constexpr int kWidth = 30;
  std::string bar;
  if (total && *total > 0) {
    double share = std::clamp(done / *total, 0.0, 1.0);
    int filled = static_cast<int>(share * kWidth);
    bar = "[" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] " +
          std::to_string(static_cast<int>(share * 100)) + " % of " + clock_text(*total) + ", ";
  }
  double elapsed = std::chrono::duration<double>(now - start_).count();
  std::fprintf(stderr, "\r\033[K%s%s read, %.0f times real time", bar.c_str(), clock_text(done).c_str(),
               done / elapsed);
  drawn_ = true;
}

void ProgressBar::hide() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

}  // namespace sidewinder
