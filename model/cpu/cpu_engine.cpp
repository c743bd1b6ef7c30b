// The CPU engine. A step deals its streams out to a team of threads; each thread gathers rows of several
// streams into one tile, so that every weight is read once a tile, and runs the whole network on it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "model/capsule.h"
#include "model/cpu/encoder.h"
#include "model/cpu/front_end.h"
#include "model/engine.h"
#include "model/thread_team.h"

namespace sidewinder {
namespace cpu {
namespace {

// Rows a tile: enough to amortise reading the weights, few enough that activations stay in the second-level
// cache.
constexpr int kTileRows = 48;

int tile_rows(const ModelConfig& config) {
  return std::max(kTileRows, config.stem.lookahead);
}

int padded_vocab(const ModelConfig& config) {
  return (config.vocab_size + kLanes - 1) / kLanes * kLanes;
}

// Below any logit: what stands in the columns past the vocabulary.
constexpr float kNever = -1e30f;

class Head {
 public:
  Head(const ModelConfig& config, const Weights& weights)
      : vocab_(config.vocab_size),
        padded_(padded_vocab(config)),
        weight_(weights.tensor("ctc_head.weight")),
        bias_(weights.tensor("ctc_head.bias").to_floats()) {
    bias_.resize(static_cast<std::size_t>(padded_), 0.0f);
  }

  // logits: (rows, padded vocab), kNever in the columns past the vocabulary.
  void multiply(const float* x, int rows, float* logits) const noexcept {
    weight_.multiply(x, weight_.inputs(), rows, logits, padded_);
  }

  // Most likely token of one row and its log probability; log_probs (vocab) if not null.
  void read(float* logits, std::int32_t& token, float& score, float* log_probs) const noexcept {
    Packet most = splat(kNever);
    for (int c = 0; c < padded_; c += kLanes) {
      Packet value = ei::padd(load(logits + c), load(bias_.data() + c));
      store(logits + c, value);
      most = ei::pmax(most, value);
    }
    const float largest = ei::predux_max(most);
    Packet sum = splat(0.0f);
    for (int c = 0; c < padded_; c += kLanes)
      sum = ei::padd(sum, exp(ei::psub(load(logits + c), splat(largest))));
    const float log_sum = std::log(ei::predux(sum));
    token = 0;
    while (token + 1 < vocab_ && logits[token] != largest) ++token;
    score = -log_sum;
    if (log_probs == nullptr) return;
    for (int c = 0; c < vocab_; ++c) log_probs[c] = logits[c] - largest - log_sum;
  }

 private:
  int vocab_;
  int padded_;
  PackedMatrix weight_;
  std::vector<float> bias_;  // (padded vocab)
};

// Where a tile's rows go: which stream of the batch, and its frame.
struct Destination {
  std::size_t stream;
  std::uint32_t frame;  // of this step
};

// One thread's working memory.
struct Tile {
  explicit Tile(const ModelConfig& config)
      : capacity(tile_rows(config)),
        front_end(config, capacity),
        encoder(config, capacity),
        x(static_cast<std::size_t>(capacity) * config.d_model),
        encodings(x.size()),
        logits(static_cast<std::size_t>(capacity) * padded_vocab(config), kNever) {
    segments.reserve(static_cast<std::size_t>(capacity));
    destinations.reserve(static_cast<std::size_t>(capacity));
  }

  int capacity;
  int rows = 0;
  std::vector<Segment> segments;
  std::vector<Destination> destinations;  // one a segment
  FrontEnd::Scratch front_end;
  Encoder::Scratch encoder;
  std::vector<float> x;          // (capacity, d_model)
  std::vector<float> encodings;  // (capacity, d_model)
  std::vector<float> logits;     // (capacity, padded vocab)
};

class CpuEngine final : public Engine {
 public:
  CpuEngine(const Model& model, const EngineOptions& options)
      : config_(model.config),
        options_(options),
        hash_(model.hash),
        layout_(config_),
        front_end_(config_, model.weights, layout_),
        encoder_(config_, model.weights, layout_),
        head_(config_, model.weights),
        states_(options.slots * layout_.size),
        clocks_(options.slots),
        max_frames_(max_frames_per_step(config_, options)),
        tokens_(options.max_batch * max_frames_),
        scores_(tokens_.size()),
        log_probs_(options.want_log_probs ? tokens_.size() * config_.vocab_size : 0),
        encodings_(options.want_encodings ? tokens_.size() * config_.d_model : 0),
        padding_(config_.end_padding),
        shares_(options.threads + 1),
        team_(options.threads) {
    for (int i = 0; i < options.threads; ++i) tiles_.push_back(std::make_unique<Tile>(config_));
    model.weights.release_pages();
  }

  const char* name() const noexcept override { return "cpu"; }
  const ModelConfig& config() const noexcept override { return config_; }
  const ModelHash& model_hash() const noexcept override { return hash_; }
  const EngineOptions& options() const noexcept override { return options_; }

  void reset(std::uint32_t slot) noexcept override {
    std::fill_n(state(slot), layout_.size, 0.0f);
    clocks_[slot] = {};
  }

  void step(std::span<const StreamInput> batch, std::span<StreamOutput> out) noexcept override {
    batch_ = batch;
    out_ = out;
    share_out();
    team_.run([this](int member) { run_share(member); });
  }

  std::size_t capsule_bytes() const noexcept override { return capsule_size(layout_); }

  void save(std::uint32_t slot, std::span<std::byte> into) const noexcept override {
    std::span<std::byte> capsule = into.first(capsule_bytes());
    std::memcpy(capsule_floats(capsule).data(), states_.data() + slot * layout_.size,
                layout_.size * sizeof(float));
    seal_capsule(capsule, hash_, clocks_[slot]);
  }

