// The CUDA engine's host side. A step is cut into waves; each wave's samples are packed into pinned memory,
// uploaded in one copy and taken through the network, while the next one is packed. Waves take turns on a few
// lanes (a CUDA stream with its own activations), so that uploads, products and the memory-bound kernels of
// different waves overlap. Small steps replay a captured graph.
#include "kernels/cuda_engine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "kernels/cuda_check.h"
#include "kernels/network.h"
#include "kernels/pack_samples.h"
#include "kernels/packed_model.h"
#include "kernels/wave_plan.h"
#include "model/capsule.h"
#include "model/error.h"
#include "model/thread_team.h"

namespace sidewinder {
namespace cuda {
namespace {

constexpr int kMostLanes = 4;
// Rows of a wave: measured on an H200, 64 cost 7 % more for 65,536 streams, and 256 10 % more for 4,096,
// which then are too few waves to overlap.
constexpr int kRowsPerMultiprocessor = 128;
// Rows of one stream in a wave, at least: fewer would read and write its state too often.
constexpr std::int32_t kLeastSlice = 32;
// Below this many samples waking the packing threads costs more than it saves.
constexpr std::int64_t kPackAlone = 32'768;
// Left free for the driver when slots are fitted to memory.
constexpr std::size_t kMemoryMargin = std::size_t{512} << 20;
constexpr std::array<std::int32_t, 4> kGraphRows = {16, 64, 256, 1'024};

template <typename Number>
Number round_up(Number value, Number multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// What an engine will allocate, worked out before anything is.
struct Sizes {
  WaveLimits limits;
  std::size_t frames;       // of a step's outputs
  std::size_t input_bytes;  // a wave's counts, segments and PCM
  std::size_t output_bytes;
  std::size_t log_prob_bytes;
  std::size_t encoding_bytes;
  std::size_t state_bytes;
  std::size_t workspace_bytes;  // a lane
  std::size_t weight_bytes;
  std::size_t total;
};

Sizes plan_sizes(const PackedModel& model, const EngineOptions& options, const CudaOptions& cuda,
                 int multiprocessors) {
  const ModelConfig& config = model.config;
  Sizes sizes{};
  const std::int64_t frames = max_frames_per_step(config, options);
  const std::int64_t wanted = std::min<std::int64_t>(frames * options.max_batch, 1 << 24);
  std::int64_t rows = cuda.wave_rows != 0 ? cuda.wave_rows : kRowsPerMultiprocessor * multiprocessors;
  rows = std::min(round_up<std::int64_t>(rows, 64),
                  round_up<std::int64_t>(wanted + config.stem.lookahead + 1, 64));
  rows = std::max<std::int64_t>(rows, round_up(config.stem.lookahead + 1, 64));
  sizes.limits.rows = static_cast<std::int32_t>(rows);
  sizes.limits.segments = static_cast<std::int32_t>(std::min<std::int64_t>(rows, options.max_batch));
  sizes.limits.stem_rows = sizes.limits.rows + 2 * sizes.limits.segments + config.stem.lookahead;
  sizes.limits.samples = config.frame_hop() * (rows + config.stem.lookahead + 8) +
                         config.frame_hop() / 2 * static_cast<std::int64_t>(sizes.limits.segments);
  sizes.frames = static_cast<std::size_t>(frames) * options.max_batch;
  sizes.input_bytes = sizeof(WaveCounts) + sizes.limits.segments * sizeof(WaveSegment) +
                      static_cast<std::size_t>(sizes.limits.samples) * sizeof(float);
  sizes.output_bytes = 2 * round_up<std::size_t>(sizes.frames, 16) * sizeof(std::int32_t);
  sizes.log_prob_bytes = options.want_log_probs ? sizes.frames * config.vocab_size * sizeof(float) : 0;
  sizes.encoding_bytes = options.want_encodings ? sizes.frames * config.d_model * sizeof(float) : 0;
  sizes.state_bytes = options.slots * StateLayout(config).size * sizeof(float);
  sizes.workspace_bytes = Workspace::bytes(model, sizes.limits);
  sizes.weight_bytes = model.bytes.size();
  sizes.total = sizes.state_bytes + sizes.weight_bytes + sizes.output_bytes + sizes.log_prob_bytes +
                sizes.encoding_bytes + cuda.lanes * (sizes.workspace_bytes + sizes.input_bytes);
  return sizes;
}

std::string gigabytes(std::size_t bytes) {
  std::string text = std::to_string(static_cast<double>(bytes) / 1e9);
  return text.substr(0, text.find('.') + 3) + " GB";
}

void check_cuda_options(const CudaOptions& cuda) {
  if (cuda.lanes < 1 || cuda.lanes > kMostLanes)
    throw std::invalid_argument("cuda options: lanes must be from 1 to " + std::to_string(kMostLanes));
  if (cuda.wave_rows > (1u << 20))
    throw std::invalid_argument("cuda options: wave_rows must be at most 2^20");
}

int multiprocessors_of(int device) {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
        "asking for the multiprocessors");
  return count;
}

// Throws std::runtime_error unless the device works for us; makes it the thread's current one.
void use_device(int device) {
  if (std::string reason = cuda_unavailable_reason(device); !reason.empty())
    throw std::runtime_error("cuda engine: " + reason);
  check(cudaSetDevice(device), "choosing the device");
}

// CUDA handles with owners.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "making a stream"); }
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(const Stream&) = delete;
  operator cudaStream_t() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

class Event {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) {
    check(cudaEventCreateWithFlags(&handle_, flags), "making an event");
  }
  ~Event() { cudaEventDestroy(handle_); }
  Event(const Event&) = delete;
  operator cudaEvent_t() const { return handle_; }

 private:
  cudaEvent_t handle_ = nullptr;
};

// A captured wave for every wave within its bounds.
struct Graph {
  WaveFill bounds;
  cudaGraphExec_t exec = nullptr;
  ~Graph() {
    if (exec != nullptr) cudaGraphExecDestroy(exec);
  }
  bool covers(const WaveFill& fill) const {
    return fill.segments <= bounds.segments && fill.rows <= bounds.rows &&
           fill.stem_rows <= bounds.stem_rows && fill.segment_features <= bounds.segment_features &&
           fill.segment_rows <= bounds.segment_rows;
  }
};

// What one wave in flight needs.
struct Lane {
  Lane(const PackedModel& model, const Sizes& sizes)
      : staging(sizes.input_bytes),
        input(sizes.input_bytes),
        workspace(model, sizes.limits),
        sources(static_cast<std::size_t>(sizes.limits.segments)) {
    counts()->pcm = sizeof(WaveCounts);
  }

