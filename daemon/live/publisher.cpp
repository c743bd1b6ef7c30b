#include "daemon/live/publisher.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/live/clock.h"
#include "daemon/live/sockets.h"
#include "daemon/live/thread_name.h"

namespace sidewinder::live {
namespace {

static_assert(std::endian::native == std::endian::little, "encodings are sent as they lie in memory");

constexpr std::array kNames = {"opened", "partial", "final", "gap", "level", "behind", "closed", "encodings"};
constexpr std::chrono::milliseconds kBindAgain(10);
constexpr double kQuietest = -120;                     // dBFS
constexpr std::int64_t kMaxSubscriptionBytes = 4'096;  // a topic has at most 75, but handshakes count too

double decibels(double amplitude) {
  return std::max(kQuietest, std::round(200 * std::log10(std::max(amplitude, 1e-7))) / 10);
}

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

}  // namespace

bool is_result_kind(std::string_view kind) noexcept {
  return std::find(kNames.begin(), kNames.end(), kind) != kNames.end();
}

Publisher::Publisher(zmq::context_t& context, const Config& config, Security& security,
                     BoundedQueue<Result>& results, BoundedQueue<IngestReply>& replies,
                     BoundedQueue<SaveAnswer>& saves, History& history, Metrics& metrics)
    : security_(security),
      results_(results),
      replies_(replies),
      saves_(saves),
      history_(history),
      metrics_(metrics),
      context_(context),
      config_(config),
      text_(config.text.style != TextStyle::Words),
      socket_(context, zmq::socket_type::xpub),
      streams_(static_cast<std::size_t>(config.limits.streams)) {
  prepare();
  endpoint_ = bind_socket(socket_, config.sockets.results, "results");
}

void Publisher::prepare() {
  prepare_socket(socket_, config_, "results", static_cast<int>(config_.results.high_water_mark));
  socket_.set(zmq::sockopt::maxmsgsize, kMaxSubscriptionBytes);  // nothing else comes in
  // Every subscription comes up, known topics too, and counts only once it was allowed.
  socket_.set(zmq::sockopt::xpub_manual, true);
}

// Another socket in place of this one, whose connections end with it.
void Publisher::bind_again() {
  socket_.unbind(endpoint_);
  socket_ = zmq::socket_t(context_, zmq::socket_type::xpub);
  prepare();
  // ZeroMQ gives the address free in its own time, which is short.
  while (!stopping_) {
    try {
      socket_.bind(endpoint_);
      return;
    } catch (const zmq::error_t& error) {
      spdlog::debug("{} is not free yet: {}", endpoint_, error.what());
      std::this_thread::sleep_for(kBindAgain);
    }
  }
}

void Publisher::drop_subscribers() {
  dropping_ = true;
  results_.filled().raise();
}

void Publisher::start() {
  thread_ = std::thread([this] { run(); });
}

void Publisher::stop() {
  stopping_ = true;
  results_.filled().raise();
  if (thread_.joinable()) thread_.join();
}

void Publisher::run() {
  name_thread("publisher");
  std::array<zmq::pollitem_t, 2> items{
      zmq::pollitem_t{socket_.handle(), 0, ZMQ_POLLIN, 0},
      zmq::pollitem_t{nullptr, results_.filled().descriptor(), ZMQ_POLLIN, 0}};
  for (bool last = false; !last;) {
    zmq::poll(items.data(), items.size(), std::chrono::milliseconds(-1));
    last = stopping_;  // read before the queue, so that nothing queued earlier stays behind
    results_.filled().clear();
    if (dropping_.exchange(false)) {
      bind_again();
      items[0].socket = socket_.handle();
    }
    take_subscriptions();
    while (auto result = results_.try_pop()) {
      publish(*result);
      pulse_.beat();
    }
    metrics_.queue.Set(0);
    pulse_.beat();
  }
}

void Publisher::publish(Result& result) {
  Published& stream = streams_[result.slot];
  const std::int64_t taken_ns = now_ns();
  const double lag_ms = static_cast<double>(taken_ns - result.accepted_ns) / kNsPerMs;
  std::visit(
      Overloaded{
          [&](OpenedBody& body) {
            open(stream, body);
            JsonWriter json = header(stream, Opened, result, lag_ms);
            json.field("source", to_string(stream.info.source));
            // `file` or `device`: which one
            if (stream.info.source != SourceKind::Ingest)
              json.field(to_string(stream.info.source), stream.info.file);
            json.field("format", stream.info.format);
            json.field("channels", std::int64_t{stream.info.channels});
            if (body.restored) json.field("restored", true);
            json.close('}');
            stream.last_opened = json_;
            send(stream, Opened);
          },
          [&](PartialBody& body) {
            JsonWriter json = header(stream, Partial, result, lag_ms);
            if (stream.text) stream.text->grow(body.segment);
            write_text(json, stream, body.segment, body.tentative);
            json.close('}');
            stream.last_partial = json_;
            send(stream, Partial);
            measure(result, taken_ns);
          },
          [&](FinalBody& body) {
            JsonWriter json = header(stream, Final, result, lag_ms);
            json.field("reason", to_string(body.segment.reason));
            if (stream.text) stream.text->end(body.segment);
            write_text(json, stream, body.segment, "");
            json.close('}');
            stream.last_final = json_;
            stream.last_partial.clear();
            history_.add(stream.info.name, stream.info.epoch, json_);
            send(stream, Final);
            measure(result, taken_ns);
          },
          [&](GapBody& body) {
            JsonWriter json = header(stream, Gap, result, lag_ms);
            json.field("reason", to_string(body.reason));
            json.close('}');
            send(stream, Gap);
          },
          [&](LevelBody& body) {
            JsonWriter json = header(stream, Level, result, lag_ms);
            json.thousandths("rms_dbfs", decibels(body.rms));
            json.thousandths("peak_dbfs", decibels(body.peak));
            json.close('}');
            send(stream, Level);
          },
          [&](BehindBody& body) {
            JsonWriter json = header(stream, Behind, result, lag_ms);
            json.field("behind", body.behind);
            json.close('}');
            send(stream, Behind);
          },
          [&](EncodingsBody& body) {
            JsonWriter json = header(stream, Encodings, result, lag_ms);
            json.field("first_frame", body.first_frame);
            json.field("frames", std::int64_t{body.frames});
            json.field("d_model", std::int64_t{stream.model->identity.width});
            json.field("hop", std::int64_t{stream.model->identity.hop});
            const bool half = stream.info.encodings == EncodingFormat::Float16;
            json.field("dtype", half ? "float16" : "float32");
            json.close('}');
            halves_.clear();
            if (half)
              for (float value : body.values) halves_.emplace_back(value);
            send(stream, Encodings,
                 half ? std::as_bytes(std::span(halves_)) : std::as_bytes(std::span(body.values)));
          },
          [&](FlushedBody&) { answer(stream, result); },
          [&](SavedBody& body) {
            StreamCapsule& capsule = body.save->capsule;
            capsule.result_seqs = stream.next_seq;
            if (stream.text) capsule.text = stream.text->state();
            const std::uint64_t token = body.save->token;
            if (body.save->failed)
              saves_.push(
                  {.token = token, .reason = "failed", .message = "the engine failed; the daemon ends"});
            else
              saves_.push({.token = token, .save = std::move(body.save)});
          },
          [&](MovedBody& body) { move(stream, *body.model); },
          [&](ReleasedBody& body) { release(*body.model); },
          [&](ClosedBody& body) {
            JsonWriter json = header(stream, Closed, result, lag_ms);
            json.field("reason", to_string(body.reason));
            json.field("message", body.message);
            json.field("finals", stream.next_seq[Final]);
            json.close('}');
            send(stream, Closed);
            history_.close(stream.info.name, stream.info.epoch);
            answer(stream, result);
            stream.live = false;
          },
      },
      result.body);
}

void Publisher::open(Published& stream, OpenedBody& body) {
  stream = {.info = std::move(body.info), .live = true};
  move(stream, *body.model);
  if (body.restored) {
    stream.next_seq = body.restored->result_seqs;
    if (stream.text && body.restored->text) stream.text->set_state(std::move(*body.restored->text));
  }
  history_.open(stream.info.name, stream.info.epoch, stream.next_seq[Final]);
}

// Its text begins anew.
void Publisher::move(Published& stream, LoadedModel& model) {
  stream.model = &model;
  if (text_) stream.text.emplace(model.punctuator.get(), model.text);
}

// Streams that were closed may have been on it.
void Publisher::release(LoadedModel& model) {
  for (Published& stream : streams_) {
    if (stream.model != &model) continue;
    stream.model = nullptr;
    stream.text.reset();
  }
  replies_.push({.kind = IngestReply::Kind::Released, .stream = {}, .model = &model});
}

bool Publisher::fits(const StreamCapsule& capsule, const LoadedModel& model) const {
  if (!text_ || !capsule.text) return true;
  return SegmentText(model.punctuator.get(), model.text)
      .fits(*capsule.text, capsule.readout.open.words.size());
}

// Where the time of a text went, once it is with the socket.
void Publisher::measure(const Result& result, std::int64_t taken_ns) {
  const std::int64_t sent_ns = now_ns();
  const auto seconds = [](std::int64_t from, std::int64_t to) {
    return std::max(0.0, static_cast<double>(to - from) / 1e9);
  };
  metrics_.lag_seconds.observe(seconds(result.accepted_ns, sent_ns));
  metrics_.wait_seconds.Observe(seconds(result.accepted_ns, result.step_begin_ns));
  metrics_.engine_seconds.Observe(seconds(result.step_begin_ns, result.step_end_ns));
  metrics_.readout_seconds.Observe(seconds(result.step_end_ns, result.queued_ns));
  metrics_.queue_seconds.Observe(seconds(result.queued_ns, taken_ns));
  metrics_.publish_seconds.Observe(seconds(taken_ns, sent_ns));
  if (!metrics_.tracer.wants(result.slot)) return;
  metrics_.tracer.record(result.slot, {Tracer::Stage::Queue, result.queued_ns, taken_ns, result.end});
  metrics_.tracer.record(result.slot, {Tracer::Stage::Publish, taken_ns, sent_ns, result.end});
}

void Publisher::answer(Published& stream, const Result& result) {
  if (stream.info.source != SourceKind::Ingest) return;
  IngestReply reply{.stream = stream.info.name,
                    .epoch = stream.info.epoch,
                    .samples = result.end,
                    .finals = stream.next_seq[Final],
                    .partials = stream.next_seq[Partial]};
  if (const auto* flushed = std::get_if<FlushedBody>(&result.body)) {
    reply.kind = IngestReply::Kind::Flushed;
    reply.token = flushed->token;
  } else if (const auto* closed = std::get_if<ClosedBody>(&result.body)) {
    reply.kind = IngestReply::Kind::Closed;
    reply.reason = closed->reason;
    reply.message = closed->message;
  }
  replies_.push(std::move(reply));
  metrics_.replies.Set(static_cast<double>(replies_.size()));
}

JsonWriter Publisher::header(Published& stream, Kind kind, const Result& result, double lag_ms) {
  json_.clear();
  JsonWriter json(json_);
  json.field("v", std::int64_t{kProtocolVersion});
  json.field("type", kNames[kind]);
  json.field("stream", stream.info.name);
  json.field("epoch", stream.info.epoch);
  json.field("seq", stream.next_seq[kind]++);
  json.field("segment", result.segment);
  json.field("rate", std::int64_t{stream.info.rate});
  json.field("model_rate", std::int64_t{stream.model->identity.rate});
  json.field("start_sample", result.begin);
  json.field("end_sample", result.end);
  json.field("model_start_sample", result.model_begin);
  json.field("model_end_sample", result.model_end);
  json.field("model", stream.model->identity.hash);
  json.thousandths("lag_ms", std::max(0.0, lag_ms));
  return json;
}

// Times as `sidewinder transcribe` gives them.
void Publisher::write_text(JsonWriter& json, const Published& stream, const Segment& segment,
                           std::string_view tentative) {
  json.field("committed", committed_text(segment));
  json.field("tentative", tentative);
  json.field("continues", segment.continues);
  if (stream.text) {
    json.begin_object("readable");
    json.field("committed", stream.text->committed());
    json.field("tentative", stream.text->tentative(segment, tentative));
    json.close('}');
  }
  json.begin_array("words");
  std::size_t number = 0;
  const double rate = stream.info.rate;
  const std::int64_t model_rate = stream.model->identity.rate;
  for (const Word& word : segment.words) {
    const std::int64_t begin = std::max<std::int64_t>(word.begin, 0) * stream.info.rate / model_rate;
    const std::int64_t end = std::max<std::int64_t>(word.end, 0) * stream.info.rate / model_rate;
    json.begin_object();
    json.field("word", word.text);
    json.field("start_sample", begin);
    json.field("end_sample", end);
    json.thousandths("start", static_cast<double>(begin) / rate);
    json.thousandths("end", static_cast<double>(end) / rate);
    json.thousandths("confidence", static_cast<double>(word.confidence));
    if (stream.text && number < stream.text->display().size())
      json.field("display", stream.text->display()[number]);
    json.close('}');
    ++number;
  }
  json.close(']');
}

void Publisher::send(const Published& stream, Kind kind, std::span<const std::byte> body) {
  send_frames(stream.info.name + "/" + kNames[kind] + "/", json_, body);
  published_.fetch_add(1, std::memory_order_relaxed);
  (kind == Final ? metrics_.finals : kind == Partial ? metrics_.partials : metrics_.events).Increment();
}

// Never waits: a subscriber whose queue is full loses the message, and sees the hole.
void Publisher::send_frames(const std::string& topic, const std::string& header,
                            std::span<const std::byte> body) {
  using zmq::send_flags;
  socket_.send(zmq::buffer(topic), send_flags::sndmore | send_flags::dontwait);
  socket_.send(zmq::buffer(header),
               body.empty() ? send_flags::dontwait : send_flags::sndmore | send_flags::dontwait);
  if (!body.empty()) socket_.send(zmq::buffer(body.data(), body.size()), send_flags::dontwait);
}

void Publisher::take_subscriptions() {
  zmq::message_t message;
  while (socket_.recv(message, zmq::recv_flags::dontwait)) {
    const std::string_view text = message.to_string_view();
    if (text.empty() || static_cast<unsigned char>(text.front()) > 1) continue;  // no subscription
    const std::string topic(text.substr(1));
    if (text.front() == 0)
      socket_.set(zmq::sockopt::unsubscribe, topic);
    else
      subscribe(topic, peer_of(message, ""));
  }
}

// What is set now is set for the peer whose message was read last.
void Publisher::subscribe(const std::string& topic, const Peer& who) {
  try {
    security_.access.require_subscribe(who.key, topic);
  } catch (const Fault& fault) {
    metrics_.drop(fault.reason);
    spdlog::warn("a subscription from {} was refused: {}", who.address, fault.message);
    security_.audit.record(
        "refused", who,
        {{"action", "subscribe"}, {"topic", topic}, {"reason", fault.reason}, {"message", fault.message}});
    return;
  }
  socket_.set(zmq::sockopt::subscribe, topic);
  security_.audit.record("subscribed", who, {{"topic", topic}});
  for (const Published& stream : streams_)
    if (stream.live) replay(stream, topic);
}

void Publisher::replay(const Published& stream, std::string_view prefix) {
  for (auto [kind, header] : {std::pair{Opened, &stream.last_opened},
                              {Final, &stream.last_final},
                              {Partial, &stream.last_partial}}) {
    const std::string topic = stream.info.name + "/" + kNames[kind] + "/";
    if (header->empty() || !topic.starts_with(prefix)) continue;
    send_frames(topic, header->substr(0, header->size() - 1) + R"(,"replay":true})", {});
  }
}

}  // namespace sidewinder::live
