#include "daemon/live/control.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include <spdlog/spdlog.h>

#include "daemon/audio/capture.h"
#include "daemon/live/capture_source.h"
#include "daemon/live/clock.h"
#include "daemon/live/file_source.h"
#include "daemon/live/sockets.h"
#include "dsp/resampler.h"

namespace sidewinder::live {
namespace {

constexpr int kHighWaterMark = 1'000;  // messages for or from one client
constexpr std::size_t kMaxPathBytes = 2'048;
constexpr std::size_t kMostParts = 4;           // of a request: routing id, empty, header, body
constexpr std::int64_t kSwapWithinMs = 10'000;  // where the asker does not say
constexpr std::int64_t kMostWithinMs = 86'400'000;
constexpr std::chrono::milliseconds kReapInterval(1'000);  // for sources that have ended

}  // namespace

Control::Control(zmq::context_t& context, const Config& config, ModelSwap& swap, Security& security,
                 StreamTable& table, const BoundedQueue<Result>& results, BoundedQueue<SaveAnswer>& saves,
                 Publisher& publisher, Ingest& ingest, Scheduler& scheduler, const History& history,
                 Metrics& metrics)
    : config_(config),
      swap_(swap),
      security_(security),
      table_(table),
      results_(results),
      saves_(saves),
      publisher_(publisher),
      ingest_(ingest),
      scheduler_(scheduler),
      history_(history),
      metrics_(metrics),
      start_ns_(now_ns()),
      socket_(context, zmq::socket_type::router) {
  prepare_socket(socket_, config, "control", kHighWaterMark);
  // A stream that was saved can be restored, whatever the limit of what others send.
  socket_.set(zmq::sockopt::maxmsgsize, swap.most_capsule_bytes());
  endpoint_ = bind_socket(socket_, config.sockets.control, "control");
}

void Control::serve(int stop_descriptor, const std::function<bool()>& tick) {
  std::array<zmq::pollitem_t, 4> items{zmq::pollitem_t{socket_.handle(), 0, ZMQ_POLLIN, 0},
                                       zmq::pollitem_t{nullptr, stop_descriptor, ZMQ_POLLIN, 0},
                                       zmq::pollitem_t{nullptr, saves_.filled().descriptor(), ZMQ_POLLIN, 0},
                                       zmq::pollitem_t{nullptr, swap_.changed().descriptor(), ZMQ_POLLIN, 0}};
  while (true) {
    zmq::poll(items.data(), items.size(), kReapInterval);
    if (items[1].revents != 0) return;
    if (items[0].revents != 0) take_request();
    if (items[2].revents != 0) take_saves();
    if (items[3].revents != 0) take_model();
    if (!tick()) return;
    std::erase_if(sources_, [](const auto& source) { return source->finished(); });
  }
}

void Control::close_all() {
  for (auto& source : sources_) source->stop();
}

void Control::answer_last() {
  take_saves();
  const std::string message = "the daemon stops";
  for (const auto& [token, pending] : pending_saves_)
    send_fault(pending.asker, {"draining", message, {{"stream", pending.stream}}});
  if (pending_swap_) refuse_swap(*pending_swap_, {"draining", message});
}

void Control::take_request() {
  std::vector<zmq::message_t> parts(1);
  if (!socket_.recv(parts[0], zmq::recv_flags::dontwait)) return;
  for (bool more = parts[0].more(); more; more = parts.back().more()) {
    zmq::message_t part;
    if (!socket_.recv(part, zmq::recv_flags::none)) return;
    if (parts.size() > kMostParts) parts.pop_back();  // too many already: only the last one's `more` matters
    parts.push_back(std::move(part));
  }
  // A REQ socket puts an empty frame first, and wants it back.
  const bool delimited = parts.size() >= 3 && parts[1].size() == 0;
  const std::size_t header = delimited ? 2 : 1;
  Asker asker{.who = peer_of(parts.back(), parts[0].to_string()), .delimited = delimited, .id = {}};
  try {
    if (parts.size() <= header || parts.size() > header + 2)
      throw Fault{"bad_message", "a request is one frame, or two for open and restore"};
    const Request request({parts[header].data<std::byte>(), parts[header].size()});
    asker.id = request.optional_text("id", kMaxHeaderBytes);
    try {
      if (auto reply = answer(request, asker, parts.size() > header + 1 ? &parts[header + 1] : nullptr))
        send(asker, *reply);
    } catch (Fault& fault) {
      if (fault.reason == "not_allowed" || fault.reason == "over_quota") {
        Json fields{{"action", request.type()}, {"reason", fault.reason}, {"message", fault.message}};
        request.echo(fields);
        security_.audit.record("refused", asker.who, fields);
      }
      request.echo(fault.extra);
      fault.extra.erase("seq");
      throw;
    }
  } catch (const Fault& fault) {
    send_fault(asker, fault);
  }
}

void Control::send_fault(const Asker& asker, const Fault& fault) {
  metrics_.drop(fault.reason);
  send(asker, error_answer(fault));
}

void Control::send(const Asker& asker, const Json& reply, std::span<const std::byte> body) {
  using zmq::send_flags;
  Json named = reply;
  if (asker.id) named["id"] = *asker.id;
  socket_.send(zmq::buffer(asker.who.id), send_flags::sndmore | send_flags::dontwait);
  if (asker.delimited) socket_.send(zmq::message_t(), send_flags::sndmore | send_flags::dontwait);
  socket_.send(zmq::buffer(dump(named)),
               body.empty() ? send_flags::dontwait : send_flags::sndmore | send_flags::dontwait);
  if (!body.empty()) socket_.send(zmq::buffer(body.data(), body.size()), send_flags::dontwait);
}

std::optional<Json> Control::answer(const Request& request, const Asker& asker, const zmq::message_t* body) {
  const Peer& who = asker.who;
  if (body != nullptr && request.type() != "restore" && request.type() != "open")
    throw Fault{"bad_message", "only open and restore may have a second frame"};
  if (request.type() == "access") return access(request, who);
  security_.access.require_control(who.key, request.type());
  if (request.type() == "list") return list(who);
  if (request.type() == "open") return open(request, who, body);
  if (request.type() == "close") return close(request, who);
  if (request.type() == "drain") return drain(request, who);
  if (request.type() == "stats") return stats();
  if (request.type() == "history") return history(request, who);
  if (request.type() == "devices") return devices();
  if (request.type() == "trace") return trace(request, who);
  if (request.type() == "restore") return restore(request, who, body);
  if (request.type() == "save") {
    save(request, asker);
    return std::nullopt;
  }
  if (request.type() == "swap_model") {
    swap_model(request, asker);
    return std::nullopt;
  }
  throw Fault{"bad_message", "no such type"};
}

Json Control::list(const Peer& who) const {
  Json reply = message("list");
  Json& streams = reply["streams"] = Json::array();
  for (const StreamStatus& status : table_.list()) {
    if (!security_.access.sees(who.key, status.info.name)) continue;
    Json entry{{"stream", status.info.name},
               {"epoch", status.info.epoch},
               {"state", status.ending ? "ending" : "live"},
               {"source", to_string(status.info.source)},
               {"rate", status.info.rate},
               {"channels", status.info.channels},
               {"samples", status.accepted_frames},
               {"model_samples", status.heard},
               {"backlog_ms", static_cast<double>(status.backlog) * 1000 / swap_.current().identity.rate},
               {"segment", status.finals},
               {"finals", status.finals}};
    if (status.info.source != SourceKind::Ingest) entry[to_string(status.info.source)] = status.info.file;
    streams.push_back(std::move(entry));
  }
  return reply;
}

Json Control::open(const Request& request, const Peer& who, const zmq::message_t* body) {
  const std::string name = request.optional_text("stream", kMaxHeaderBytes).value_or("");
  const int channel = static_cast<int>(request.optional_integer("channel", 1, 1'000).value_or(0));
  security_.access.require_publish(who.key, name);
  const std::int64_t owner_streams = security_.access.rules(who.key).streams;
  const std::optional<std::string> device = request.optional_text("device", kMaxPathBytes);
  if (device && request.optional_text("file", kMaxPathBytes))
    throw Fault{"bad_message", "a stream has a file or a device, not both"};
  const std::string from = device ? *device : request.text("file", kMaxPathBytes);
  const auto refuse = [&](const Refusal& refusal) {
    metrics_.refused.Increment();
    security_.audit.record(
        "refused", who,
        {{"action", "open"}, {"from", from}, {"reason", refusal.reason}, {"message", refusal.message}});
    return refusal_answer(name, refusal.reason, refusal.message);
  };
  FirstHotwords hotwords;
  try {
    if (body != nullptr) hotwords = read_hotwords(body->to_string_view(), table_.model().decoding);
  } catch (const Fault& fault) {
    return refuse({fault.reason, fault.message});
  }
  std::variant<std::unique_ptr<Source>, Refusal> opened;
  const auto take = [&opened](auto&& result) {
    std::visit([&opened](auto&& value) { opened = std::move(value); }, std::move(result));
  };
  if (device) {
    const int rate = static_cast<int>(
        request.optional_integer("rate", dsp::kMinSampleRate, dsp::kMaxSampleRate).value_or(0));
    const int channels = static_cast<int>(request.optional_integer("channels", 1, kMaxChannels).value_or(0));
    take(CaptureSource::open(table_, metrics_,
                             {.capture = {*device, rate, channels},
                              .name = name,
                              .channel = channel,
                              .owner = who.key,
                              .owner_streams = owner_streams,
                              .hotwords = std::move(hotwords)}));
  } else {
    const std::string pace = request.optional_text("pace", 16).value_or("real_time");
    if (pace != "real_time" && pace != "fast") throw Fault{"bad_message", "pace must be real_time or fast"};
    take(FileSource::open(table_, {.file = from,
                                   .pace = pace == "fast" ? Pace::Fast : Pace::RealTime,
                                   .name = name,
                                   .channel = channel,
                                   .owner = who.key,
                                   .owner_streams = owner_streams,
                                   .hotwords = std::move(hotwords)}));
  }
  if (const auto* refusal = std::get_if<Refusal>(&opened)) return refuse(*refusal);
  sources_.push_back(std::move(std::get<std::unique_ptr<Source>>(opened)));
  const StreamInfo& info = sources_.back()->info();
  spdlog::info("stream {} is {} {}: epoch {}, {} Hz, {} channel(s)", info.name, to_string(info.source),
               info.file, info.epoch, info.rate, info.channels);
  security_.audit.record("opened", who,
                         {{"stream", info.name}, {"epoch", info.epoch}, {to_string(info.source), info.file}});
  Json reply = message("opened");
  reply["stream"] = info.name;
  reply["epoch"] = info.epoch;
  reply["rate"] = info.rate;
  reply["channels"] = info.channels;
  return reply;
}

Json Control::devices() const {
  Json reply = message("devices");
  Json& all = reply["devices"] = Json::array();
  try {
    for (const CaptureDevice& device : list_capture_devices())
      all.push_back({{"index", device.index},
                     {"name", device.name},
                     {"host", device.host},
                     {"channels", device.channels},
                     {"rate", device.rate},
                     {"default", device.is_default}});
  } catch (const CaptureError& error) {
    throw Fault{"bad_device", error.what()};
  }
  return reply;
}

Json Control::close(const Request& request, const Peer& who) {
  const std::string name = request.text("stream", kMaxHeaderBytes);
  security_.access.require_publish(who.key, name);
  const auto epoch = table_.request_end(name);
  if (!epoch) throw Fault{"unknown_stream", "no stream of that name is open"};
  ingest_.look().raise();
  for (auto& source : sources_) source->look();
  security_.audit.record("closed", who, {{"stream", name}, {"epoch", *epoch}});
  Json reply = message("closing");
  reply["stream"] = name;
  reply["epoch"] = *epoch;
  return reply;
}

// The stream's state is put together by the threads that own it, one after the other, between two steps:
// ingest, scheduler, publisher. take_saves() has the answer.
void Control::save(const Request& request, const Asker& asker) {
  const std::string name = request.text("stream", kMaxHeaderBytes);
  security_.access.require_publish(asker.who.key, name);
  const bool end = request.optional_boolean("end").value_or(false);
  const auto stream = table_.find(name);
  if (!stream) throw Fault{"unknown_stream", "no stream of that name is open"};
  if (stream->info.source != SourceKind::Ingest)
    throw Fault{"unsupported",
                "only a stream that a client feeds can be saved; open the file or device again"};
  if (pending_saves_.size() >= kMostSaves) throw Fault{"busy", "as many saves as may wait are waiting"};
  auto save = std::make_unique<StreamSave>();
  save->token = ++last_token_;
  save->end = end;
  pending_saves_[last_token_] = {asker, name};
  ingest_.order(SaveOrder{name, std::move(save)});
}

void Control::take_saves() {
  saves_.filled().clear();
  while (auto answer = saves_.try_pop()) {
    auto found = pending_saves_.extract(answer->token);
    const PendingSave& pending = found.mapped();
    if (!answer->save) {
      send_fault(pending.asker, {answer->reason, answer->message, {{"stream", pending.stream}}});
      continue;
    }
    const StreamCapsule& capsule = answer->save->capsule;
    const std::vector<std::byte> bytes = seal(capsule, answer->save->model, answer->save->decoding);
    security_.audit.record(
        "saved", pending.asker.who,
        {{"stream", pending.stream}, {"epoch", capsule.info.epoch}, {"end", answer->save->end}});
    Json reply = message("saved");
    reply["stream"] = pending.stream;
    reply["epoch"] = capsule.info.epoch;
    reply["samples"] = capsule.resampler.inputs;
    reply["seq"] = capsule.next_seq;
    reply["finals"] = capsule.finals();
    reply["end"] = answer->save->end;
    reply["model"] = hex(answer->save->model);
    reply["bytes"] = bytes.size();
    send(pending.asker, reply, bytes);
  }
}

// The model is loaded on a thread of its own; take_model() has the answer.
void Control::swap_model(const Request& request, const Asker& asker) {
  PendingSwap pending{asker, request.text("folder", kMaxPathBytes),
                      request.optional_integer("within_ms", 0, kMostWithinMs).value_or(kSwapWithinMs)};
  if (pending_swap_)
    return refuse_swap(pending, {"busy", pending_swap_->folder + " is being loaded; ask again later"});
  if (swap_.retiring() != nullptr)
    return refuse_swap(pending, {"busy", std::to_string(swap_.retiring()->streams) +
                                             " streams are still to move, or the model that they were on is "
                                             "about to be freed; ask again later"});
  swap_.load(pending.folder);
  pending_swap_ = std::move(pending);
}

void Control::refuse_swap(const PendingSwap& pending, const Refusal& refusal) {
  spdlog::warn("the model of {} is not taken: {}", pending.folder, refusal.message);
  security_.audit.record("refused", pending.asker.who,
                         {{"action", "swap_model"},
                          {"folder", pending.folder},
                          {"reason", refusal.reason},
                          {"message", refusal.message}});
  send(pending.asker, refusal_answer({}, refusal.reason, refusal.message));
}

void Control::take_model() {
  swap_.changed().clear();
  swap_.free_released();
  auto loaded = swap_.take_loaded();
  if (!loaded) return;
  const PendingSwap pending = *std::exchange(pending_swap_, std::nullopt);
  if (const auto* refusal = std::get_if<Refusal>(&*loaded)) return refuse_swap(pending, *refusal);
  swap_.install(std::move(std::get<std::unique_ptr<LoadedModel>>(*loaded)));
  LoadedModel& model = swap_.current();
  table_.set_model(model);
  // Counted before the scheduler knows: those that are to move, and no others will be opened.
  const std::size_t streams = swap_.retiring()->streams;
  scheduler_.move_streams(model, now_ns() + pending.within_ms * 1'000'000);
  metrics_.describe(SIDEWINDER_VERSION, model.engine().name(), model.identity.hash);
  metrics_.capacity.Set(static_cast<double>(model.capacity));
  spdlog::info("streams are opened with model {} of {} from now on; {} are to move within {} ms",
               model.identity.hash, pending.folder, streams, pending.within_ms);
  security_.audit.record("swapped", pending.asker.who,
                         {{"folder", pending.folder}, {"model", model.identity.hash}, {"streams", streams}});
  Json reply = message("swapping");
  reply["model"] = model.identity.hash;
  reply["before"] = swap_.retiring()->identity.hash;
  reply["streams"] = streams;
  send(pending.asker, reply);
}

Json Control::restore(const Request& request, const Peer& who, const zmq::message_t* body) {
  std::string name = request.optional_text("stream", kMaxHeaderBytes).value_or("");
  try {
    if (body == nullptr) throw Fault{"bad_message", "restore needs a second frame: what save gave"};
    auto capsule = std::make_unique<StreamCapsule>(
        unseal({body->data<std::byte>(), body->size()}, swap_.current().capsule_host()));
    StreamInfo& info = capsule->info;
    if (!name.empty() && name != info.name) {  // another stream from here on
      info.name = name;
      info.epoch = 0;
    }
    name = info.name;
    security_.access.require_publish(who.key, name);
    if (!security_.access.enabled())
      info.owner.clear();
    else if (info.owner.empty())
      info.owner = who.key;
    security_.access.require_publish(info.owner, name);
    if (info.encodings != EncodingFormat::None && !config_.engine.encodings)
      throw Fault{"unsupported", "encodings are off; the daemon needs engine.encodings = true"};
    if (!publisher_.fits(*capsule, swap_.current()))
      throw Fault{"unsupported", "saved with another text.style than this daemon's; give both the same"};
    std::unique_ptr<const Hotwords> hotwords;
    if (!capsule->hotwords.empty())
      hotwords = std::make_unique<const Hotwords>(capsule->hotwords, swap_.current().tokenizer, "hotwords");
    const std::int64_t seq = capsule->next_seq, finals = capsule->finals();
    const std::uint64_t samples = capsule->resampler.inputs;
    const std::int64_t quota = security_.access.rules(info.owner).streams;
    auto opened = table_.restore(std::move(capsule), std::move(hotwords), quota);
    if (auto* refusal = std::get_if<Refusal>(&opened)) throw Fault{refusal->reason, refusal->message};
    Stream* stream = std::get<Stream*>(opened);
    const StreamInfo restored = stream->info();
    ingest_.order(AdoptOrder{stream, seq});
    spdlog::info("stream {} was restored: epoch {}, at frame {}", restored.name, restored.epoch, samples);
    security_.audit.record("restored", who, {{"stream", restored.name}, {"epoch", restored.epoch}});
    Json reply = message("opened");
    reply["stream"] = restored.name;
    reply["epoch"] = restored.epoch;
    reply["rate"] = restored.rate;
    reply["format"] = restored.format;
    reply["channels"] = restored.channels;
    reply["seq"] = seq;
    reply["samples"] = samples;
    reply["finals"] = finals;
    return reply;
  } catch (const Fault& fault) {
    if (fault.reason == "bad_message") throw;
    metrics_.refused.Increment();
    Json fields{{"action", "restore"}, {"reason", fault.reason}, {"message", fault.message}};
    if (!name.empty()) fields["stream"] = name;
    security_.audit.record("refused", who, fields);
    return refusal_answer(name, fault.reason, fault.message);
  }
}

Json Control::drain(const Request& request, const Peer& who) {
  const bool on = request.optional_boolean("on").value_or(true);
  table_.set_draining(on);
  spdlog::info("draining is {}", on ? "on" : "off");
  security_.audit.record("drained", who, {{"on", on}});
  Json reply = message("draining");
  reply["on"] = on;
  reply["streams"] = table_.live();
  return reply;
}

Json Control::stats() const {
  const StreamTable::Counts counts = table_.counts();
  Json reply = message("stats");
  reply["version"] = SIDEWINDER_VERSION;
  reply["engine"] = swap_.current().engine().name();
  reply["model"] = swap_.current().identity.hash;
  reply["uptime_s"] = static_cast<double>((now_ns() - start_ns_) / 1'000'000) / 1000;
  reply["streams"] = table_.live();
  reply["slots"] = table_.slots();
  reply["draining"] = table_.draining();
  reply["swapping"] = pending_swap_ || swap_.retiring() != nullptr;
  reply["moving"] = swap_.retiring() != nullptr ? swap_.retiring()->streams.load() : 0;
  if (const std::size_t capacity = table_.capacity(); capacity > 0) reply["capacity"] = capacity;
  reply["chunk_ms"] = config_.scheduler.chunk_ms;
  reply["opened"] = counts.opened;
  reply["closed"] = counts.closed;
  reply["refused"] = static_cast<std::int64_t>(metrics_.refused.Value());
  reply["steps"] = static_cast<std::int64_t>(metrics_.steps.Value());
  reply["audio_s"] = metrics_.audio_seconds.Value();
  reply["results"] = {{"queued", results_.size()},
                      {"capacity", results_.capacity()},
                      {"published", publisher_.published()},
                      {"partials_skipped", static_cast<std::int64_t>(metrics_.partials_skipped.Value())}};
  reply["step_ms"] = {{"mean", metrics_.step_seconds.mean() * 1000},
                      {"max", metrics_.step_seconds.max() * 1000}};
  reply["lag_ms"] = {{"mean", metrics_.lag_seconds.mean() * 1000},
                     {"max", metrics_.lag_seconds.max() * 1000}};
  return reply;
}

Json Control::history(const Request& request, const Peer& who) const {
  const std::string name = request.text("stream", kMaxHeaderBytes);
  security_.access.require_subscribe(who.key, name + "/final/");
  const std::int64_t epoch = request.optional_integer("epoch", 1, kMaxInteger).value_or(0);
  const std::int64_t from = request.integer("from", 0, kMaxInteger);
  const std::int64_t to = request.integer("to", 0, kMaxInteger);
  const auto kept = history_.ask(name, epoch, from, to);
  if (!kept) throw Fault{"unknown_stream", "no finals are kept of that stream and epoch"};
  security_.audit.record("history", who, {{"stream", name}, {"from", from}, {"to", to}});
  Json reply = message("history");
  reply["stream"] = name;
  reply["epoch"] = kept->epoch;
  reply["from"] = from;
  reply["to"] = to;
  Json& finals = reply["finals"] = Json::array();
  for (const std::string& header : kept->headers) finals.push_back(Json::parse(header));
  reply["next"] = kept->next;
  if (kept->first > from && to >= from)
    reply["gap"] = {{"from", from}, {"to", std::min(to, kept->first - 1)}};
  return reply;
}

// The answer to `on: false` is a file that Chrome's about:tracing and Perfetto open.
Json Control::trace(const Request& request, const Peer& who) {
  const std::string name = request.text("stream", kMaxHeaderBytes);
  security_.access.require_subscribe(who.key, name + "/final/");
  const auto on = request.optional_boolean("on");
  if (!on) throw Fault{"bad_message", "on is missing"};
  const auto stream = table_.find(name);
  if (!stream) throw Fault{"unknown_stream", "no stream of that name is open"};
  Json reply = message(*on ? "tracing" : "traced");
  reply["stream"] = name;
  reply["epoch"] = stream->info.epoch;
  if (*on) {
    if (!metrics_.tracer.start(stream->slot))
      throw Fault{"busy", "another trace is on; try again in a minute"};
    return reply;
  }
  const auto trace = metrics_.tracer.stop(stream->slot);
  if (!trace) throw Fault{"bad_message", "no trace of that stream is on"};
  reply["dropped"] = trace->dropped;
  reply["displayTimeUnit"] = "ms";
  Json& events = reply["traceEvents"] = Json::array();
  for (int stage = 0; stage < Tracer::kStages; ++stage)
    events.push_back({{"name", "thread_name"},
                      {"ph", "M"},
                      {"pid", 1},
                      {"tid", stage},
                      {"args", {{"name", to_string(static_cast<Tracer::Stage>(stage))}}}});
  for (const Tracer::Event& event : trace->events)
    events.push_back({{"name", to_string(event.stage)},
                      {"ph", "X"},
                      {"pid", 1},
                      {"tid", static_cast<int>(event.stage)},
                      {"ts", static_cast<double>(event.begin_ns - trace->begin_ns) / 1000},
                      {"dur", static_cast<double>(event.end_ns - event.begin_ns) / 1000},
                      {"args", {{"end_sample", event.end_sample}}}});
  return reply;
}

// What the asker may do, and which of the topics that it names it may not subscribe to: the results socket
// has no way to say so.
Json Control::access(const Request& request, const Peer& who) const {
  const KeyRules rules = security_.access.rules(who.key);
  Json reply = message("access");
  if (!who.key.empty()) reply["key"] = who.key;
  reply["publish"] = rules.publish;
  reply["subscribe"] = rules.subscribe;
  reply["control"] = rules.control;
  reply["streams"] = rules.streams;
  reply["bytes_per_second"] = rules.bytes_per_second;
  reply["requests_per_second"] = rules.requests_per_second;
  Json& refused = reply["refused"] = Json::array();
  for (const std::string& topic : request.optional_texts("topics")) {
    try {
      security_.access.require_subscribe(who.key, topic);
    } catch (const Fault& fault) {
      refused.push_back({{"topic", topic}, {"reason", fault.reason}, {"message", fault.message}});
    }
  }
  return reply;
}

}  // namespace sidewinder::live
