// What advances streams: samples in, tokens out, for any subset of the slots a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "model/config.h"
#include "model/state_layout.h"
#include "model/weights.h"

namespace sidewinder {

// Fixed at construction; an engine allocates everything then and nothing after.
struct EngineOptions {
  std::uint32_t slots = 1;        // streams that can be alive at once
  std::uint32_t max_batch = 1;    // streams in one step, at most `slots`
  std::uint32_t max_samples = 0;  // samples a stream in one step, at the model's rate; at least 1
  int threads = 1;                // CPU engine: the caller's thread and threads - 1 more
  bool want_log_probs = false;    // fill StreamOutput::log_probs
  bool want_encodings = false;    // fill StreamOutput::encodings
};

// One stream's share of a step.
struct StreamInput {
  std::uint32_t slot = 0;
  std::span<const float>
      samples;       // mono in [-1, 1] at the model's rate; any length up to max_samples, also none
  bool end = false;  // the stream ends behind these samples: pad, and let lookahead run out
};

// What came out for one stream. Pointers are the engine's and valid until its next call.
struct StreamOutput {
  std::int64_t first_frame = 0;  // encoder frame of row 0, counted from the stream's start
  std::uint32_t frames = 0;
  const std::int32_t* tokens = nullptr;  // (frames): most likely token, the lower id of equals
  const float* scores = nullptr;         // (frames): natural log of that token's probability
  const float* log_probs = nullptr;      // (frames, vocab_size), or null when not asked for
  const float* encodings = nullptr;      // (frames, d_model) after the final norm, or null when not asked for
};

// One engine, one model. Thread rule: one caller at a time. For one engine the output depends on nothing but
// the stream's own samples: the same bits whatever the chunk sizes, batch, slot, order or number of threads.
class Engine {
 public:
  virtual ~Engine() = default;

  virtual const char* name() const noexcept = 0;  // "cpu" or "cuda"
  virtual const ModelConfig& config() const noexcept = 0;
  virtual const ModelHash& model_hash() const noexcept = 0;
  virtual const EngineOptions& options() const noexcept = 0;

  // Devices that share the slots: slot s lives on device s % devices(). A SlotPool spreads streams over them.
  virtual std::uint32_t devices() const noexcept { return 1; }

  // Makes the slot a stream that has heard nothing.
  virtual void reset(std::uint32_t slot) noexcept = 0;

  // Advances exactly the listed slots. Preconditions: batch.size() <= max_batch, out.size() >= batch.size(),
  // no slot twice, samples finite and at most max_samples each. A stream that has ended gives no frames until
  // reset.
  virtual void step(std::span<const StreamInput> batch, std::span<StreamOutput> out) noexcept = 0;

  // Empty while the engine works. Afterwards (a lost device, say) one line about why: from then on step()
  // gives no frames, save() nothing of use, and the engine must be given up. By the caller of step().
  virtual std::string_view failure() const noexcept { return {}; }

  // The state of a slot as a capsule: a header (magic, version, model's hash, sample clock, checksum) and the
  // floats of StateLayout. `into` holds capsule_bytes().
  virtual std::size_t capsule_bytes() const noexcept = 0;
  virtual void save(std::uint32_t slot, std::span<std::byte> into) const noexcept = 0;

  // Throws ModelError, and leaves the slot as it was, when the capsule is damaged or another model's.
  virtual void load(std::uint32_t slot, std::span<const std::byte> capsule) = 0;
};

// Encoder frames that one stream can give in one step, for the caller's and the engines' buffers.
std::int64_t max_frames_per_step(const ModelConfig& config, const EngineOptions& options);

// Throws std::invalid_argument when an option is out of range.
void check_options(const EngineOptions& options);

// Packs the model's weights; `model` is not needed afterwards. Throws std::invalid_argument or ModelError.
std::unique_ptr<Engine> make_cpu_engine(const Model& model, const EngineOptions& options);

}  // namespace sidewinder
