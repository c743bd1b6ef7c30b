// A stream of audio into the daemon: sequence numbers, credit, and resuming after a lost connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "clients/cli/sound_input.h"
#include "clients/cli/wire.h"

namespace sidewinder::clients {

// Thread rule: one thread. Nothing waits: call exchange(), then poll for what add_poll_items() names.
class Sender {
 public:
  // An empty stream: the daemon chooses the name. channel: 0 mixes. hotwords: as clients/PROTOCOL.md has
  // them; empty: the daemon's own.
  Sender(zmq::context_t& context, const Addresses& addresses, const std::string& stream,
         const SoundFormat& format, int channel, std::string hotwords);

  // Takes what came and sends what may go. Throws RefusedError, and ClientError for what can't go on.
  void exchange();
  void add_poll_items(std::vector<zmq::pollitem_t>& items);

  bool is_open() const { return state_ == State::Open; }
  bool connected() const { return connection_->connected(); }
  ClientError unanswered() const { return connection_->unanswered(); }
  const std::string& stream() const { return stream_; }

  // Frames that the daemon has room for.
  std::int64_t room() const { return state_ == State::Open && !held() ? credit_ - frames_ : 0; }

  // Until then the key's quota takes no more audio, if so: call exchange() again at that time.
  std::optional<std::chrono::steady_clock::time_point> held_until() const { return held_until_; }

  // At most room() whole frames.
  void put(std::span<const std::byte> pcm);

  // Frames that were lost before they could be put, at most room(): silence, told as a gap.
  void put_gap(std::int64_t frames);

  // After everything that was put. Answered by flushed() and closed().
  void flush() { flush_ = Marker::Wanted; }
  void close() { close_ = Marker::Wanted; }
  const std::optional<Json>& flushed() const { return flushed_; }
  const std::optional<Json>& closed() const { return closed_; }

  // Says that the client is still there, so that a stream with no audio is not closed as idle.
  void ping() { ping_ = true; }

 private:
  enum class State {
    Opening,  // `open` is not sent on this connection
    Asked,
    Open,
    Gone  // the daemon ended the stream, or gave it to another client
  };
  enum class Marker { None, Wanted, Sent };
  struct Piece {
    std::vector<std::byte> pcm;
    std::int64_t frames;  // without PCM: a gap
    std::int64_t end;     // frames of the epoch up to its end
  };

  bool held() const { return held_until_ && std::chrono::steady_clock::now() < *held_until_; }
  void connect();
  void ask_open();
  bool send_next();
  void take(const Json& message);
  void take_opened(const Json& message);
  void take_refused(const Json& message);
  void take_error(const Json& message);
  void take_closed(const Json& message);
  void acknowledge(const Json& message);
  void rewind(std::int64_t seq);

  zmq::context_t& context_;
  std::string address_;
  Keys keys_;
  std::string stream_;
  SoundFormat format_;
  int channel_;
  std::string hotwords_;
  std::optional<Connection> connection_;
  State state_ = State::Opening;
  std::optional<std::chrono::steady_clock::time_point> disowned_;  // since when `closed` is waited for
  std::optional<std::chrono::steady_clock::time_point> held_until_;
  std::int64_t epoch_ = 0;     // 0: none yet, or none any more
  std::deque<Piece> kept_;     // not acknowledged; at most the credit
  std::int64_t first_ = 0;     // sequence number of kept_.front()
  std::int64_t next_ = 0;      // sequence number of what is sent next
  std::int64_t rewound_ = -1;  // where to, until something sent since was acknowledged
  std::int64_t frames_ = 0;    // put in, this epoch
  std::int64_t credit_ = 0;    // frames
  bool ping_ = false;
  bool blocked_ = false;     // the socket is full
  bool close_sent_ = false;  // ever: if the connection is lost then, nobody knows whether the daemon had it
  Marker flush_ = Marker::None;
  Marker close_ = Marker::None;
  std::optional<Json> flushed_;
  std::optional<Json> closed_;
};

}  // namespace sidewinder::clients
