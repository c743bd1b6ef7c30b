#include "daemon/live/ingest.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/audio/audio_reader.h"
#include "daemon/audio/pcm.h"
#include "daemon/live/clock.h"
#include "daemon/live/sockets.h"
#include "daemon/live/thread_name.h"

namespace sidewinder::live {
namespace {

constexpr std::size_t kMostFlushes = 16;      // a stream may have waiting
constexpr std::size_t kMessagesAtOnce = 256;  // before replies are looked after again
constexpr std::size_t kFew = 16;              // messages: done before the team would have woken up
// Between looks at every session, however often rings have room: credit is granted long before it runs out,
// and to who sends audio at once. The more sessions, the longer: at most some 2 % of the thread's time.
constexpr std::chrono::milliseconds kLookInterval(20);
constexpr std::size_t kSessionsPerMs = 200;
constexpr int kHighWaterMark = 1'000;  // messages for or from one client
constexpr std::size_t kMaxIdBytes = 64;
constexpr std::size_t kMostOrders = 64;  // waiting

std::size_t part_bytes(const zmq::message_t* part) {
  return part == nullptr ? 0 : part->size();
}

[[noreturn]] void wrong_sequence(std::int64_t expected, std::int64_t got) {
  throw Fault{"wrong_sequence",
              "expected " + std::to_string(expected) + ", got " + std::to_string(got),
              {{"expected", expected}}};
}

// False for what no engine should be given: not a number, or far over full scale (as files are refused,
// audio_reader.h). Samples that came as integers are sound.
bool is_sound(SampleFormat format, std::span<const float> samples) {
  if (format != SampleFormat::F32 && format != SampleFormat::F64) return true;
  std::uint32_t bad = 0;  // as wide as a sample, and no way out early: many at a time
  for (float s : samples) bad |= !(std::abs(s) <= AudioReader::kLoudest);
  return bad == 0;
}

}  // namespace

Ingest::Ingest(zmq::context_t& context, const Config& config, Security& security, StreamTable& table,
               BoundedQueue<IngestReply>& replies, BoundedQueue<SaveAnswer>& saves, ModelSwap& swap,
               Metrics& metrics)
    : config_(config),
      security_(security),
      table_(table),
      replies_(replies),
      saves_(saves),
      orders_(kMostOrders),
      swap_(swap),
      metrics_(metrics),
      socket_(context, zmq::socket_type::router),
      team_(static_cast<int>(config.ingest.threads)),
      arrived_(kMessagesAtOnce),
      pcm_(static_cast<std::size_t>(team_.members()),
           std::vector<float>(static_cast<std::size_t>(config.limits.max_message_bytes))),
      idle_ms_(config.ingest.idle_ms) {
  prepare_socket(socket_, config, "ingest", kHighWaterMark);
  // A client that comes back under its own routing id is itself, not an impostor to be turned away: unless
  // clients may not trust each other.
  socket_.set(zmq::sockopt::router_handover, !security.access.enabled());
  endpoint_ = bind_socket(socket_, config.sockets.ingest, "ingest");
}

void Ingest::start() {
  thread_ = std::thread([this] { run(); });
}

void Ingest::close_all() {
  closing_ = true;
  look_.raise();
}

void Ingest::stop() {
  stopping_ = true;
  look_.raise();
  if (thread_.joinable()) thread_.join();
}

void Ingest::run() {
  name_thread("ingest");
  std::array<zmq::pollitem_t, 4> items{
      zmq::pollitem_t{socket_.handle(), 0, ZMQ_POLLIN, 0},
      zmq::pollitem_t{nullptr, look_.descriptor(), ZMQ_POLLIN, 0},
      zmq::pollitem_t{nullptr, replies_.filled().descriptor(), ZMQ_POLLIN, 0},
      zmq::pollitem_t{nullptr, orders_.filled().descriptor(), ZMQ_POLLIN, 0}};
  using Clock = std::chrono::steady_clock;
  Clock::time_point looked{};
  bool more = false, look = false;
  for (bool last = false; !last;) {
    // Often enough to notice an idle stream in time.
    const std::chrono::milliseconds tick(std::clamp<std::int64_t>(idle_ms_ / 4, 10, 1'000));
    const auto soon = kLookInterval + std::chrono::milliseconds(sessions_.size() / kSessionsPerMs);
    zmq::poll(items.data(), items.size(), more ? std::chrono::milliseconds(0) : look ? soon : tick);
    last = stopping_;  // read before the replies, so that none queued earlier stays behind
    look |= items[1].revents != 0;
    look_.clear();
    replies_.filled().clear();
    orders_.filled().clear();
    take_orders();
    more = take_messages();
    const auto now = Clock::now();
    if (last || now - looked >= (look ? soon : tick)) {
      look_after_sessions();
      looked = now;
      look = false;
    }
    take_replies();
    pulse_.beat();
  }
}

bool Ingest::take_messages() {
  std::size_t count = 0;
  while (count < arrived_.size() && receive(arrived_[count])) ++count;
  const std::span batch = std::span(arrived_).first(count);
  if (count < kFew)
    for (Arrived& message : batch) read(message);
  else
    team_.deal(count, [&](std::size_t i) { read(batch[i]); });
  std::size_t heard = 0;  // messages of the batch, answered too
  for (std::size_t i = 0; i < count; ++i) {
    Arrived& message = batch[i];
    if (message.fault) continue;
    try {
      if (message.request->type() == "audio") {
        message.session = &session(message.peer, *message.request);
        continue;
      }
      hear(batch.subspan(heard, i - heard));  // what came before it is done before it
      heard = i;
      handle(message.peer, *message.request, message.body());
    } catch (Fault& fault) {
      message.fault = std::move(fault);
    }
  }
  hear(batch.subspan(heard));
  return count == arrived_.size();
}

bool Ingest::receive(Arrived& message) {
  if (!socket_.recv(message.parts[0], zmq::recv_flags::dontwait)) return false;
  message.count = 1;
  bool more = message.parts[0].more();
  for (zmq::message_t part; more; ++message.count) {
    if (!socket_.recv(part, zmq::recv_flags::none)) return false;
    more = part.more();
    if (message.count < message.parts.size()) message.parts[message.count] = std::move(part);
  }
  return true;
}

void Ingest::read(Arrived& message) {
  message.peer = peer_of(message.parts[1], message.parts[0].to_string());
  try {
    if (message.count != 2 && message.count != 3)
      throw Fault{"bad_message", "a message has a header and at most one more frame"};
    message.request.emplace(std::span(message.parts[1].data<std::byte>(), message.parts[1].size()));
  } catch (Fault& fault) {
    message.fault = std::move(fault);
  }
}

void Ingest::hear(std::span<Arrived> messages) {
  const auto members = static_cast<std::uint32_t>(messages.size() < kFew ? 1 : team_.members());
  auto hear_share = [&](int member) {  // a stream's messages all fall to one member, in their order
    for (Arrived& message : messages)
      if (message.session != nullptr &&
          message.session->stream->slot() % members == static_cast<std::uint32_t>(member))
        hear(message, pcm_[static_cast<std::size_t>(member)]);
  };
  if (members == 1)
    hear_share(0);
  else
    team_.run(hear_share);
  for (Arrived& message : messages) {
    if (message.fault) {
      if (message.request) {
        Json named = Json::object();
        message.request->echo(named);
        message.fault->extra.update(named);
      }
      metrics_.drop(message.fault->reason);
      send(message.peer, error_answer(*message.fault));
    } else if (message.session != nullptr) {
      grant(*message.session, message.resent);
    }
    message = {};  // its audio need not wait in memory for the next batch
  }
}

void Ingest::hear(Arrived& message, std::span<float> pcm) noexcept {
  try {
    message.resent = !audio(*message.session, *message.request, message.body(), pcm);
  } catch (Fault& fault) {
    message.fault = std::move(fault);
  }
}

void Ingest::handle(const Peer& peer, const Request& request, const zmq::message_t* body) {
  const bool may_have_body =
      request.type() == "audio" || request.type() == "open" || request.type() == "hotwords";
  if (!may_have_body && body != nullptr)
    throw Fault{"bad_message", "only audio, open and hotwords may have a second frame"};
  if (request.type() == "open") return open(peer, request, body);
  if (request.type() == "ping") return ping(peer, request);
  if (request.type() == "gap") return gap(session(peer, request), request);
  if (request.type() == "hotwords") return hotwords(session(peer, request), request, body);
  if (request.type() == "flush") {
    Session& to = session(peer, request);
    require_all(to, request);
    if (to.flush_ids.size() >= kMostFlushes || !to.stream->flush(to.next_token))
      throw Fault{"too_many", "as many flushes as may wait are waiting"};
    ++to.next_token;
    to.flush_ids.push_back(request.optional_text("id", kMaxIdBytes));
    return;
  }
  if (request.type() == "close") {
    Session& to = session(peer, request);
    require_all(to, request);
    to.close_id = request.optional_text("id", kMaxIdBytes);
    return end(to, EndReason::Client, "the client closed it");
  }
  throw Fault{"bad_message", "no such type"};
}

void Ingest::open(const Peer& peer, const Request& request, const zmq::message_t* body) {
  take_orders();  // the stream to resume may just have been restored
  try {
    StreamInfo wanted = read_open(request);
    if (wanted.encodings != EncodingFormat::None && !config_.engine.encodings)
      return refuse(peer, request,
                    {"unsupported", "encodings are off; the daemon needs engine.encodings = true"});
    const auto epoch = request.optional_integer("epoch", 1, kMaxInteger);
    auto known = sessions_.find(wanted.name);
    if (known != sessions_.end() && known->second.stream != nullptr && (epoch || known->second.peer == peer))
      return resume(peer, request, known->second, wanted, epoch.value_or(known->second.info.epoch));
    if (epoch) return refuse(peer, request, {"unknown_stream", "no stream of that name and epoch is alive"});
    if (known != sessions_.end())
      return refuse(peer, request,
                    {"in_use",
                     "a stream of that name is open, or still finishing; choose "
                     "another name or wait for its closed event"});
    wanted.owner = peer.key;
    security_.access.require_publish(peer.key, wanted.name);
    FirstHotwords hotwords;
    if (body != nullptr) hotwords = read_hotwords(body->to_string_view(), table_.model().decoding);
    auto opened =
        table_.open(std::move(wanted), security_.access.rules(peer.key).streams, std::move(hotwords));
    if (auto* refusal = std::get_if<Refusal>(&opened)) return refuse(peer, request, *refusal);
    Stream* stream = std::get<Stream*>(opened);
    Session& session = sessions_[stream->info().name];
    session.peer = peer;
    session.stream = stream;
    session.info = stream->info();
    say_opened(session, request);
    spdlog::info("stream {} opened by a client: epoch {}, {} Hz {}, {} channel(s)", session.info.name,
                 session.info.epoch, session.info.rate, session.info.format, session.info.channels);
    security_.audit.record("opened", peer, {{"stream", session.info.name}, {"epoch", session.info.epoch}});
  } catch (const Fault& fault) {
    if (fault.reason == "bad_message") throw;
    refuse(peer, request, {fault.reason, fault.message});
  }
}

// The same client again, or a new one in its place.
void Ingest::resume(const Peer& peer, const Request& request, Session& session, const StreamInfo& wanted,
                    std::int64_t epoch) {
  if (epoch != session.info.epoch)
    return refuse(peer, request, {"unknown_stream", "no stream of that name and epoch is alive"});
  if (session.peer.key != peer.key)
    return refuse(peer, request, {"not_allowed", "the stream was opened with another key"});
  StreamInfo same = session.info;
  same.epoch = wanted.epoch;
  same.owner = wanted.owner;
  if (!(same == wanted))
    return refuse(peer, request, {"bad_format", "the stream is open with another format"});
  session.peer = peer;
  say_opened(session, request);
}

void Ingest::say_opened(Session& session, const Request& request) {
  session.heard_ns = now_ns();
  session.told_credit = session.stream->credit();
  Json answer = message("opened");
  request.echo(answer);
  answer["stream"] = session.info.name;
  answer["epoch"] = session.info.epoch;
  answer["seq"] = session.next_seq;
  answer["credit"] = session.told_credit;
  answer["rate"] = session.info.rate;
  const ModelIdentity& model = session.stream->model().identity;
  answer["model_rate"] = model.rate;
  answer["model"] = model.hash;
  send(session.peer, answer);
}

void Ingest::refuse(const Peer& peer, const Request& request, const Refusal& refusal) {
  metrics_.refused.Increment();
  Json fields{{"action", "open"}, {"reason", refusal.reason}, {"message", refusal.message}};
  request.echo(fields);
  security_.audit.record("refused", peer, fields);
  Json answer = refusal_answer({}, refusal.reason, refusal.message);
  request.echo(answer);
  send(peer, answer);
}

Ingest::Session& Ingest::session(const Peer& peer, const Request& request) {
  auto found = sessions_.find(request.text("stream", kMaxHeaderBytes));
  if (found == sessions_.end() || found->second.stream == nullptr || !(found->second.peer == peer))
    throw Fault{"unknown_stream", "this client has no open stream of that name"};
  security_.access.require_publish(peer.key, found->first);  // the key may have been withdrawn since
  found->second.heard_ns = now_ns();
  return found->second;
}

// False for what was taken before. `pcm` has room for a message.
bool Ingest::audio(Session& session, const Request& request, const zmq::message_t* body,
                   std::span<float> pcm) {
  if (!is_next(session, request)) return false;
  const std::int64_t begin_ns = now_ns();
  const SampleFormat format = *parse_sample_format(session.info.format);
  const std::size_t frame_bytes = sample_bytes(format) * static_cast<std::size_t>(session.info.channels);
  const std::size_t bytes = part_bytes(body);
  if (bytes == 0 || bytes % frame_bytes != 0)
    throw Fault{"bad_audio", "audio must be whole frames of " + std::to_string(frame_bytes) + " bytes, not " +
                                 std::to_string(bytes) + " bytes"};
  check_credit(session, bytes / frame_bytes);
  security_.access.take_bytes(session.peer.key, bytes);
  const auto samples = pcm.first(bytes / sample_bytes(format));
  decode_pcm(format, {body->data<std::byte>(), bytes}, samples);
  if (!is_sound(format, samples))
    throw Fault{"bad_audio", "a sample is not finite, or 60 dB over full scale; is the format right?"};
  session.stream->write(samples);  // has room: the credit was checked
  ++session.next_seq;
  metrics_.tracer.record(session.stream->slot(),
                         {.stage = Tracer::Stage::Accept,
                          .begin_ns = begin_ns,
                          .end_ns = now_ns(),
                          .end_sample = static_cast<std::int64_t>(session.stream->accepted_frames())});
  return true;
}

void Ingest::gap(Session& session, const Request& request) {
  if (!is_next(session, request)) return grant(session, true);
  const auto frames = static_cast<std::uint64_t>(request.integer("frames", 1, kMaxInteger));
  check_credit(session, frames);
  if (!session.stream->write_gap(frames, GapReason::Client))
    throw Fault{"too_many",
                "too many gaps, flushes and changes of hotwords are waiting; send it again later"};
  ++session.next_seq;
  grant(session, false);
}

// From the next audio message on; no second frame asks for none, as an empty one does.
void Ingest::hotwords(Session& session, const Request& request, const zmq::message_t* body) {
  require_all(session, request);
  std::unique_ptr<const Hotwords> phrases =
      body == nullptr ? nullptr : read_hotwords(body->to_string_view(), table_.model().decoding);
  const std::size_t count = phrases ? phrases->phrases() : 0;
  if (!session.stream->set_hotwords(phrases))
    throw Fault{"too_many",
                "too many gaps, flushes and changes of hotwords are waiting; send it again later"};
  Json answer = message("hotwords_set");
  request.echo(answer);
  answer["epoch"] = session.info.epoch;
  answer["phrases"] = count;
  send(session.peer, answer);
}

// False for what was taken before: its client is to be told where the stream stands.
bool Ingest::is_next(const Session& session, const Request& request) {
  const std::int64_t seq = request.integer("seq", 0, kMaxInteger);
  if (seq < session.next_seq) {
    metrics_.drop("resent");
    return false;
  }
  if (seq > session.next_seq) wrong_sequence(session.next_seq, seq);
  return true;
}

// What comes after everything sent, as its `seq` says, must not overtake what was not taken.
void Ingest::require_all(const Session& session, const Request& request) {
  const auto seq = request.optional_integer("seq", 0, kMaxInteger);
  if (seq && *seq != session.next_seq) wrong_sequence(session.next_seq, *seq);
}

void Ingest::check_credit(Session& session, std::uint64_t frames) {
  const std::uint64_t credit = session.stream->credit();
  if (frames > credit - session.stream->accepted_frames())
    throw Fault{"over_credit",
                std::to_string(frames) + " frames after " +
                    std::to_string(session.stream->accepted_frames()) + " would pass the credit",
                {{"credit", credit}}};
}

bool Ingest::waits_for_credit(const Session& session) {
  return session.told_credit < session.stream->accepted_frames() + session.stream->capacity_frames() / 8;
}

void Ingest::grant(Session& session, bool always) {
  const std::uint64_t credit = session.stream->credit();
  if (!always && credit < session.told_credit + session.stream->capacity_frames() / 8) return;
  session.told_credit = credit;
  session.heard_ns = now_ns();  // it may have been silent only because it waited for this
  Json answer = message("credit");
  answer["stream"] = session.info.name;
  answer["epoch"] = session.info.epoch;
  answer["seq"] = session.next_seq;
  answer["credit"] = credit;
  send(session.peer, answer);
}

void Ingest::ping(const Peer& peer, const Request& request) {
  Json answer = message("pong");
  if (request.optional_text("stream", kMaxHeaderBytes)) {
    Session& to = session(peer, request);
    request.echo(answer);
    to.told_credit = to.stream->credit();
    answer["epoch"] = to.info.epoch;
    answer["seq"] = to.next_seq;
    answer["credit"] = to.told_credit;
  } else {
    request.echo(answer);
  }
  send(peer, answer);
}

void Ingest::end(Session& session, EndReason reason, const std::string& message) {
  audit_end(session, reason, message, session.stream->accepted_frames());
  std::exchange(session.stream, nullptr)->end(reason, message);
}

void Ingest::audit_end(const Session& session, EndReason reason, const std::string& message,
                       std::uint64_t frames) {
  spdlog::info("stream {} ends: {}", session.info.name, message);
  security_.audit.record("ended", session.peer,
                         {{"stream", session.info.name},
                          {"epoch", session.info.epoch},
                          {"reason", to_string(reason)},
                          {"frames", frames}});
}

void Ingest::take_orders() {
  while (auto order = orders_.try_pop()) {
    take_replies();  // a stream that was ended by its save may be restored already
    if (auto* wanted = std::get_if<SaveOrder>(&*order))
      save(*wanted);
    else
      adopt(std::get<AdoptOrder>(*order));
  }
}

void Ingest::save(SaveOrder& order) {
  const std::uint64_t token = order.save->token;
  const auto found = sessions_.find(order.stream);
  if (found == sessions_.end() || found->second.stream == nullptr) {
    saves_.push({token, nullptr, "unknown_stream", "no stream of that name is open"});
    return;
  }
  Session& session = found->second;
  const bool ends = order.save->end;
  const std::uint64_t frames = session.stream->accepted_frames();
  order.save->capsule.next_seq = session.next_seq;
  if (!session.stream->save(order.save)) {
    saves_.push(
        {token, nullptr, "too_many", "too many gaps, flushes and changes of hotwords wait; ask again later"});
    return;
  }
  if (!ends) return;
  audit_end(session, EndReason::Saved, "saved through the control socket", frames);
  session.stream = nullptr;
}

// Its client is yet to come: until then as if it had gone away.
void Ingest::adopt(const AdoptOrder& order) {
  Session& session = sessions_[order.stream->info().name];
  session.info = order.stream->info();
  session.peer.key = session.info.owner;
  session.stream = order.stream;
  session.next_seq = order.next_seq;
  session.heard_ns = now_ns();
}

void Ingest::look_after_sessions() {
  const bool closing = closing_;
  const std::int64_t now = now_ns();
  const std::int64_t idle_ms = idle_ms_;
  for (auto& [name, session] : sessions_) {
    if (session.stream == nullptr) continue;
    if (closing)
      end(session, EndReason::Shutdown, "the daemon stops");
    else if (session.stream->end_requested())
      end(session, EndReason::Control, "closed through the control socket");
    else if (now - session.heard_ns > idle_ms * 1'000'000 && !waits_for_credit(session))
      end(session, EndReason::Idle, "nothing came from its client for " + std::to_string(idle_ms) + " ms");
    else
      grant(session, false);
  }
}

void Ingest::take_replies() {
  while (auto reply = replies_.try_pop()) {
    if (reply->kind == IngestReply::Kind::Released)
      swap_.release(*reply->model);  // this thread was the last that might have used it
    else
      answer(*reply);
  }
}

void Ingest::answer(const IngestReply& reply) {
  auto found = sessions_.find(reply.stream);
  if (found == sessions_.end() || found->second.info.epoch != reply.epoch) return;
  Session& session = found->second;
  const bool closed = reply.kind == IngestReply::Kind::Closed;
  Json answer = message(closed ? "closed" : "flushed");
  answer["stream"] = reply.stream;
  answer["epoch"] = reply.epoch;
  std::optional<std::string> id = session.close_id;
  if (closed) {
    answer["reason"] = to_string(reply.reason);
    answer["message"] = reply.message;
  } else {
    id = session.flush_ids.front();
    session.flush_ids.pop_front();
  }
  if (id) answer["id"] = *id;
  answer["seq"] = session.next_seq;
  answer["samples"] = reply.samples;
  answer["finals"] = reply.finals;
  answer["partials"] = reply.partials;
  send(session.peer, answer);
  if (closed) sessions_.erase(found);
}

// A client that does not read loses answers once its queue is full; it can ping.
void Ingest::send(const Peer& peer, const Json& message) {
  socket_.send(zmq::buffer(peer.id), zmq::send_flags::sndmore | zmq::send_flags::dontwait);
  socket_.send(zmq::buffer(dump(message)), zmq::send_flags::dontwait);
}

}  // namespace sidewinder::live
