#include "model/config.h"

#include <cmath>

#include "model/json_fields.h"

namespace sidewinder {
namespace {

using nlohmann::json;

// Widths are stepped through in SIMD packets, 8 floats at the most.
int width(const Fields& fields, const char* key) {
  int value = fields.integer(key, 8, 8192);
  if (value % 8 != 0) fields.fail(key, "must be a multiple of 8");
  return value;
}

// What the project's own models have in common.
void parse_blocks(const Fields& top, ModelConfig& config) {
  config.d_model = width(top, "d_model");
  config.n_layer = top.integer("n_layer", 1, 256);
  config.d_intermediate = top.integer("d_intermediate", 0, 32768);
  if (config.d_intermediate % 8 != 0) top.fail("d_intermediate", "must be a multiple of 8");
  config.vocab_size = top.integer("vocab_size", 2, 65536);
  config.norm_eps = top.real("norm_eps", 1e-12, 1e-2);

  Fields ssm = top.child("ssm_cfg");
  ssm.only("layer", "Mamba1");
  config.ssm.d_state = ssm.integer("d_state", 1, 256);
  config.ssm.d_conv = ssm.integer("d_conv", 2, 16);
  config.ssm.expand = ssm.integer("expand", 1, 8);
  config.ssm.dt_rank = ssm.integer("dt_rank", 1, config.d_model);
}

void parse_streaming_ctc(const Fields& top, ModelConfig& config) {
  config.kind = ModelKind::StreamingCtc;
  config.sample_rate = top.integer("sample_rate", 8000, 48000);

  Fields features = top.child("features");
  features.only("kind", "log_mel");
  features.only("window", "hann_symmetric");
  features.only("mel_scale", "htk");
  features.only("center", false);
  config.features.window_length = features.integer("window_length", 16, 1024);
  config.features.hop_length = features.integer("hop_length", 8, config.features.window_length);
  config.features.fft_length = features.integer("fft_length", config.features.window_length, 1024);
  if ((config.features.fft_length & (config.features.fft_length - 1)) != 0)
    features.fail("fft_length", "must be a power of two");
  config.features.n_mels = features.integer("n_mels", 8, 256);
  config.features.f_min = features.real("f_min", 0, config.sample_rate / 2.0);
  config.features.f_max = features.real("f_max", config.features.f_min + 1, config.sample_rate / 2.0);
  config.features.log_floor = features.real("log_floor", 1e-30, 1.0);

  Fields stem = top.child("stem");
  config.stem.kernel = stem.integer("kernel", 1, 15);
  config.stem.stride = stem.integer("stride", 1, config.stem.kernel);
  config.stem.lookahead = stem.integer("lookahead", 0, 64);

  parse_blocks(top, config);
  config.blank = top.integer("blank", 0, config.vocab_size - 1);
  config.end_padding = top.integer_or("end_padding", config.sample_rate / 2, 0, 10 * config.sample_rate);

  if (top.has("words")) {
    Fields words = top.child("words");
    const auto samples = [&](const char* key) {
      return std::llround(static_cast<double>(words.real(key, -2, 2)) * config.sample_rate);
    };
    config.words = {.begin_shift = samples("begin_shift"),
                    .end_shift = samples("end_shift"),
                    .confidence_scale = words.real("confidence_scale", 0.01, 100),
                    .confidence_offset = words.real("confidence_offset", -100, 100)};
  }

  if (top.integer("frame_hop", 1, 1 << 20) != config.frame_hop())
    top.fail("frame_hop", "must be hop_length times stride squared, " + std::to_string(config.frame_hop()));
}

void parse_punctuation(const Fields& top, ModelConfig& config) {
  config.kind = ModelKind::Punctuation;
  parse_blocks(top, config);
  config.words_ahead = top.integer("words_ahead", 0, 16);
  top.only("cases", json{"lower", "capitalised", "capitals"});
  top.only("marks", json{"", ",", ".", "?", "!", ":", ";"});
}

void parse_hugging_face_mamba(const Fields& top, ModelConfig& config) {
  config.kind = ModelKind::Backbone;
  config.d_model = width(top, "hidden_size");
  config.n_layer = top.integer("num_hidden_layers", 1, 256);
  config.vocab_size = top.integer("vocab_size", 1, 1 << 20);
  config.norm_eps = top.real("layer_norm_epsilon", 1e-12, 1e-2);
  top.only_if_present("use_bias", false);
  top.only_if_present("use_conv_bias", true);
  top.only_if_present("hidden_act", "silu");
  config.ssm.d_state = top.integer("state_size", 1, 256);
  config.ssm.d_conv = top.integer("conv_kernel", 2, 16);
  config.ssm.expand = top.integer("expand", 1, 8);
  config.ssm.dt_rank = top.integer("time_step_rank", 1, config.d_model);
}

}  // namespace

ModelConfig parse_config(std::string_view text, const std::string& origin) {
  const nlohmann::json document = parse_json(text, origin);
  Fields top(document, origin, "");
  ModelConfig config;
  std::string type = top.text("model_type");
  if (type == "streaming-mamba-ctc")
    parse_streaming_ctc(top, config);
  else if (type == "mamba")
    parse_hugging_face_mamba(top, config);
  else if (type == "streaming-mamba-punctuation")
    parse_punctuation(top, config);
  else
    top.fail("model_type", "must be \"streaming-mamba-ctc\", \"streaming-mamba-punctuation\" or \"mamba\"");
  return config;
}

ModelConfig load_config(const std::filesystem::path& file) {
  return parse_config(read_json_file(file), file.string());
}

}  // namespace sidewinder