  WaveCounts* counts() { return staging.as<WaveCounts>(); }
  WaveSegment* segments() { return reinterpret_cast<WaveSegment*>(counts() + 1); }

  Stream stream;
  Event uploaded;  // staging may be written again
  Event finished;
  PinnedMemory staging;  // WaveCounts, (segments) WaveSegment, PCM
  DeviceMemory input;    // the same
  Workspace workspace;
  WaveFill fill;
  std::vector<const float*> sources;  // (segments): where each segment's samples come from
};

// Times groups of kernels with an event after each.
class GroupTimer final : public GroupListener {
 public:
  void begin(cudaStream_t stream) { mark(stream, nullptr); }
  void after(const char* group, cudaStream_t stream) override { mark(stream, group); }

  // Adds the time of everything marked to `times`; waits for it.
  void collect(std::vector<CudaKernelTime>& times) {
    for (std::size_t i = 1; i < used_; ++i) {
      if (groups_[i] == nullptr) continue;
      check(cudaEventSynchronize(*events_[i]), "waiting for a kernel");
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, *events_[i - 1], *events_[i]), "timing a kernel");
      auto found = std::find_if(times.begin(), times.end(), [&](const CudaKernelTime& time) {
        return std::strcmp(time.group, groups_[i]) == 0;
      });
      if (found == times.end()) found = times.insert(times.end(), CudaKernelTime{groups_[i], 0, 0, 0});
      found->milliseconds += static_cast<double>(milliseconds);
    }
    used_ = 0;
  }

 private:
  void mark(cudaStream_t stream, const char* group) {
    if (used_ == events_.size()) {
      events_.push_back(std::make_unique<Event>(cudaEventDefault));
      groups_.push_back(nullptr);
    }
    groups_[used_] = group;
    check(cudaEventRecord(*events_[used_++], stream), "recording an event");
  }

  std::vector<std::unique_ptr<Event>> events_;
  std::vector<const char*> groups_;
  std::size_t used_ = 0;
};

class CudaEngine final : public Engine {
 public:
  CudaEngine(const Model& model, const EngineOptions& options, const CudaOptions& cuda)
      : CudaEngine(pack_model(model, cuda.precision), model.hash, options, cuda) {}

