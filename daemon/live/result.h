// What the scheduler tells the publisher: values only, no pointer into a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "daemon/live/readout.h"
#include "daemon/live/stream_capsule.h"
#include "daemon/live/stream_info.h"

namespace sidewinder::live {

struct LoadedModel;

enum class EndReason { Client, End, Idle, Control, Shutdown, Saved, SourceFailed };
enum class GapReason { Client, Source, Engine };

struct OpenedBody {
  StreamInfo info;
  LoadedModel* model = nullptr;               // that it is on
  std::unique_ptr<StreamCapsule> restored{};  // what it goes on from; null for a stream that begins
};
struct PartialBody {
  Segment segment;
  std::string tentative;
};
struct FinalBody {
  Segment segment;
};
struct GapBody {
  GapReason reason = GapReason::Client;
};
struct LevelBody {
  double rms = 0;  // full scale is 1
  double peak = 0;
};
struct BehindBody {
  bool behind = false;
};
struct EncodingsBody {
  std::int64_t first_frame = 0;
  std::uint32_t frames = 0;
  std::vector<float> values;  // (frames, d_model)
};
struct FlushedBody {  // goes to the ingest client, not to subscribers
  std::uint64_t token = 0;
};
struct SavedBody {  // goes to control, not to subscribers
  std::unique_ptr<StreamSave> save;
};
struct MovedBody {  // to nobody: results from here on are this model's
  LoadedModel* model = nullptr;
};
struct ReleasedBody {  // through ingest to who owns the models: no stream is on it any more, nor will be
  LoadedModel* model = nullptr;
};
struct ClosedBody {
  EndReason reason = EndReason::Client;
  std::string message;
};

struct Result {
  std::uint32_t slot = 0;        // of its stream
  std::int64_t segment = 0;      // number of the open one; for a final, its own
  std::int64_t begin = 0;        // what it covers, at the source's rate
  std::int64_t end = 0;          // exclusive
  std::int64_t model_begin = 0;  // the same at the model's rate
  std::int64_t model_end = 0;
  std::int64_t accepted_ns = 0;    // when the last sample it rests on was accepted (clock.h)
  std::int64_t step_begin_ns = 0;  // of the engine, for a text
  std::int64_t step_end_ns = 0;
  std::int64_t queued_ns = 0;  // when the result was made
  std::variant<OpenedBody, PartialBody, FinalBody, GapBody, LevelBody, BehindBody, EncodingsBody, FlushedBody,
               SavedBody, MovedBody, ReleasedBody, ClosedBody>
      body;
};

}  // namespace sidewinder::live
