// Text on a terminal: columns, not bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sidewinder::clients {

// UTF-8 without control characters (no escape sequence from elsewhere reaches the terminal); bytes that are
// not UTF-8 become U+FFFD.
std::string printable(std::string_view text);

// Columns that printable text takes.
std::size_t width(std::string_view text);

// A piece of a line in one style: SGR parameters such as "2" (dim), or none.
struct Span {
  std::string text;  // printable
  std::string style;
};
using Line = std::vector<Span>;

// What stands in one row of the screen.
struct Row {
  std::string text;  // with escape sequences
  std::size_t columns = 0;
  std::string style{};  // of its end

  bool operator==(const Row&) const = default;
};

// A line as rows of at most `columns` columns, broken between words where that is possible. Rows after the
// first are indented.
std::vector<Row> wrap(const Line& line, std::size_t columns, std::size_t indent);

}  // namespace sidewinder::clients
