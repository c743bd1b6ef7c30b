// The last finals of each stream, for subscribers that missed some.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sidewinder::live {

// Any thread.
class History {
 public:
  // So many finals a stream, and so many streams after they were closed.
  History(std::size_t finals, std::size_t closed_streams)
      : finals_(finals), closed_streams_(closed_streams) {}

  // `next`: seq of its next final, above 0 for a stream that goes on. What is kept from there on is
  // forgotten.
  void open(const std::string& stream, std::int64_t epoch, std::int64_t next = 0);
  // Their seq counts from 0. `header` is the JSON as published.
  void add(const std::string& stream, std::int64_t epoch, const std::string& header);
  void close(const std::string& stream, std::int64_t epoch);

  struct Answer {
    std::int64_t epoch = 0;
    std::int64_t first = 0;            // seq of headers[0]
    std::vector<std::string> headers;  // those asked for that are kept
    std::int64_t next = 0;             // seq that the stream's next final will have
  };
  // `epoch` 0: the latest of that name. Nothing for a stream that is not known (any more).
  std::optional<Answer> ask(const std::string& stream, std::int64_t epoch, std::int64_t from,
                            std::int64_t to) const;

 private:
  using Key = std::pair<std::string, std::int64_t>;
  struct Entry {
    std::deque<std::string> headers;
    std::int64_t next = 0;
  };

  const std::size_t finals_;
  const std::size_t closed_streams_;
  mutable std::mutex mutex_;
  std::map<Key, Entry> entries_;
  std::deque<Key> closed_;  // oldest first
};

}  // namespace sidewinder::live
