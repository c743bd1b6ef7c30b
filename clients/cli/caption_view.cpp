#include "clients/cli/caption_view.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace sidewinder::clients {
namespace {

constexpr const char* kDim = "2";
constexpr const char* kNameStyles[] = {"1;36", "1;33", "1;35", "1;32", "1;34", "1;31"};
// A terminal that knows it shows what is between at once.
constexpr const char* kBeginUpdate = "\x1b[?2026h";
constexpr const char* kEndUpdate = "\x1b[?2026l";

std::string text(const Json& event, const char* key) {
  return printable(event.at(key).get<std::string>());
}

std::int64_t integer(const Json& event, const char* key) {
  return event.at(key).get<std::int64_t>();
}

std::string with_unit(double seconds) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.1f s", seconds);
  return buffer;
}

// Readable text where the daemon makes it.
std::string shown_text(const Json& event, const char* key) {
  return text(event.contains("readable") ? event.at("readable") : event, key);
}

// A word that went on after a pause is marked.
std::string committed_text(const Json& event) {
  return (event.at("continues").get<bool>() ? "\xE2\x80\xA6" : "") + shown_text(event, "committed");
}

// What an event other than text says to people; empty: nothing.
std::string remark(const Json& event) {
  const auto type = event.at("type").get<std::string>();
  if (type == "opened")
    return "opened: " + std::to_string(integer(event, "rate")) + " Hz, " +
           (event.contains("file") ? text(event, "file") : text(event, "format"));
  if (type == "closed") return "closed: " + text(event, "message");
  if (type == "gap") {
    const auto samples = integer(event, "end_sample") - integer(event, "start_sample");
    return with_unit(static_cast<double>(samples) / event.at("rate").get<double>()) + " of audio missing";
  }
  if (type == "behind")
    return event.at("behind").get<bool>()
               ? "the daemon is " + with_unit(event.at("lag_ms").get<double>() / 1000) + " behind"
               : "the daemon has caught up";
  if (type != "missed") return "";
  const auto kind = event.at("kind").get<std::string>();
  if (kind == "closed") return "ended while the connection was lost";
  const auto count = integer(event, "last") - integer(event, "first") + 1;
  if (kind == "final") return std::to_string(count) + (count == 1 ? " segment" : " segments") + " missed";
  return "";
}

}  // namespace

std::string CaptionView::refresh(const std::string&, ScreenSize) {
  return "";
}

std::string JsonView::show(const Json& event) {
  return event.dump() + "\n";
}

std::string PlainView::show(const Json& event) {
  if (event.at("type") != "final") return "";
  return (named_ ? text(event, "stream") + ": " : "") + committed_text(event) + "\n";
}

std::string ScreenView::show(const Json& event) {
  const auto type = event.at("type").get<std::string>();
  Open& now = open(text(event, "stream"));
  Line line = prefix(now);
  if (type == "partial") {
    const std::string committed = committed_text(event);
    const std::string tentative = shown_text(event, "tentative");
    now.line.clear();
    if (committed.empty() && tentative.empty()) return "";
    if (!committed.empty()) line.push_back({committed + (tentative.empty() ? "" : " "), ""});
    line.push_back({tentative, kDim});
    now.line = std::move(line);
    return "";
  }
  if (type == "final") {
    now.line.clear();
    line.push_back({committed_text(event), ""});
    scrolled_.push_back(std::move(line));
    return "";
  }
  if (const std::string said = remark(event); !said.empty()) {
    line.push_back({named_ ? said : now.stream + " " + said, kDim});
    scrolled_.push_back(std::move(line));
  }
  if (type == "closed" || (type == "missed" && event.at("kind") == "closed"))
    std::erase_if(open_, [name = now.stream](const Open& one) { return one.stream == name; });
  return "";
}

std::string ScreenView::refresh(const std::string& status, ScreenSize size) {
  std::vector<Row> rows = live_rows(status, size);
  if (scrolled_.empty() && rows == shown_) return "";
  std::string out = kBeginUpdate + erase(size);
  for (const Line& line : scrolled_)
    for (const Row& row : rows_of(line, size)) out += row.text + "\r\n";
  scrolled_.clear();
  for (std::size_t i = 0; i < rows.size(); ++i) out += (i > 0 ? "\r\n" : "") + rows[i].text;
  shown_ = std::move(rows);
  return out + kEndUpdate;
}

std::string ScreenView::finish() {
  return shown_.empty() ? "" : "\r\n";
}

ScreenView::Open& ScreenView::open(const std::string& stream) {
  auto found =
      std::find_if(open_.begin(), open_.end(), [&](const Open& one) { return one.stream == stream; });
  if (found == open_.end())
    found = open_.insert(open_.end(), {stream, kNameStyles[streams_++ % std::size(kNameStyles)], {}});
  return *found;
}

Line ScreenView::prefix(const Open& one) const {
  return named_ ? Line{{one.stream + "  ", one.style}} : Line{};
}

// Text stands in a column of its own beside the name.
std::vector<Row> ScreenView::rows_of(const Line& line, ScreenSize size) const {
  return wrap(line, size.columns, named_ ? width(line.front().text) : 0);
}

// The open segments, or why nothing comes, in as many rows as the screen has.
std::vector<Row> ScreenView::live_rows(const std::string& status, ScreenSize size) const {
  std::vector<std::vector<Row>> blocks;
  for (const Open& one : open_)
    if (!one.line.empty()) blocks.push_back(rows_of(one.line, size));
  if (!status.empty())
    blocks.push_back(wrap({{printable(status), kDim}}, size.columns, 0));
  else if (blocks.empty() && !open_.empty())
    blocks.push_back(wrap({{"\xE2\x80\xA6", kDim}}, size.columns, 0));
  const std::size_t most = std::max<std::size_t>(size.rows, 2) - 1;
  std::size_t total = 0;
  for (const auto& block : blocks) total += block.size();
  // Too many: the newest rows of each, as long as there is one for each.
  const std::size_t each = total <= most ? most : std::max<std::size_t>(most / blocks.size(), 1);
  std::vector<Row> rows;
  for (const auto& block : blocks) {
    const std::size_t count = std::min({block.size(), each, most - rows.size()});
    rows.insert(rows.end(), block.end() - static_cast<std::ptrdiff_t>(count), block.end());
  }
  return rows;
}

// Back to where the live rows begin. A terminal made narrower has broken them into more.
std::string ScreenView::erase(ScreenSize size) const {
  std::size_t rows = 0;
  for (const Row& row : shown_)
    rows += std::max<std::size_t>((row.columns + size.columns - 1) / size.columns, 1);
  std::string out = "\r";
  if (rows > 1) out += "\x1b[" + std::to_string(rows - 1) + "A";
  return out + "\x1b[J";
}

}  // namespace sidewinder::clients
