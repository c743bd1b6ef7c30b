// Audio that the daemon fetches by itself: files and capture devices.
#pragma once

#include "daemon/live/result.h"

namespace sidewinder::live {

// The producer of one stream, on a thread of its own from opening to the stream's end. Destroying it is
// stop(), and waits for the thread.
class Source {
 public:
  virtual ~Source() = default;
  Source() = default;
  Source(const Source&) = delete;

  // Any thread:
  virtual void stop() = 0;            // ends the stream (shutdown) at what was read so far
  virtual void look() = 0;            // the stream may have been asked to end
  virtual bool finished() const = 0;  // has ended its stream
  virtual const StreamInfo& info() const = 0;
};

}  // namespace sidewinder::live
