#include "daemon/live/history.h"

#include <algorithm>
#include <iterator>
#include <limits>

namespace sidewinder::live {

void History::open(const std::string& stream, std::int64_t epoch, std::int64_t next) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[{stream, epoch}];
  std::erase(closed_, Key{stream, epoch});
  if (entry.next < next) entry.headers.clear();
  for (; entry.next > next && !entry.headers.empty(); --entry.next) entry.headers.pop_back();
  entry.next = next;
}

void History::add(const std::string& stream, std::int64_t epoch, const std::string& header) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[{stream, epoch}];
  entry.headers.push_back(header);
  ++entry.next;
  if (entry.headers.size() > finals_) entry.headers.pop_front();
}

void History::close(const std::string& stream, std::int64_t epoch) {
  std::lock_guard lock(mutex_);
  closed_.push_back({stream, epoch});
  for (; closed_.size() > closed_streams_; closed_.pop_front()) entries_.erase(closed_.front());
}

std::optional<History::Answer> History::ask(const std::string& stream, std::int64_t epoch, std::int64_t from,
                                            std::int64_t to) const {
  std::lock_guard lock(mutex_);
  auto found = entries_.end();
  if (epoch > 0) {
    found = entries_.find({stream, epoch});
  } else {
    auto after = entries_.upper_bound({stream, std::numeric_limits<std::int64_t>::max()});
    if (after != entries_.begin() && std::prev(after)->first.first == stream) found = std::prev(after);
  }
  if (found == entries_.end()) return std::nullopt;
  const Entry& entry = found->second;
  const std::int64_t oldest = entry.next - static_cast<std::int64_t>(entry.headers.size());
  Answer answer{
      .epoch = found->first.second, .first = std::max(from, oldest), .headers = {}, .next = entry.next};
  for (std::int64_t seq = answer.first; seq <= std::min(to, entry.next - 1); ++seq)
    answer.headers.push_back(entry.headers[static_cast<std::size_t>(seq - oldest)]);
  return answer;
}

}  // namespace sidewinder::live
