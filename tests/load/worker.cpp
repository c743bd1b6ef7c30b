#include "tests/load/worker.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>

#include <nlohmann/json.hpp>
#include <pthread.h>

namespace sidewinder::load {
namespace {

constexpr std::size_t kMostAsked = 64;  // opens on their way, so that no queue of the daemon overflows
constexpr int kMessagesAtOnce = 1'024;  // before what is due is sent again
constexpr double kNsPerMs = 1e6;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A number of a header without parsing all of it: a partial may have hundreds of words, and this program
// hears a hundred thousand messages a second. The first `key` is the header's own; words come later.
std::optional<std::int64_t> number(std::string_view header, std::string_view key) {
  const std::size_t at = header.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  std::int64_t value = 0;
  const char* begin = header.data() + at + key.size();
  const auto [end, error] = std::from_chars(begin, header.data() + header.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

}  // namespace

Worker::Worker(Options options, const Recording& recording)
    : options_(std::move(options)),
      recording_(recording),
      chunk_ns_(static_cast<std::int64_t>(recording.chunk_frames()) * 1'000'000'000 / recording.rate()),
      context_(1),
      ingest_(context_, zmq::socket_type::dealer),
      results_(context_, zmq::socket_type::sub),
      random_(options_.seed) {
  for (zmq::socket_t* socket : {&ingest_, &results_}) {
    socket->set(zmq::sockopt::linger, 0);
    // Nothing is lost here; what waits counts as lag.
    socket->set(zmq::sockopt::sndhwm, 0);
    socket->set(zmq::sockopt::rcvhwm, 0);
  }
  results_.set(zmq::sockopt::subscribe, options_.prefix);
  results_.connect(options_.results);
  ingest_.connect(options_.ingest);
}

Worker::~Worker() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Worker::start() {
  thread_ = std::thread([this] { run(); });
}

void Worker::want(std::size_t streams) {
  unsettled_ = streams;  // until the thread has looked
  wanted_ = streams;
}

void Worker::close_all() {
  unsettled_ = wanted_.load();
  closing_ = true;
}

void Worker::measure() {
  std::lock_guard lock(mutex_);
  seen_ = {};
}

Seen Worker::take_seen() {
  std::lock_guard lock(mutex_);
  return std::exchange(seen_, {});
}

Totals Worker::totals() const {
  std::lock_guard lock(mutex_);
  return totals_;
}

void Worker::run() {
  pthread_setname_np(pthread_self(), "worker");
  std::array<zmq::pollitem_t, 2> items{zmq::pollitem_t{ingest_.handle(), 0, ZMQ_POLLIN, 0},
                                       zmq::pollitem_t{results_.handle(), 0, ZMQ_POLLIN, 0}};
  while (!stopping_) {
    const std::size_t wanted = wanted_;
    if (closing_)
      ask_close();
    else
      open_more();
    send_due();
    unsettled_ = waiting_ + (closing_ ? 0 : wanted - std::min(wanted, streams_.size()));
    // Whole milliseconds, at least one: with thousands of streams something is always due, and what is due
    // meanwhile goes out together.
    std::int64_t wait_ms = 10;
    if (!due_.empty())
      wait_ms = std::clamp<std::int64_t>((due_.top().first - now_ns()) / 1'000'000 + 1, 1, wait_ms);
    zmq::poll(items.data(), items.size(), std::chrono::milliseconds(wait_ms));
    take_results();  // first: their arrival is what is measured
    take_answers();
  }
}

void Worker::open_more() {
  while (streams_.size() < wanted_ && waiting_ < kMostAsked) {
    const nlohmann::json open{{"v", 1},
                              {"type", "open"},
                              {"stream", name(streams_.size())},
                              {"rate", recording_.rate()},
                              {"format", "s16le"}};
    const std::string header = open.dump();
    Stream& stream = streams_.emplace_back();
    stream.start = random_() % recording_.frames();
    ingest_.send(zmq::buffer(header), zmq::send_flags::dontwait);
    ++waiting_;
  }
}

void Worker::ask_close() {
  for (std::size_t index = 0; index < streams_.size(); ++index) {
    Stream& stream = streams_[index];
    if (stream.state != State::Open && stream.state != State::Held) continue;
    const std::string header = nlohmann::json{{"v", 1}, {"type", "close"}, {"stream", name(index)}}.dump();
    ingest_.send(zmq::buffer(header), zmq::send_flags::dontwait);
    stream.state = State::Closing;
    ++waiting_;
  }
}

void Worker::send_due() {
  for (std::int64_t now = now_ns(); !due_.empty() && due_.top().first <= now; now = now_ns()) {
    const std::size_t index = due_.top().second;
    due_.pop();
    Stream& stream = streams_[index];
    if (stream.state != State::Open) continue;
    if ((stream.chunks + 1) * recording_.chunk_frames() > stream.credit) {
      stream.state = State::Held;  // until credit comes
      std::lock_guard lock(mutex_);
      ++seen_.held;
      continue;
    }
    send_chunk(index, now);
  }
}

void Worker::send_chunk(std::size_t index, std::int64_t now) {
  Stream& stream = streams_[index];
  std::array<char, 160> header;
  const int length =
      std::snprintf(header.data(), header.size(), R"({"v":1,"type":"audio","stream":"%s%zu","seq":%llu})",
                    options_.prefix.c_str(), index, static_cast<unsigned long long>(stream.chunks));
  ingest_.send(zmq::buffer(header.data(), static_cast<std::size_t>(length)),
               zmq::send_flags::sndmore | zmq::send_flags::dontwait);
  // The recording outlives the socket: sent from where it lies.
  zmq_send_const(ingest_.handle(), recording_.chunk(stream.start + stream.chunks * recording_.chunk_frames()),
                 recording_.chunk_bytes(), ZMQ_DONTWAIT);
  stream.handed_ns[stream.chunks % kRemembered] = now;
  ++stream.chunks;
  {
    std::lock_guard lock(mutex_);
    seen_.delay_ms.push_back(static_cast<float>(static_cast<double>(now - stream.due_ns) / kNsPerMs));
  }
  stream.due_ns += chunk_ns_;
  due_.push({stream.due_ns, index});
}

void Worker::take_answers() {
  zmq::message_t part;
  for (int count = 0; count < kMessagesAtOnce && ingest_.recv(part, zmq::recv_flags::dontwait); ++count) {
    const auto answer = nlohmann::json::parse(part.to_string_view(), nullptr, false);
    const std::string type = answer.is_object() ? answer.value("type", "") : "";
    Stream* stream = find(answer.is_object() ? answer.value("stream", "") : "");
    std::lock_guard lock(mutex_);
    if (stream == nullptr || type == "error") {
      ++totals_.errors;
      if (totals_.trouble.empty()) totals_.trouble = part.to_string();
    } else if (type == "opened") {
      --waiting_;
      ++totals_.open;
      stream->state = State::Open;
      stream->credit = answer.value("credit", std::uint64_t{0});
      const auto phase = static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(chunk_ns_));
      stream->due_ns = now_ns() + chunk_ns_ + phase;  // its first chunk is being spoken
      due_.push({stream->due_ns, static_cast<std::size_t>(stream - streams_.data())});
    } else if (type == "credit") {
      stream->credit = std::max(stream->credit, answer.value("credit", std::uint64_t{0}));
      if (stream->state == State::Held) {
        stream->state = State::Open;
        due_.push({stream->due_ns, static_cast<std::size_t>(stream - streams_.data())});
      }
    } else if (type == "refused") {
      --waiting_;
      ++totals_.refused;
      stream->state = State::Gone;
      if (totals_.trouble.empty()) totals_.trouble = part.to_string();
    } else if (type == "closed") {
      if (stream->state == State::Closing) {
        --waiting_;
      } else {
        ++totals_.ended;
        if (totals_.trouble.empty()) totals_.trouble = part.to_string();
      }
      --totals_.open;
      stream->state = State::Gone;
    }
  }
}

void Worker::take_results() {
  zmq::message_t topic, part;
  for (int count = 0; count < kMessagesAtOnce && results_.recv(topic, zmq::recv_flags::dontwait); ++count) {
    const std::int64_t now = now_ns();
    if (!results_.recv(part, zmq::recv_flags::none)) return;
    hear(topic.to_string_view(), part.to_string_view(), now);
    for (bool more = part.more(); more; more = part.more())
      if (!results_.recv(part, zmq::recv_flags::none)) return;
  }
}

void Worker::hear(std::string_view topic, std::string_view header, std::int64_t now) {
  const std::size_t slash = topic.find('/');
  const std::string_view kind = topic.substr(slash + 1, topic.size() - slash - 2);
  Stream* stream = find(topic.substr(0, slash));
  std::lock_guard lock(mutex_);
  ++seen_.results;
  seen_.result_bytes += topic.size() + header.size();
  if (kind == "behind") ++totals_.behind;
  const auto seq = number(header, R"("seq":)");
  const auto end = number(header, R"("end_sample":)");
  if (stream == nullptr || !seq || !end || header.ends_with(R"("replay":true})")) return;
  if (kind == "partial" || kind == "final") {
    std::int64_t& next = kind == "partial" ? stream->next_partial : stream->next_final;
    totals_.holes += static_cast<std::uint64_t>(std::max<std::int64_t>(*seq - next, 0));
    next = *seq + 1;
  }
  const auto frames = static_cast<std::int64_t>(recording_.chunk_frames());
  if (*end <= 0 || !(kind == "partial" || (kind == "level" && *end % frames == 0))) return;
  const auto chunk = static_cast<std::uint64_t>((*end - 1) / frames);
  if (chunk < stream->measured || chunk >= stream->chunks || stream->chunks - chunk > kRemembered) return;
  stream->measured = chunk + 1;
  seen_.lag_ms.push_back(
      static_cast<float>(static_cast<double>(now - stream->handed_ns[chunk % kRemembered]) / kNsPerMs));
}

Worker::Stream* Worker::find(std::string_view name) {
  if (!name.starts_with(options_.prefix)) return nullptr;
  name.remove_prefix(options_.prefix.size());
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size() || index >= streams_.size()) return nullptr;
  return &streams_[index];
}

}  // namespace sidewinder::load