  void load(std::uint32_t slot, std::span<const std::byte> capsule) override {
    StreamClock clock = open_capsule(capsule, layout_, hash_);
    std::memcpy(state(slot), capsule_floats(capsule).data(), layout_.size * sizeof(float));
    clocks_[slot] = clock;
  }

 private:
  float* state(std::uint32_t slot) { return states_.data() + slot * layout_.size; }

  // Cuts the batch into consecutive shares of about equal numbers of samples, one a thread.
  void share_out() noexcept {
    std::size_t total = 0, before = 0, member = 1;
    for (const StreamInput& input : batch_) total += input.samples.size() + 1;
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      before += batch_[i].samples.size() + 1;
      while (member < shares_.size() - 1 && before * (shares_.size() - 1) >= total * member)
        shares_[member++] = i + 1;
    }
    while (member < shares_.size()) shares_[member++] = batch_.size();
  }

  void run_share(int member) noexcept {
    Tile& tile = *tiles_[static_cast<std::size_t>(member)];
    for (std::size_t i = shares_[member]; i < shares_[member + 1]; ++i) run_stream(i, tile);
    if (tile.rows > 0) run_tile(tile);
  }

  void run_stream(std::size_t index, Tile& tile) noexcept {
    const StreamInput& input = batch_[index];
    StreamClock& clock = clocks_[input.slot];
    StreamOutput& out = out_[index];
    const std::size_t first = index * max_frames_;
    out.first_frame = front_end_.rows_given(clock);
    out.frames = 0;
    out.tokens = tokens_.data() + first;
    out.scores = scores_.data() + first;
    out.log_probs = log_probs_.empty() ? nullptr : log_probs_.data() + first * config_.vocab_size;
    out.encodings = encodings_.empty() ? nullptr : encodings_.data() + first * config_.d_model;
    if (clock.ended) return;
    feed(index, input.samples, tile);
    if (!input.end) return;
    feed(index, padding_, tile);
    if (tile.capacity - tile.rows < config_.stem.lookahead) run_tile(tile);
    add_rows(index, front_end_.flush(state(input.slot), clock, next_row(tile), tile.front_end), tile);
    clock.ended = 1;
  }

  void feed(std::size_t index, std::span<const float> samples, Tile& tile) noexcept {
    const std::uint32_t slot = batch_[index].slot;
    while (!samples.empty()) {
      if (tile.rows == tile.capacity) run_tile(tile);
      int rows = front_end_.advance(state(slot), clocks_[slot], samples, tile.capacity - tile.rows,
                                    next_row(tile), tile.front_end);
      add_rows(index, rows, tile);
    }
  }

  float* next_row(Tile& tile) noexcept {
    return tile.x.data() + static_cast<std::ptrdiff_t>(tile.rows) * config_.d_model;
  }

  void add_rows(std::size_t index, int rows, Tile& tile) noexcept {
    if (rows == 0) return;
    tile.segments.push_back({tile.rows, rows, state(batch_[index].slot)});
    tile.destinations.push_back({index, out_[index].frames});
    tile.rows += rows;
    out_[index].frames += static_cast<std::uint32_t>(rows);
  }

  void run_tile(Tile& tile) noexcept {
    for (int layer = 0; layer < encoder_.layers(); ++layer)
      encoder_.forward_layer(layer, tile.x.data(), tile.rows, tile.segments, tile.encoder);
    encoder_.normalise(tile.x.data(), tile.rows, tile.encodings.data());
    head_.multiply(tile.encodings.data(), tile.rows, tile.logits.data());
    for (std::size_t i = 0; i < tile.segments.size(); ++i)
      publish(tile, tile.segments[i], tile.destinations[i]);
    tile.rows = 0;
    tile.segments.clear();
    tile.destinations.clear();
  }

  void publish(Tile& tile, const Segment& segment, const Destination& to) noexcept {
    const std::size_t vocab = config_.vocab_size, d = config_.d_model;
    for (int i = 0; i < segment.rows; ++i) {
      const std::size_t row = segment.first_row + i, frame = to.stream * max_frames_ + to.frame + i;
      head_.read(tile.logits.data() + row * padded_vocab(config_), tokens_[frame], scores_[frame],
                 log_probs_.empty() ? nullptr : log_probs_.data() + frame * vocab);
      if (!encodings_.empty()) std::copy_n(tile.encodings.data() + row * d, d, encodings_.data() + frame * d);
    }
  }

  ModelConfig config_;
  EngineOptions options_;
  ModelHash hash_;
  StateLayout layout_;
  FrontEnd front_end_;
  Encoder encoder_;
  Head head_;
  std::vector<float> states_;                 // (slots, layout_.size)
  std::vector<StreamClock> clocks_;           // (slots)
  std::size_t max_frames_;                    // rows a stream in the outputs below
  std::vector<std::int32_t> tokens_;          // (max_batch, max_frames)
  std::vector<float> scores_;                 // (max_batch, max_frames)
  std::vector<float> log_probs_;              // (max_batch, max_frames, vocab), or empty
  std::vector<float> encodings_;              // (max_batch, max_frames, d_model), or empty
  std::vector<float> padding_;                // zeros
  std::vector<std::size_t> shares_;           // member m has streams shares_[m] to shares_[m + 1]
  std::vector<std::unique_ptr<Tile>> tiles_;  // one a member
  std::span<const StreamInput> batch_;        // during a step
  std::span<StreamOutput> out_;               // during a step
  ThreadTeam team_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Engine> make_cpu_engine(const Model& model, const EngineOptions& options) {
  check_options(options);
  return std::make_unique<cpu::CpuEngine>(model, options);
}

}  // namespace sidewinder
