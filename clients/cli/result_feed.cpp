#include "clients/cli/result_feed.h"

#include <algorithm>
#include <utility>

namespace sidewinder::clients {
namespace {

constexpr std::int64_t kForEver = (std::int64_t{1} << 53) - 1;
constexpr std::size_t kTopicsAtOnce = 32;  // they fit into a header

}  // namespace

ResultFeed::ResultFeed(zmq::context_t& context, const Addresses& addresses,
                       const std::vector<std::string>& streams, std::set<std::string> kinds)
    : context_(context),
      control_(addresses.control),
      keys_(addresses.load_keys()),
      streams_(streams),
      kinds_(std::move(kinds)),
      connection_(context, zmq::socket_type::sub, addresses.results, keys_) {
  if (streams.empty()) topics_.emplace_back();
  for (const std::string& stream : streams) {
    for (const std::string& kind : kinds_) topics_.push_back(stream + "/" + kind + "/");
    // Says how many finals there were, whether it is to be shown or not.
    if (!kinds_.contains("closed")) topics_.push_back(stream + "/closed/");
  }
  for (const std::string& topic : topics_) connection_.socket().set(zmq::sockopt::subscribe, topic);
}

Json ResultFeed::ask(const Json& message, const std::string& answer) const {
  return request(context_, control_, keys_, message, answer);
}

// A subscription that is not allowed stays silent, so what is allowed is asked for.
void ResultFeed::check_access() const {
  if (keys_.server_key.empty()) return;
  for (std::size_t begin = 0; begin < topics_.size(); begin += kTopicsAtOnce) {
    const std::size_t end = std::min(topics_.size(), begin + kTopicsAtOnce);
    const std::vector<std::string> some(topics_.begin() + static_cast<std::ptrdiff_t>(begin),
                                        topics_.begin() + static_cast<std::ptrdiff_t>(end));
    const Json answer = ask({{"type", "access"}, {"topics", some}}, "access");
    for (const Json& refused : answer.at("refused"))
      throw RefusedError(refused.at("reason").get<std::string>(), refused.at("message").get<std::string>());
  }
}

std::optional<Json> ResultFeed::take() {
  while (ready_.empty()) {
    std::vector<zmq::message_t> parts = connection_.receive();
    if (std::exchange(connections_, connection_.connections()) != connections_) {
      check_access();
      connections_ > 1 ? catch_up() : note_past();
    }
    if (parts.size() >= 2) take_result(unpack(parts[1]));
    if (!parts.empty()) continue;
    tell_ended();
    if (ready_.empty()) return std::nullopt;
  }
  Json event = std::move(ready_.front());
  ready_.pop_front();
  return event;
}

void ResultFeed::take_result(Json header) {
  const auto kind = header.at("type").get<std::string>();
  const auto stream = header.at("stream").get<std::string>();
  const auto epoch = header.at("epoch").get<std::int64_t>();
  const auto seq = header.at("seq").get<std::int64_t>();
  const bool replay = header.value("replay", false);
  auto found = lives_.find(stream);
  if (found != lives_.end() && epoch < found->second.epoch) return;
  if (found != lives_.end() && epoch > found->second.epoch) {
    recover(stream, found->second, kForEver);
    end(stream, found->second);
    lives_.erase(found);
    found = lives_.end();
  }
  if (found == lives_.end()) {
    // One that was saved and goes on: what was published before is not missed.
    const bool restored = header.value("restored", false);
    const bool whole = !restored && (connections_ > 1 || (kind == "opened" && !replay));
    found = lives_.emplace(stream, Life{.epoch = epoch, .whole = whole}).first;
    if (restored) found->second.next["final"] = header.at("segment").get<std::int64_t>();
  }
  Life& life = found->second;
  // Of a stream that was there before, the last final is replayed, if there is one: it is where to begin.
  const bool late = !life.whole && (kind != "final" || replay);
  std::int64_t& expected = life.next.try_emplace(kind, late ? seq : 0).first->second;
  if (seq < expected) return;
  if (kind == "final")
    recover(stream, life, seq - 1);
  else if (seq > expected)
    tell_missed(stream, life, kind, expected, seq - 1);
  expected = seq + 1;
  if (kind == "closed") {
    recover(stream, life, header.at("finals").get<std::int64_t>() - 1);
    lives_.erase(found);
    if (auto past = past_.find(stream); past != past_.end()) past->second = epoch;
  }
  if (kinds_.contains(kind)) ready_.push_back(std::move(header));
}

// Asks for the finals from the expected one to `last`.
void ResultFeed::recover(const std::string& stream, Life& life, std::int64_t last) {
  std::int64_t& next = life.next["final"];
  if (next > last || !kinds_.contains("final")) return;
  try {
    Json answer =
        ask({{"type", "history"}, {"stream", stream}, {"epoch", life.epoch}, {"from", next}, {"to", last}},
            "history");
    if (auto gap = answer.find("gap"); gap != answer.end())
      tell_missed(stream, life, "final", gap->at("from").get<std::int64_t>(),
                  gap->at("to").get<std::int64_t>());
    for (Json& final : answer.at("finals")) {
      final["recovered"] = true;
      ready_.push_back(std::move(final));
    }
    next = std::max(next, std::min(answer.at("next").get<std::int64_t>(), last + 1));
  } catch (const ClientError&) {
    if (last == kForEver) return;
    tell_missed(stream, life, "final", next, last);
    next = last + 1;
  }
}

// What went before the first connection is nothing missed.
void ResultFeed::note_past() {
  for (const std::string& stream : streams_) past_[stream] = latest_epoch(stream);
}

// After a lost connection: the finals since, and the streams that ended or began.
void ResultFeed::catch_up() {
  std::set<std::pair<std::string, std::int64_t>> there;
  try {
    const Json answer = ask({{"type", "list"}}, "list");
    for (const Json& stream : answer.at("streams"))
      there.emplace(stream.at("stream").get<std::string>(), stream.at("epoch").get<std::int64_t>());
  } catch (const ClientError&) {
    return;
  }
  std::erase_if(lives_, [](const auto& entry) { return entry.second.told; });
  for (auto& [stream, life] : lives_) recover(stream, life, kForEver);
  for (const std::string& stream : streams_) {
    const std::int64_t latest = latest_epoch(stream);
    const auto known = lives_.find(stream);
    if (latest <= (known != lives_.end() ? known->second.epoch : past_[stream])) continue;
    if (known != lives_.end()) end(stream, known->second);
    Life& life = lives_[stream] = {.epoch = latest, .whole = true};
    recover(stream, life, kForEver);
  }
  for (auto& [stream, life] : lives_) life.ended = !there.contains({stream, life.epoch});
}

// Of the latest life of that name; 0 if there was none, or nobody knows.
std::int64_t ResultFeed::latest_epoch(const std::string& stream) const {
  try {
    return ask({{"type", "history"}, {"stream", stream}, {"from", kForEver}, {"to", kForEver}}, "history")
        .at("epoch")
        .get<std::int64_t>();
  } catch (const ClientError&) {
    return 0;
  }
}

// Everything that came is taken: no `closed` among it.
void ResultFeed::tell_ended() {
  for (auto& [stream, life] : lives_)
    if (life.ended && !life.told) end(stream, life);
}

void ResultFeed::end(const std::string& stream, Life& life) {
  if (!std::exchange(life.told, true)) tell_missed(stream, life, "closed", 0, 0);
}

void ResultFeed::tell_missed(const std::string& stream, const Life& life, const std::string& kind,
                             std::int64_t first, std::int64_t last) {
  if (kinds_.contains(kind))
    ready_.push_back({{"type", "missed"},
                      {"stream", stream},
                      {"epoch", life.epoch},
                      {"kind", kind},
                      {"first", first},
                      {"last", last}});
}

}  // namespace sidewinder::clients