  ~CudaEngine() override {
    cudaSetDevice(cuda_.device);
    for (const std::unique_ptr<Lane>& lane : lanes_) cudaStreamSynchronize(lane->stream);
  }

  const char* name() const noexcept override { return "cuda"; }
  const ModelConfig& config() const noexcept override { return config_; }
  const ModelHash& model_hash() const noexcept override { return hash_; }
  const EngineOptions& options() const noexcept override { return options_; }

  void reset(std::uint32_t slot) noexcept override {
    clocks_[slot] = {};
    guarded([&] {
      check(cudaMemsetAsync(state(slot), 0, slot_bytes(), lanes_[0]->stream), "clearing a slot");
      states_touched_ = true;
    });
  }

  void step(std::span<const StreamInput> batch, std::span<StreamOutput> out) noexcept override {
    if (!guarded([&] { run_step(batch, out); }))
      for (std::size_t i = 0; i < batch.size(); ++i) out[i].frames = 0;
  }

  std::size_t capsule_bytes() const noexcept override { return capsule_size(layout_); }

  void save(std::uint32_t slot, std::span<std::byte> into) const noexcept override {
    std::span<std::byte> capsule = into.first(capsule_bytes());
    guarded([&] {
      const Lane& lane = *lanes_[0];
      check(cudaMemcpyAsync(capsule_floats(capsule).data(), state(slot), slot_bytes(), cudaMemcpyDeviceToHost,
                            lane.stream),
            "reading a slot");
      check(cudaStreamSynchronize(lane.stream), "reading a slot");
    });
    seal_capsule(capsule, hash_, clocks_[slot]);
  }

  void load(std::uint32_t slot, std::span<const std::byte> capsule) override {
    const StreamClock clock = open_capsule(capsule, layout_, hash_);
    const bool worked = guarded([&] {
      const Lane& lane = *lanes_[0];
      check(cudaMemcpyAsync(state(slot), capsule_floats(capsule).data(), slot_bytes(), cudaMemcpyHostToDevice,
                            lane.stream),
            "writing a slot");
      check(cudaStreamSynchronize(lane.stream), "writing a slot");
    });
    if (!worked) throw std::runtime_error("cuda engine: " + failure_);
    clocks_[slot] = clock;
  }

  CudaEngineStats stats() const { return stats_; }
  std::string_view failure() const noexcept override { return failure_; }

  std::vector<CudaKernelTime> profile(std::span<const StreamInput> batch, std::span<StreamOutput> out) {
    GroupTimer timer;
    timer_ = &timer;
    times_.clear();
    const std::uint64_t waves = stats_.waves;
    profiled_ = {};
    step(batch, out);
    timer_ = nullptr;
    for (CudaKernelTime& time : times_) count_work(time, static_cast<double>(stats_.waves - waves));
    return times_;
  }

 private:
  CudaEngine(const PackedModel& model, const ModelHash& hash, const EngineOptions& options,
             const CudaOptions& cuda)
      : config_(model.config),
        options_(options),
        cuda_(cuda),
        hash_(hash),
        layout_(config_),
        multiprocessors_(multiprocessors_of(cuda.device)),
        sizes_(checked_sizes(model)),
        precision_bytes_(cuda.precision == CudaPrecision::Float32 ? 4 : 2),
        narrow_bytes_(cuda.precision == CudaPrecision::Float8 ? 1 : precision_bytes_),
        planner_(config_, sizes_.limits.rows, sizes_.limits.segments, sizes_.limits.stem_rows,
                 sizes_.limits.samples),
        network_(make_network(model, layout_, cuda)),
        states_(sizes_.state_bytes),
        results_(sizes_.output_bytes),
        log_probs_(sizes_.log_prob_bytes),
        encodings_(sizes_.encoding_bytes),
        host_results_(sizes_.output_bytes),
        host_log_probs_(sizes_.log_prob_bytes),
        host_encodings_(sizes_.encoding_bytes),
        clocks_(options.slots),
        packed_well_(static_cast<std::size_t>(options.threads)),
        team_(options.threads) {
    active_.reserve(options.max_batch);
    for (int i = 0; i < cuda.lanes; ++i) lanes_.push_back(std::make_unique<Lane>(model, sizes_));
    outputs_ = {results_.as<std::int32_t>(), log_probs_.as<float>(), encodings_.as<float>()};
    warm_up();
    if (cuda.graphs) capture_graphs();
    check(cudaDeviceSynchronize(), "warming up");
    stats_ = {};
    stats_.device_bytes = sizes_.total;
    stats_.wgmma = network_->products().wgmma;
  }

