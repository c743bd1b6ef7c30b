#include "model/config.h"

#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "model/error.h"

namespace sidewinder {
namespace {

using nlohmann::json;

// Reads fields of one JSON object and says which field broke which rule.
class Fields {
 public:
  Fields(const json& object, std::string origin, std::string prefix)
      : object_(object), origin_(std::move(origin)), prefix_(std::move(prefix)) {
    if (!object_.is_object()) fail("", "must be an object");
  }

  Fields child(const char* key) const { return Fields(at(key), origin_, prefix_ + key + "."); }

  bool has(const char* key) const { return object_.contains(key); }

  int integer(const char* key, int low, int high) const {
    const json& value = at(key);
    bool is_int = value.is_number_integer();
    std::int64_t number = 0;
    if (is_int)
      number = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX
                   ? INT64_MAX
                   : value.get<std::int64_t>();
    if (!is_int || number < low || number > high)
      fail(key, "must be an integer from " + std::to_string(low) + " to " + std::to_string(high) + ", not " +
                    shorten(value));
    return static_cast<int>(number);
  }

  int integer_or(const char* key, int fallback, int low, int high) const {
    return has(key) ? integer(key, low, high) : fallback;
  }

  float real(const char* key, double low, double high) const {
    const json& value = at(key);
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high)) {
      std::ostringstream rule;
      rule << "must be a number from " << low << " to " << high << ", not " << shorten(value);
      fail(key, rule.str());
    }
    return value.get<float>();
  }

  // Refuses any value but the one that the engine implements.
  void only(const char* key, const json& wanted) const {
    if (at(key) != wanted)
      fail(key, "must be " + wanted.dump() + " (nothing else is implemented), not " + shorten(at(key)));
  }

  void only_if_present(const char* key, const json& wanted) const {
    if (has(key)) only(key, wanted);
  }

  std::string text(const char* key) const {
    if (!at(key).is_string()) fail(key, "must be a string, not " + shorten(at(key)));
    return at(key).get<std::string>();
  }

  [[noreturn]] void fail(const std::string& key, const std::string& rule) const {
    throw ModelError(origin_ + ": \"" + prefix_ + key + "\" " + rule +
                     "; export the model again or correct the file");
  }

 private:
  const json& at(const char* key) const {
    auto found = object_.find(key);
    if (found == object_.end()) fail(key, "is missing");
    return *found;
  }

  static std::string shorten(const json& value) {
    std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() > 40 ? text.substr(0, 40) + "..." : text;
  }

  const json& object_;
  std::string origin_;
  std::string prefix_;
};

// Widths are stepped through in SIMD packets, 8 floats at the most.
int width(const Fields& fields, const char* key) {
  int value = fields.integer(key, 8, 8192);
  if (value % 8 != 0) fields.fail(key, "must be a multiple of 8");
  return value;
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

  config.d_model = width(top, "d_model");
  config.n_layer = top.integer("n_layer", 1, 256);
  config.d_intermediate = top.integer("d_intermediate", 0, 32768);
  if (config.d_intermediate % 8 != 0) top.fail("d_intermediate", "must be a multiple of 8");
  config.vocab_size = top.integer("vocab_size", 2, 65536);
  config.blank = top.integer("blank", 0, config.vocab_size - 1);
  config.norm_eps = top.real("norm_eps", 1e-12, 1e-2);
  config.end_padding = top.integer_or("end_padding", config.sample_rate / 2, 0, 10 * config.sample_rate);

  Fields ssm = top.child("ssm_cfg");
  ssm.only("layer", "Mamba1");
  config.ssm.d_state = ssm.integer("d_state", 1, 256);
  config.ssm.d_conv = ssm.integer("d_conv", 2, 16);
  config.ssm.expand = ssm.integer("expand", 1, 8);
  config.ssm.dt_rank = ssm.integer("dt_rank", 1, config.d_model);

  if (top.integer("frame_hop", 1, 1 << 20) != config.frame_hop())
    top.fail("frame_hop", "must be hop_length times stride squared, " + std::to_string(config.frame_hop()));
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
  // Writing a value into a message recurses, so that one nested without end would exhaust the stack.
  auto refuse_depth = [&](int depth, json::parse_event_t, json&) {
    constexpr int kDeepest = 16;
    if (depth > kDeepest) throw ModelError(origin + ": nested too deeply; export the model again");
    return true;
  };
  json document;
  try {
    document = json::parse(text, refuse_depth);
  } catch (const json::exception& error) {
    // Without the library's "[json.exception...] " before and a token of any length behind.
    std::string why = error.what();
    why = why.substr(why.find("] ") + 2, 160);
    throw ModelError(origin + ": not valid JSON (" + why + "); export the model again");
  }
  Fields top(document, origin, "");
  ModelConfig config;
  std::string type = top.text("model_type");
  if (type == "streaming-mamba-ctc")
    parse_streaming_ctc(top, config);
  else if (type == "mamba")
    parse_hugging_face_mamba(top, config);
  else
    top.fail("model_type", "must be \"streaming-mamba-ctc\" or \"mamba\"");
  return config;
}

ModelConfig load_config(const std::filesystem::path& file) {
  std::error_code error;
  auto size = std::filesystem::file_size(file, error);
  if (error)
    throw ModelError(file.string() + ": " + error.message() +
                     "; check the path: a model folder holds config.json, model.safetensors and tokens.txt");
  constexpr std::uintmax_t kLargest = 1 << 20;
  if (size > kLargest) throw ModelError(file.string() + ": larger than 1 MiB, so not a model's config.json");
  std::ifstream in(file, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size)))
    throw ModelError(file.string() + ": can't be read; check its permissions");
  return parse_config(text, file.string());
}

}  // namespace sidewinder
