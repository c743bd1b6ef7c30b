#include "daemon/live/loaded_model.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string_view>
#include <thread>

#include "daemon/live/clock.h"

namespace sidewinder::live {
namespace {

// A stream that has fallen behind may take more than a chunk in a step: the engine is fastest in tiles of
// this length, and its buffers are made for it.
constexpr std::int64_t kCatchUpMs = 1'920;
// Streams in one step; more go in several. A core takes as long for two steps of 64 as for one of 128, and
// the first 64 need not wait for the rest; a GPU is the faster the more there are.
constexpr std::uint32_t kMostBatchCpu = 64;
constexpr std::uint32_t kMostBatchGpu = 8'192;
constexpr int kCapacityRounds = 5;  // steps; the first ones warm up

// A profile of stability that this decoder.json does not have is no fault of the folder's.
Decoding make_decoding(const Config& config, const Model& model, const Tokenizer& tokenizer) {
  try {
    return Decoding(model.folder, model.config, tokenizer, config.decoder.choice);
  } catch (const ModelError& error) {
    if (!config.decoder.choice.stability) throw;
    (void)Decoding(model.folder, model.config, tokenizer, {config.decoder.choice.kind, std::nullopt});
    throw UnsuitableModel(error.what());
  }
}

std::optional<Hotwords> load_configured_hotwords(const Config& config, const Decoding& decoding) {
  if (config.decoder.hotwords.empty()) return std::nullopt;
  if (!decoding.takes_hotwords())
    throw HotwordError(config.decoder.hotwords.string() +
                       ": the best path can't favour phrases; set decoder.kind = \"beam\", or no hotwords");
  return load_hotwords(config.decoder.hotwords, decoding.tokenizer());
}

std::unique_ptr<Punctuator> load_punctuator(const Config& config, const Model& model) {
  try {
    return make_punctuator(config.text.style, model.folder);
  } catch (const ModelError& error) {
    throw UnsuitableModel(error.what());
  }
}

// How many live streams the engine carries: as many as it steps through a chunk each in a chunk's time, in
// full batches. Of a few rounds the fastest counts, for the rest may have waited for other processes; those
// that stay are noticed as lag. A round is a frame's time at least; until the model's lookahead is filled
// rounds cost less, and do not count.
std::size_t measure_capacity(const Config& config, Engine& engine, const std::stop_token& stop) {
  if (config.limits.load_percent == 0) return 0;
  const int rate = engine.config().sample_rate;
  const auto chunk = static_cast<std::size_t>(config.scheduler.chunk_ms * rate / 1000);
  const std::size_t rows = most_batch(engine);
  const std::vector<float> samples(chunk, 1e-3f);
  std::vector<StreamInput> inputs;
  std::vector<StreamOutput> outputs(rows);
  for (std::size_t row = 0; row < rows; ++row)
    inputs.push_back({static_cast<std::uint32_t>(row), samples, false});
  const auto hop = static_cast<std::size_t>(engine.config().frame_hop());
  const std::size_t steps = (hop + chunk - 1) / chunk;  // a round
  double best_s = std::numeric_limits<double>::infinity();
  for (int counted = 0; counted < kCapacityRounds;) {
    bool frames = false;
    const std::int64_t begin = now_ns();
    for (std::size_t step = 0; step < steps; ++step) {
      if (stop.stop_requested()) return 0;
      engine.step(inputs, outputs);
      frames |= outputs[0].frames > 0;
    }
    if (!engine.failure().empty()) throw EngineUnavailable(std::string(engine.failure()));
    if (!frames) continue;
    best_s = std::min(best_s, static_cast<double>(now_ns() - begin) / 1e9);
    ++counted;
  }
  for (std::size_t row = 0; row < rows; ++row) engine.reset(static_cast<std::uint32_t>(row));
  const double round_s = static_cast<double>(steps * chunk) / rate;
  const double share = static_cast<double>(config.limits.load_percent) / 100;
  const auto streams = static_cast<std::size_t>(share * static_cast<double>(rows) * round_s / best_s);
  return std::max<std::size_t>(streams, 1);
}

std::vector<Readout> make_readouts(const Config& config, const Model& model, const Decoding& decoding) {
  std::vector<Readout> readouts;
  readouts.reserve(static_cast<std::size_t>(config.limits.streams));
  for (std::int64_t slot = 0; slot < config.limits.streams; ++slot)
    readouts.emplace_back(model.config, decoding, endpoint_of(config));
  return readouts;
}

}  // namespace

EngineOptions scheduler_engine_options(const Config& config, const ModelConfig& model, bool log_probs) {
  const auto slots = static_cast<std::uint32_t>(config.limits.streams);
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return {.slots = slots,
          .max_batch = std::min(slots, kMostBatchGpu),
          .max_samples = static_cast<std::uint32_t>(std::max(config.scheduler.chunk_ms, kCatchUpMs) *
                                                    model.sample_rate / 1000),
          .threads = config.engine.threads > 0 ? config.engine.threads : cores,
          .want_log_probs = log_probs,
          .want_encodings = config.engine.encodings};
}

std::size_t most_batch(const Engine& engine) {
  return std::min(engine.options().max_batch,
                  std::string_view(engine.name()) == "cpu" ? kMostBatchCpu : kMostBatchGpu);
}

LoadedModel::LoadedModel(const Config& settings, const Model& model, const std::stop_token& stop)
    : config(model.config),
      hash(model.hash),
      identity{.hash = hex(model.hash),
               .rate = config.sample_rate,
               .hop = config.frame_hop(),
               .width = config.d_model,
               .folder = model.folder},
      tokenizer(model.folder / "tokens.txt", config.vocab_size),
      decoding(make_decoding(settings, model, tokenizer)),
      hotwords(load_configured_hotwords(settings, decoding)),
      text(text_options(settings.text.style, config)),
      punctuator(load_punctuator(settings, model)),
      chosen(make_engine(settings.engine.kind, model,
                         scheduler_engine_options(settings, config, decoding.needs_log_probs()),
                         settings.engine.gpus, settings.engine.precision)),
      readouts(make_readouts(settings, model, decoding)),
      capacity(measure_capacity(settings, engine(), stop)) {}

std::unique_ptr<const Hotwords> LoadedModel::respelled(const Hotwords& from,
                                                       std::vector<std::string>& left_out) const {
  std::vector<Hotword> kept;
  for (const Hotword& hotword : from.list()) {
    try {
      if (!decoding.takes_hotwords()) throw HotwordError("the best path takes none");
      (void)Hotwords(std::span(&hotword, 1), tokenizer, "hotwords");
      kept.push_back(hotword);
    } catch (const HotwordError&) {
      left_out.push_back(hotword.phrase);
    }
  }
  return kept.empty() ? nullptr : std::make_unique<const Hotwords>(kept, tokenizer, "hotwords");
}

}  // namespace sidewinder::live