  // Refuses, with the figures, what won't fit.
  Sizes checked_sizes(const PackedModel& model) const {
    const Sizes sizes = plan_sizes(model, options_, cuda_, multiprocessors_);
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for free memory");
    if (sizes.total > free)
      throw std::runtime_error(
          "cuda engine: " + std::to_string(options_.slots) + " slots need " + gigabytes(sizes.total) +
          " of device memory (" + gigabytes(sizes.state_bytes) + " for the streams' state, the rest for " +
          "weights and waves), but " + gigabytes(free) + " of " + gigabytes(total) + " are free on device " +
          std::to_string(cuda_.device) + "; ask for fewer slots, a smaller max_batch or fewer wave_rows");
    return sizes;
  }

  // Runs `work`; after the first CUDA error nothing runs any more. False when it did not run through.
  template <typename Work>
  bool guarded(Work&& work) const noexcept {
    if (!failure_.empty()) return false;
    try {
      check(cudaSetDevice(cuda_.device), "choosing the device");
      work();
      return true;
    } catch (const std::exception& error) {
      failure_ = error.what();
      return false;
    }
  }

  float* state(std::uint32_t slot) const { return states_.as<float>() + slot * layout_.size; }
  std::size_t slot_bytes() const { return layout_.size * sizeof(float); }

  void run_step(std::span<const StreamInput> batch, std::span<StreamOutput> out) {
    batch_ = batch;
    ++stats_.steps;
    const std::int32_t frames = open_step(batch, out);
    step_scores_ = round_up(frames, 16);
    if (states_touched_) join_lanes();
    states_touched_ = false;
    std::size_t lane = 0;
    while (!active_.empty()) {
      // A round takes every stream at most once, so that its waves may run side by side.
      const std::int64_t share = sizes_.limits.rows / static_cast<std::int64_t>(active_.size());
      const std::int32_t slice = std::max(kLeastSlice, static_cast<std::int32_t>(share));
      Lane* current = nullptr;
      for (Cursor& cursor : active_) {
        if (current == nullptr) current = &open_wave(lane);
        if (!add(*current, cursor, slice)) {
          launch(*current, lane);
          lane = (lane + 1) % used_lanes();
          current = &open_wave(lane);
          add(*current, cursor, slice);
        }
      }
      launch(*current, lane);
      lane = (lane + 1) % used_lanes();
      std::erase_if(active_, [](const Cursor& cursor) { return cursor.done(); });
      if (!active_.empty()) join_lanes();
    }
    fetch(frames);
  }

  std::size_t used_lanes() const { return timer_ != nullptr ? 1 : lanes_.size(); }

  // Says where each stream's frames will be, and lists the streams with something to do. Returns the frames.
  std::int32_t open_step(std::span<const StreamInput> batch, std::span<StreamOutput> out) {
    active_.clear();
    std::int32_t frames = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const StreamClock& clock = clocks_[batch[i].slot];
      const std::int64_t before = rows_given(config_, clock);
      Cursor cursor{};
      cursor.stream = static_cast<std::uint32_t>(i);
      cursor.next_out = frames;
      if (!clock.ended) {
        cursor.end = batch[i].end;
        cursor.given = static_cast<std::int64_t>(batch[i].samples.size());
        cursor.total = cursor.given + (cursor.end ? config_.end_padding : 0);
      }
      const StreamClock later{clock.samples + cursor.total, clock.ended != 0 || cursor.end ? 1 : 0};
      out[i] = {};
      out[i].first_frame = before;
      out[i].frames = static_cast<std::uint32_t>(rows_given(config_, later) - before);
      out[i].tokens = host_results_.as<std::int32_t>() + frames;
      if (log_probs_.bytes() > 0)
        out[i].log_probs =
            host_log_probs_.as<float>() + static_cast<std::int64_t>(frames) * config_.vocab_size;
      if (encodings_.bytes() > 0)
        out[i].encodings = host_encodings_.as<float>() + static_cast<std::int64_t>(frames) * config_.d_model;
      frames += static_cast<std::int32_t>(out[i].frames);
      if (!cursor.done()) active_.push_back(cursor);
    }
    for (std::size_t i = 0; i < batch.size(); ++i)
      out[i].scores = reinterpret_cast<const float*>(out[i].tokens + round_up(frames, 16));
    return frames;
  }

