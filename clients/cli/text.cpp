#include "clients/cli/text.h"

#include <algorithm>
#include <clocale>
#include <cwchar>

namespace sidewinder::clients {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr const char* kPlain = "\x1b[0m";

// The next code point; advances `at` past it.
char32_t decode(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at++);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xF0 && lead < 0xF8   ? 3
                   : lead >= 0xE0 && lead < 0xF0 ? 2
                                                 : lead >= 0xC2 && lead < 0xE0;
  if (more == 0) return kReplacement;
  char32_t point = lead & (0x3Fu >> more);
  for (int i = 0; i < more; ++i, ++at) {
    if (at >= text.size() || (byte(at) & 0xC0) != 0x80) return kReplacement;
    point = point << 6 | (byte(at) & 0x3Fu);
  }
  const char32_t smallest[] = {0, 0x80, 0x800, 0x10000};
  const bool valid = point >= smallest[more] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
  return valid ? point : kReplacement;
}

bool is_control(char32_t point) {
  const bool bidi = (point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
  return point < 0x20 || (point >= 0x7F && point < 0xA0) || bidi;
}

std::size_t columns_of(char32_t point) {
  static const bool ready = std::setlocale(LC_CTYPE, "C.UTF-8") != nullptr;  // for wcwidth
  if (!ready) return 1;
  return static_cast<std::size_t>(std::max(0, ::wcwidth(static_cast<wchar_t>(point))));
}

void append(Row& row, std::string_view text, const std::string& style) {
  if (text.empty()) return;
  row.columns += width(text);
  if (style != row.style) {
    if (!row.style.empty()) row.text += kPlain;
    if (!style.empty()) row.text.append("\x1b[").append(style).append("m");
    row.style = style;
  }
  row.text += text;
}

// The first code points of `text` that fit into `columns`; at least one.
std::string_view head(std::string_view text, std::size_t columns) {
  std::size_t end = 0;
  std::size_t used = 0;
  while (end < text.size()) {
    std::size_t next = end;
    used += columns_of(decode(text, next));
    if (used > columns && end > 0) break;
    end = next;
  }
  return text.substr(0, end);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t point = decode(text, at);
    if (point == kReplacement)
      result += "\xEF\xBF\xBD";
    else if (point == '\n' || point == '\t')
      result += ' ';
    else if (!is_control(point))
      result += text.substr(start, at - start);
  }
  return result;
}

std::size_t width(std::string_view text) {
  std::size_t columns = 0;
  for (std::size_t at = 0; at < text.size();) columns += columns_of(decode(text, at));
  return columns;
}

std::vector<Row> wrap(const Line& line, std::size_t columns, std::size_t indent) {
  columns = std::max<std::size_t>(columns, 1);
  if (indent + 8 > columns) indent = 0;
  std::vector<Row> rows(1);
  for (const Span& span : line) {
    std::string_view rest = span.text;
    while (!rest.empty()) {
      // A word with the spaces before it; at a row's start the spaces are left out.
      const std::size_t word = std::min(rest.find_first_not_of(' '), rest.size());
      std::string_view piece = rest.substr(0, std::min(rest.find(' ', word), rest.size()));
      rest.remove_prefix(piece.size());
      if (rows.back().columns + width(piece) > columns && rows.back().columns > indent) {
        rows.push_back({std::string(indent, ' '), indent});
        piece.remove_prefix(word);
      }
      while (rows.back().columns + width(piece) > columns && !piece.empty()) {  // longer than a row
        const std::string_view part = head(piece, columns - rows.back().columns);
        append(rows.back(), part, span.style);
        piece.remove_prefix(part.size());
        rows.push_back({std::string(indent, ' '), indent});
      }
      append(rows.back(), piece, span.style);
    }
  }
  for (Row& row : rows)
    if (!row.style.empty()) row.text += kPlain;
  return rows;
}

}  // namespace sidewinder::clients
