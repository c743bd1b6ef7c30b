// How `sidewinder listen` shows results: as JSON, as plain lines, or as captions on a terminal.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "clients/cli/text.h"
#include "clients/cli/wire.h"

namespace sidewinder::clients {

struct ScreenSize {
  std::size_t columns = 80;
  std::size_t rows = 24;
};

// Thread rule: one thread. Nothing is written here: what is returned goes to standard output.
class CaptionView {
 public:
  virtual ~CaptionView() = default;
  virtual std::string show(const Json& event) = 0;

  // After a batch of events, and when `status` or the size of the screen changed. `status` is why nothing
  // comes, or empty.
  virtual std::string refresh(const std::string& status, ScreenSize size);

  virtual std::string finish() { return ""; }
};

// A line of JSON an event, as it came.
class JsonView : public CaptionView {
 public:
  std::string show(const Json& event) override;
};

// A line a final, after the stream's name if `named`.
class PlainView : public CaptionView {
 public:
  explicit PlainView(bool named) : named_(named) {}
  std::string show(const Json& event) override;

 private:
  bool named_;
};

// Finals scroll; below them stand the open segments, redrawn in place, with what may still change dimmed.
class ScreenView : public CaptionView {
 public:
  explicit ScreenView(bool named) : named_(named) {}
  std::string show(const Json& event) override;
  std::string refresh(const std::string& status, ScreenSize size) override;
  std::string finish() override;

 private:
  // A stream that is there.
  struct Open {
    std::string stream;
    const char* style;  // of its name
    Line line;          // empty: nothing said yet
  };

  Open& open(const std::string& stream);
  Line prefix(const Open& one) const;
  std::vector<Row> rows_of(const Line& line, ScreenSize size) const;
  std::vector<Row> live_rows(const std::string& status, ScreenSize size) const;
  std::string erase(ScreenSize size) const;

  bool named_;
  std::size_t streams_ = 0;  // so far
  std::vector<Open> open_;
  std::vector<Line> scrolled_;  // not yet written
  std::vector<Row> shown_;      // the live rows on the screen
};

}  // namespace sidewinder::clients