  Lane& open_wave(std::size_t index) {
    Lane& lane = *lanes_[index];
    check(cudaEventSynchronize(lane.uploaded), "waiting for an upload");
    lane.fill = {};
    return lane;
  }

  bool add(Lane& lane, Cursor& cursor, std::int32_t slice) {
    const StreamInput& input = batch_[cursor.stream];
    const std::int64_t taken = cursor.taken;
    const std::size_t index = static_cast<std::size_t>(lane.fill.segments);
    if (!planner_.add(cursor, clocks_[input.slot], input.slot, slice, lane.fill, lane.segments()[index]))
      return false;
    lane.sources[index] = input.samples.data() + std::min(taken, cursor.given);
    return true;
  }

  // Packs the lane's wave, uploads it and queues the network behind it.
  void launch(Lane& lane, std::size_t index) {
    if (lane.fill.segments == 0) return;
    const bool whole = pack(lane);
    WaveCounts& counts = *lane.counts();
    counts.segments = lane.fill.segments;
    counts.rows = lane.fill.rows;
    counts.stem_rows = lane.fill.stem_rows;
    counts.conv1_rows = 2 * lane.fill.stem_rows;
    counts.float_pcm = whole ? 0 : 1;
    counts.scores = step_scores_;
    const std::size_t bytes =
        static_cast<std::size_t>(counts.pcm) + static_cast<std::size_t>(lane.fill.samples) * (whole ? 2 : 4);
    check(cudaMemcpyAsync(lane.input.as<void>(), lane.staging.as<void>(), bytes, cudaMemcpyHostToDevice,
                          lane.stream),
          "uploading a wave");
    check(cudaEventRecord(lane.uploaded, lane.stream), "recording an event");
    ++stats_.waves;
    stats_.float_waves += whole ? 0 : 1;
    stats_.uploaded_bytes += bytes;
    const Graph* graph = index == 0 && timer_ == nullptr ? graph_for(lane.fill) : nullptr;
    if (graph != nullptr) {
      ++stats_.graph_waves;
      check(cudaGraphLaunch(graph->exec, lane.stream), "replaying a graph");
      return;
    }
    if (timer_ != nullptr) timer_->begin(lane.stream);
    queue(lane, lane.fill, timer_);
    if (timer_ != nullptr) {
      timer_->collect(times_);
      profiled_.rows += lane.fill.rows;
      profiled_.segments += lane.fill.segments;
      profiled_.stem_rows += lane.fill.stem_rows;
      profiled_.samples += lane.fill.samples;
    }
  }

  const Graph* graph_for(const WaveFill& fill) const {
    for (const std::unique_ptr<Graph>& graph : graphs_)
      if (graph->covers(fill)) return graph.get();
    return nullptr;
  }

  // Queues the network for the lane's wave, with grids for up to `most`.
  void queue(const Lane& lane, const WaveFill& most, GroupListener* listener) const {
    DeviceWave wave;
    wave.counts = lane.input.as<WaveCounts>();
    wave.segments = reinterpret_cast<const WaveSegment*>(wave.counts + 1);
    wave.states = states_.as<float>();
    wave.state_size = static_cast<std::int64_t>(layout_.size);
    wave.most_segments = most.segments;
    wave.most_rows = std::max(most.rows, 1);
    wave.most_stem_rows = most.stem_rows;
    wave.most_segment_features = most.segment_features;
    wave.most_segment_rows = std::max(most.segment_rows, 1);
    network_->run(wave, lane.workspace, outputs_, lane.stream, listener);
    check(cudaGetLastError(), "queueing the network");
  }

  // Copies the segments' samples into the staging buffer behind the segments. True: as 16 bits each.
  bool pack(Lane& lane) {
    WaveCounts& counts = *lane.counts();
    counts.pcm = static_cast<std::int64_t>(sizeof(WaveCounts) + lane.fill.segments * sizeof(WaveSegment));
    std::byte* pcm = lane.staging.as<std::byte>() + counts.pcm;
    auto share = [&](int member, int members, auto&& copy) {
      const std::int64_t n = lane.fill.segments;
      bool good = true;
      for (std::int64_t i = n * member / members; i < n * (member + 1) / members; ++i) {
        const WaveSegment& segment = lane.segments()[i];
        const std::size_t count = static_cast<std::size_t>(segment.pcm_samples);
        good = copy(lane.sources[static_cast<std::size_t>(i)], count, segment.pcm_offset) && good;
      }
      return good;
    };
    auto on_all = [&](auto&& copy) {
      if (team_.members() == 1 || lane.fill.samples < kPackAlone) return share(0, 1, copy);
      team_.run([&](int member) {
        packed_well_[static_cast<std::size_t>(member)] = share(member, team_.members(), copy) ? 1 : 0;
      });
      return std::all_of(packed_well_.begin(), packed_well_.end(), [](char good) { return good != 0; });
    };
    if (on_all([&](const float* from, std::size_t count, std::uint32_t at) {
          return pack_16bit(from, count, reinterpret_cast<std::int16_t*>(pcm) + at);
        }))
      return true;
    on_all([&](const float* from, std::size_t count, std::uint32_t at) {
      std::copy_n(from, count, reinterpret_cast<float*>(pcm) + at);
      return true;
    });
    return false;
  }

