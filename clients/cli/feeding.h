// How a command that feeds a stream begins and ends it. One thread: the command's.
#pragma once

#include <chrono>
#include <string>

#include "clients/cli/sender.h"
#include "clients/cli/wire.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder::clients {

// wait(longest) returns when something has happened, a signal too, or so many milliseconds are over;
// `interrupts` counts the signals that ask to end.

// Waits for the daemon to open the stream. False: interrupted. Throws ClientError when none answers in time.
template <typename Wait>
bool open_stream(Sender& sender, const int& interrupts, Wait&& wait) {
  using std::chrono::milliseconds;
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + milliseconds(5'000);
  while (sender.exchange(), !sender.is_open()) {
    if (interrupts > 0) return false;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) throw sender.unanswered();
    wait(left + milliseconds(1));
  }
  return true;
}

// Everything heard, then closed; a second interrupt ends the waiting.
template <typename Wait>
void finish_stream(Sender& sender, const int& interrupts, Wait&& wait) {
  constexpr std::chrono::milliseconds kLook(5'000);
  sender.flush();
  while (sender.exchange(), !sender.flushed() && !sender.closed() && interrupts < 2) wait(kLook);
  sender.close();
  while (sender.exchange(), !sender.closed() && interrupts < 2) wait(kLook);
}

// Throws RefusedError when it was not the client that ended the stream. Precondition: sender.closed().
inline void check_end(const Sender& sender) {
  const Json& closed = *sender.closed();
  const auto reason = closed.at("reason").get<std::string>();
  if (reason != "client")
    throw RefusedError(reason, "the daemon ended stream " + sender.stream() + ": " +
                                   closed.at("message").get<std::string>());
}

}  // namespace sidewinder::clients
