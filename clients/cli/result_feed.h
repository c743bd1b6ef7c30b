// Results in order, with the finals that were missed.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "clients/cli/wire.h"

namespace sidewinder::clients {

// A subscription. Beside the daemon's headers it gives {"type": "missed", "stream", "epoch", "kind", "first",
// "last"} where results are gone for good, and marks finals that come from the daemon's history with
// "recovered": true. Replays of what was seen are dropped. Thread rule: one thread.
class ResultFeed {
 public:
  // No streams: all of them.
  ResultFeed(zmq::context_t& context, const Addresses& addresses, const std::vector<std::string>& streams,
             std::set<std::string> kinds);

  // Does not wait, except up to 5 s for the control socket where something was missed or keys are in use.
  // Throws RefusedError when the key may not subscribe to what was asked for.
  std::optional<Json> take();

  Connection& connection() { return connection_; }

 private:
  // One epoch of a stream, as far as it was seen.
  struct Life {
    std::int64_t epoch = 0;
    bool whole = false;  // it began after this feed did: what was not seen of it was missed
    bool ended = false;  // the daemon has it no more, though no `closed` came; it may still be on the way
    bool told = false;   // ... and a "missed" said so
    std::map<std::string, std::int64_t> next{};  // by kind: the sequence number expected
  };

  void take_result(Json header);
  void recover(const std::string& stream, Life& life, std::int64_t last);
  Json ask(const Json& message, const std::string& answer) const;
  void check_access() const;
  void note_past();
  void catch_up();
  std::int64_t latest_epoch(const std::string& stream) const;
  void tell_ended();
  void end(const std::string& stream, Life& life);
  void tell_missed(const std::string& stream, const Life& life, const std::string& kind, std::int64_t first,
                   std::int64_t last);

  zmq::context_t& context_;
  std::string control_;
  Keys keys_;
  std::vector<std::string> streams_;
  std::vector<std::string> topics_;  // subscribed to
  std::set<std::string> kinds_;
  Connection connection_;
  int connections_ = 0;
  std::map<std::string, Life> lives_;  // by stream
  std::map<std::string, std::int64_t>
      past_;  // of streams asked for by name: an epoch that needs no looking for
  std::deque<Json> ready_;
};

}  // namespace sidewinder::clients