  // Whatever is queued on any lane from here on comes after everything queued so far.
  void join_lanes() {
    for (const std::unique_ptr<Lane>& lane : lanes_)
      check(cudaEventRecord(lane->finished, lane->stream), "recording an event");
    for (const std::unique_ptr<Lane>& lane : lanes_)
      for (const std::unique_ptr<Lane>& other : lanes_)
        if (lane != other) check(cudaStreamWaitEvent(lane->stream, other->finished, 0), "ordering the lanes");
  }

  // Waits for the step and brings its outputs to the host.
  void fetch(std::int32_t frames) {
    for (std::size_t i = 1; i < lanes_.size(); ++i) {
      check(cudaEventRecord(lanes_[i]->finished, lanes_[i]->stream), "recording an event");
      check(cudaStreamWaitEvent(lanes_[0]->stream, lanes_[i]->finished, 0), "ordering the lanes");
    }
    const cudaStream_t stream = lanes_[0]->stream;
    auto copy = [&](const PinnedMemory& to, const DeviceMemory& from, std::size_t bytes) {
      if (bytes == 0 || from.bytes() == 0) return;
      check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), bytes, cudaMemcpyDeviceToHost, stream),
            "fetching the outputs");
    };
    const std::size_t count = static_cast<std::size_t>(frames);
    if (frames > 0) copy(host_results_, results_, (static_cast<std::size_t>(step_scores_) + count) * 4);
    copy(host_log_probs_, log_probs_, count * config_.vocab_size * sizeof(float));
    copy(host_encodings_, encodings_, count * config_.d_model * sizeof(float));
    check(cudaStreamSynchronize(stream), "running the network");
  }

  // Loads every kernel and touches every buffer with waves of no streams.
  void warm_up() {
    for (const std::unique_ptr<Lane>& lane : lanes_)
      for (std::int32_t rows : {16, 64, 128, 512, 1'024, 2'048, 4'096, sizes_.limits.rows}) {
        WaveFill most;
        most.segments = 1;
        most.rows = std::min(rows, sizes_.limits.rows);
        most.stem_rows = std::min(most.rows, sizes_.limits.stem_rows);
        most.segment_features = most.segment_rows = 1;
        queue(*lane, most, nullptr);
      }
    check(cudaDeviceSynchronize(), "warming up");
  }

  void capture_graphs() {
    Lane& lane = *lanes_[0];
    for (std::int32_t rows : kGraphRows) {
      if (!graphs_.empty() && rows > sizes_.limits.rows) break;
      auto graph = std::make_unique<Graph>();
      const bool small = rows <= 64;  // may be one stream's; in larger ones no stream has a long share
      graph->bounds.rows = std::min(rows, sizes_.limits.rows);
      graph->bounds.segments = std::min(rows, sizes_.limits.segments);
      graph->bounds.stem_rows = std::min(2 * rows, sizes_.limits.stem_rows);
      graph->bounds.segment_rows = small ? rows : 24;
      graph->bounds.segment_features = small ? 4 * rows + 32 : 64;
      check(cudaStreamBeginCapture(lane.stream, cudaStreamCaptureModeThreadLocal), "capturing a graph");
      queue(lane, graph->bounds, nullptr);
      cudaGraph_t captured = nullptr;
      check(cudaStreamEndCapture(lane.stream, &captured), "capturing a graph");
      const cudaError_t made = cudaGraphInstantiate(&graph->exec, captured, 0);
      cudaGraphDestroy(captured);
      check(made, "instantiating a graph");
      check(cudaGraphUpload(graph->exec, lane.stream), "uploading a graph");
      graphs_.push_back(std::move(graph));
    }
    // A replay over no streams at all: the first real one must not be the slow one.
    std::memset(lane.counts(), 0, sizeof(WaveCounts));
    check(cudaMemcpyAsync(lane.input.as<void>(), lane.counts(), sizeof(WaveCounts), cudaMemcpyHostToDevice,
                          lane.stream),
          "uploading a wave");
    for (const std::unique_ptr<Graph>& graph : graphs_)
      check(cudaGraphLaunch(graph->exec, lane.stream), "replaying a graph");
  }

  // Bytes and operations of a group in the step just profiled, from the shapes alone. Activations count even
  // though many stay in the second-level cache.
  void count_work(CudaKernelTime& time, double waves) const {
    const double rows = profiled_.rows, segments = profiled_.segments, stem = profiled_.stem_rows;
    const double d = config_.d_model, e = config_.d_inner(), ff = config_.d_intermediate,
                 t = precision_bytes_, narrow = narrow_bytes_;
    const double n = config_.ssm.d_state, rank = config_.ssm.dt_rank, mels = config_.features.n_mels;
    const double layers = config_.n_layer, p = rank + 2 * n, vocab = config_.vocab_size;
    auto product = [&](double count, double in, double out, double in_bytes, double out_bytes) {
      time.operations += 2 * count * in * out;
      time.bytes += count * (in * in_bytes + out * out_bytes) + waves * in * out * t;
    };
    const std::string_view group = time.group;
    if (group == "features") {
      time.operations = 4 * stem * (5 * 256 * 8 + 20 * 256);
      time.bytes = 2.0 * static_cast<double>(profiled_.samples) + 4 * stem * mels * t;
    } else if (group == "stem products") {
      product(2 * stem, 3 * mels, d, t, t);
      product(stem, 3 * d, d, t, 4);
    } else if (group == "stem state") {
      time.bytes = rows * d * (4 + 4 + t) + 2 * 4 * segments * static_cast<double>(layout_.layers[0].conv);
    } else if (group == "in_proj") {
      product(rows * layers, d, 2 * e, t, t);
    } else if (group == "convolution" || group == "convolution + x_proj") {
      time.operations = rows * layers * e * 8;
      time.bytes = layers * (2 * rows * e * t + segments * 3 * e * 4);
      if (group != "convolution") {  // x_proj finds u in shared memory
        time.operations += 2 * rows * layers * e * p;
        time.bytes += layers * rows * p * 4 + waves * e * p * t;
      }
    } else if (group == "x_proj") {
      product(rows * layers, e, p, t, 4);
    } else if (group == "scan") {
      time.operations = rows * layers * e * (2 * rank + 7 * n);
      time.bytes = layers * (rows * (2 * e * t + e * narrow + 4 * p) + segments * e * 4 * (2 * n + 3));
    } else if (group == "out_proj + norm") {
      product(rows * layers, e, d, narrow, 8 + t);
    } else if (group == "fc1 + gate") {
      product(rows * layers, d, 2 * ff, t, narrow / 2);
    } else if (group == "fc2 + norm") {
      product(rows * layers, ff, d, narrow, 8 + t);
    } else if (group == "head") {
      product(rows, d, vocab, t, 8);
    }
  }

  ModelConfig config_;
  EngineOptions options_;
  CudaOptions cuda_;
  ModelHash hash_;
  StateLayout layout_;
  int multiprocessors_;
  Sizes sizes_;
  double precision_bytes_;
  double narrow_bytes_;  // what out_proj and fc2 read
  WavePlanner planner_;
  std::unique_ptr<Network> network_;
  DeviceMemory states_;                 // (slots, layout_.size)
  DeviceMemory results_;                // (frames) tokens, (frames) scores of a step
  DeviceMemory log_probs_, encodings_;  // (frames, vocab), (frames, d_model), or empty
  PinnedMemory host_results_, host_log_probs_, host_encodings_;
  StepOutputs outputs_;
  std::vector<StreamClock> clocks_;  // (slots)
  std::vector<Cursor> active_;
  std::vector<char> packed_well_;  // a packing thread
  ThreadTeam team_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Graph>> graphs_;  // smallest first
  std::span<const StreamInput> batch_;          // during a step
  std::int32_t step_scores_ = 0;                // during a step: place of the first score
  bool states_touched_ = false;                 // lane 0 has resets queued that the others must wait for
  mutable std::string failure_;
  CudaEngineStats stats_;
  GroupTimer* timer_ = nullptr;
  std::vector<CudaKernelTime> times_;
  WaveFill profiled_;
};

