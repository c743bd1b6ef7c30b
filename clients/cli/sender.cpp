#include "clients/cli/sender.h"

#include <algorithm>
#include <utility>

#include "daemon/cli/exit_code.h"

namespace sidewinder::clients {
namespace {

constexpr std::chrono::seconds kDisownedPatience(
    15);  // for `closed` to come after the daemon disowned the stream

}  // namespace

Sender::Sender(zmq::context_t& context, const Addresses& addresses, const std::string& stream,
               const SoundFormat& format, int channel, std::string hotwords)
    : context_(context),
      address_(addresses.ingest),
      keys_(addresses.load_keys()),
      stream_(stream),
      format_(format),
      channel_(channel),
      hotwords_(std::move(hotwords)) {
  connect();
}

void Sender::connect() {
  connection_.emplace(context_, zmq::socket_type::dealer, address_, keys_);
  state_ = State::Opening;
  disowned_.reset();
  held_until_.reset();
}

void Sender::exchange() {
  for (auto parts = connection_->receive(); !parts.empty(); parts = connection_->receive())
    take(unpack(parts.back()));
  // A new socket: what still stands in the old one's queue would come before `open`.
  if (connection_->lost()) connect();
  if (disowned_ && std::chrono::steady_clock::now() > *disowned_ + kDisownedPatience)
    throw ClientError(kExitRefused, "stream " + stream_ + " belongs to another client now");
  while (send_next()) {
  }
}

void Sender::add_poll_items(std::vector<zmq::pollitem_t>& items) {
  connection_->add_poll_items(items, blocked_);
}

void Sender::put(std::span<const std::byte> pcm) {
  const auto frames = static_cast<std::int64_t>(pcm.size() / format_.frame_bytes());
  frames_ += frames;
  kept_.push_back({{pcm.begin(), pcm.end()}, frames, frames_});
}

void Sender::put_gap(std::int64_t frames) {
  frames_ += frames;
  kept_.push_back({{}, frames, frames_});
}

// Sends one message, if there is one that may go.
bool Sender::send_next() {
  Json message;
  std::span<const std::byte> body;
  bool numbered = false;  // audio or a gap
  if (state_ == State::Opening) {
    message = {{"type", "open"},
               {"rate", format_.rate},
               {"format", format_.samples},
               {"channels", format_.channels}};
    if (!stream_.empty()) message["stream"] = stream_;
    if (channel_ > 0) message["channel"] = channel_;
    if (epoch_ > 0) message["epoch"] = epoch_;
    body = std::as_bytes(std::span(hotwords_));
  } else if (state_ != State::Open) {
    return false;
  } else if (ping_) {
    message = {{"type", "ping"}, {"stream", stream_}};
  } else if (next_ < first_ + static_cast<std::int64_t>(kept_.size())) {
    const Piece& piece = kept_[static_cast<std::size_t>(next_ - first_)];
    if (piece.end > credit_ || held()) return false;
    held_until_.reset();
    numbered = true;
    message = {{"type", "audio"}, {"stream", stream_}, {"seq", next_}};
    body = piece.pcm;
    if (body.empty()) {
      message["type"] = "gap";
      message["frames"] = piece.frames;
    }
  } else if (flush_ == Marker::Wanted) {
    message = {{"type", "flush"}, {"stream", stream_}, {"seq", next_}};
  } else if (close_ == Marker::Wanted) {
    message = {{"type", "close"}, {"stream", stream_}, {"seq", next_}};
  } else {
    return false;
  }
  blocked_ = !connection_->send(pack(message), body);
  if (blocked_) return false;
  if (state_ == State::Opening)
    state_ = State::Asked;
  else if (ping_)
    ping_ = false;
  else if (numbered)
    ++next_;
  else if (flush_ == Marker::Wanted)
    flush_ = Marker::Sent;
  else {
    close_ = Marker::Sent;
    close_sent_ = true;
  }
  return true;
}

void Sender::take(const Json& message) {
  const auto type = message.at("type").get<std::string>();
  if (type == "opened") return take_opened(message);
  if (type == "refused") return take_refused(message);
  if (type == "error") return take_error(message);
  if (state_ == State::Opening || state_ == State::Asked || message.value("epoch", std::int64_t{0}) != epoch_)
    return;
  if (type == "credit" || type == "pong") acknowledge(message);
  if (type == "flushed") {
    acknowledge(message);
    flushed_ = message;
  }
  if (type == "closed") take_closed(message);
}

void Sender::take_opened(const Json& message) {
  const auto epoch = message.at("epoch").get<std::int64_t>();
  const auto seq = message.at("seq").get<std::int64_t>();
  if (epoch != epoch_) {
    // A new life: what was not acknowledged begins it.
    epoch_ = epoch;
    stream_ = message.at("stream").get<std::string>();
    first_ = frames_ = credit_ = 0;
    for (Piece& piece : kept_) piece.end = frames_ += piece.frames;
  } else if (seq < first_ || seq > first_ + static_cast<std::int64_t>(kept_.size())) {
    throw ClientError(kExitRefused, "another client has sent to stream " + stream_);
  }
  state_ = State::Open;
  acknowledge(message);
  next_ = seq;
  rewound_ = -1;
  // Asked again: the answer may have been lost with the connection.
  if (flush_ == Marker::Sent && !flushed_) flush_ = Marker::Wanted;
  if (close_ == Marker::Sent) close_ = Marker::Wanted;
}

void Sender::take_refused(const Json& message) {
  const auto reason = message.at("reason").get<std::string>();
  if (reason != "unknown_stream" || epoch_ == 0)
    throw RefusedError(reason, message.at("message").get<std::string>());
  if (close_sent_)
    throw ClientError(kExitRefused, "the connection was lost while stream " + stream_ +
                                        " was being closed; the daemon does not know it any more");
  epoch_ = 0;  // the daemon was restarted: a new life
  state_ = State::Opening;
}

void Sender::take_error(const Json& message) {
  if (state_ == State::Gone) return;  // about what was sent before the end was known
  const auto reason = message.at("reason").get<std::string>();
  if (reason == "unknown_stream" && state_ == State::Open) {
    // Normally `closed` follows, once what was accepted is transcribed.
    state_ = State::Gone;
    disowned_ = std::chrono::steady_clock::now();
  } else if (reason == "wrong_sequence") {
    // Each message under way brings this error; going back once is enough.
    const auto expected = message.at("expected").get<std::int64_t>();
    if (expected != rewound_) rewind(expected);
  } else if (reason == "over_credit") {
    credit_ = std::max(credit_, message.at("credit").get<std::int64_t>());
    rewind(message.at("seq").get<std::int64_t>());
  } else if (reason == "over_quota") {
    rewind(message.at("seq").get<std::int64_t>());
    held_until_ = std::chrono::steady_clock::now() +
                  std::chrono::milliseconds(message.at("retry_ms").get<std::int64_t>());
  } else {
    throw RefusedError(reason, message.at("message").get<std::string>());
  }
}

void Sender::take_closed(const Json& message) {
  acknowledge(message);
  state_ = State::Gone;
  disowned_.reset();
  if (message.at("reason") == "shutdown" && !close_sent_)
    epoch_ = 0;  // the rest goes to the daemon that comes after it, once the connection breaks off
  else
    closed_ = message;
}

void Sender::acknowledge(const Json& message) {
  credit_ = std::max(credit_, message.value("credit", std::int64_t{0}));
  const auto seq = message.at("seq").get<std::int64_t>();
  for (; first_ < seq && !kept_.empty(); ++first_) kept_.pop_front();
  next_ = std::max(next_, first_);
  if (seq > rewound_) rewound_ = -1;
}

void Sender::rewind(std::int64_t seq) {
  if (seq < first_ || seq >= next_) return;
  rewound_ = next_ = seq;
  // They were refused as well, for what they come after was not taken.
  if (flush_ == Marker::Sent && !flushed_) flush_ = Marker::Wanted;
  if (close_ == Marker::Sent) close_ = Marker::Wanted;
}

}  // namespace sidewinder::clients