const CudaEngine& as_cuda(const Engine& engine) {
  const auto* cuda = dynamic_cast<const CudaEngine*>(&engine);
  if (cuda == nullptr)
    throw std::invalid_argument(std::string("not a cuda engine, but a ") + engine.name() + " engine");
  return *cuda;
}

}  // namespace
}  // namespace cuda

std::vector<CudaDevice> cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  int before = 0;
  cudaGetDevice(&before);
  std::vector<CudaDevice> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    CudaDevice device;
    device.index = i;
    device.name = properties.name;
    std::array<char, 32> pci{};  // 13 are enough
    if (cudaDeviceGetPCIBusId(pci.data(), static_cast<int>(pci.size()), i) == cudaSuccess)
      device.pci_bus_id = pci.data();
    device.major = properties.major;
    device.minor = properties.minor;
    device.multiprocessors = properties.multiProcessorCount;
    device.memory_total = properties.totalGlobalMem;
    if (cudaSetDevice(i) == cudaSuccess) cudaMemGetInfo(&device.memory_free, &device.memory_total);
    devices.push_back(device);
  }
  cudaGetLastError();
  if (count > 0) cudaSetDevice(before);
  return devices;
}

std::string cuda_unavailable_reason(int device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return "no NVIDIA driver is installed on this machine";
    return "the NVIDIA driver is too old: it speaks CUDA " + std::to_string(driver / 1000) + "." +
           std::to_string(driver % 1000 / 10) + ", this build needs " + std::to_string(runtime / 1000) + "." +
           std::to_string(runtime % 1000 / 10) + "; update the driver";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return "the NVIDIA driver shows no GPU; check the cable, the container's settings or "
           "CUDA_VISIBLE_DEVICES";
  if (error != cudaSuccess)
    return std::string("the NVIDIA driver does not answer: ") + cudaGetErrorString(error);
  if (device < 0 || device >= count)
    return "there is no GPU " + std::to_string(device) + ": the driver shows " + std::to_string(count);
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (major < 9)
    return "GPU " + std::to_string(device) + " has compute capability " + std::to_string(major) + "." +
           std::to_string(minor) + ", this build needs 9.0 (Hopper) or newer";
  return {};
}

std::size_t cuda_engine_bytes(const Model& model, const EngineOptions& options, const CudaOptions& cuda) {
  check_options(options);
  cuda::check_cuda_options(cuda);
  cuda::use_device(cuda.device);
  return cuda::plan_sizes(cuda::pack_model(model, cuda.precision), options, cuda,
                          cuda::multiprocessors_of(cuda.device))
      .total;
}

std::uint32_t cuda_slots_that_fit(const Model& model, const EngineOptions& options, const CudaOptions& cuda) {
  check_options(options);
  cuda::check_cuda_options(cuda);
  cuda::use_device(cuda.device);
  const cuda::PackedModel packed = cuda::pack_model(model, cuda.precision);
  const int multiprocessors = cuda::multiprocessors_of(cuda.device);
  std::size_t free = 0, total = 0;
  cuda::check(cudaMemGetInfo(&free, &total), "asking for free memory");
  auto fits = [&](std::uint32_t slots) {
    EngineOptions fewer = options;
    fewer.slots = slots;
    fewer.max_batch = std::min(options.max_batch, slots);
    return cuda::plan_sizes(packed, fewer, cuda, multiprocessors).total + cuda::kMemoryMargin <= free;
  };
  std::uint32_t low = 0, high = options.slots;  // `low` fits, or is 0
  while (low < high) {
    const std::uint32_t middle = high - (high - low) / 2;
    if (fits(middle))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

std::unique_ptr<Engine> make_cuda_engine(const Model& model, const EngineOptions& options,
                                         const CudaOptions& cuda) {
  check_options(options);
  cuda::check_cuda_options(cuda);
  cuda::use_device(cuda.device);
  return std::make_unique<cuda::CudaEngine>(model, options, cuda);
}

CudaEngineStats cuda_engine_stats(const Engine& engine) {
  return cuda::as_cuda(engine).stats();
}

std::vector<CudaKernelTime> cuda_profile_step(Engine& engine, std::span<const StreamInput> batch,
                                              std::span<StreamOutput> out) {
  return const_cast<cuda::CudaEngine&>(cuda::as_cuda(engine)).profile(batch, out);
}

}  // namespace sidewinder
