// A model's shape: what config.json says, checked, and the numbers that follow from it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sidewinder {

// Which network the blocks belong to.
enum class ModelKind {
  StreamingCtc,  // model_type "streaming-mamba-ctc": features, stem, blocks, CTC head
  Backbone,      // model_type "mamba" (Hugging Face MambaModel): blocks and final norm only
  Punctuation,   // model_type "streaming-mamba-punctuation": word pieces, blocks, head
                 // (model/text/punctuator.h)
};

// Log-mel features; see dsp/log_mel.h for the formula.
struct FeatureConfig {
  int window_length = 0;  // samples
  int hop_length = 0;     // samples
  int fft_length = 0;     // samples, window zero-padded to this
  int n_mels = 0;
  float f_min = 0;      // Hz
  float f_max = 0;      // Hz
  float log_floor = 0;  // added to the energy before the logarithm
};

// Two strided convolutions over time, then a depthwise convolution that looks ahead.
struct StemConfig {
  int kernel = 0;     // feature frames, both convolutions
  int stride = 0;     // both convolutions
  int lookahead = 0;  // encoder frames
};

// The selective state space of each block: Mamba-1 (Gu and Dao 2023).
struct SsmConfig {
  int d_state = 0;  // N
  int d_conv = 0;   // taps of the causal convolution
  int expand = 0;   // d_inner = expand * d_model
  int dt_rank = 0;  // R
};

// What puts a decoder's words right (fitted by model/training/calibrate.py; "words" in config.json): a CTC
// model brings a word out some time after it was said, and is surer of it than it ought to be, or less.
struct WordFit {
  std::int64_t begin_shift = 0;  // samples, added to where the word's first frame begins
  std::int64_t end_shift = 0;    // samples, added to where its last frame ends
  float confidence_scale = 1;    // p -> 1 / (1 + exp(-(scale logit(p) + offset))) (Platt 1999)
  float confidence_offset = 0;
};

struct ModelConfig {
  ModelKind kind = ModelKind::StreamingCtc;
  int sample_rate = 0;  // Hz
  FeatureConfig features;
  StemConfig stem;
  int d_model = 0;
  int n_layer = 0;
  int d_intermediate = 0;  // gated MLP's width; 0: blocks have no MLP
  int vocab_size = 0;
  int blank = 0;  // id of the CTC blank
  float norm_eps = 0;
  SsmConfig ssm;
  int words_ahead = 0;  // Punctuation: words heard after one before its casing and mark are decided
  WordFit words;
  int end_padding = 0;  // zero samples appended where a stream ends, so that late words come out

  int d_inner() const { return ssm.expand * d_model; }

  // Samples from one encoder frame to the next.
  int frame_hop() const { return features.hop_length * stem.stride * stem.stride; }

  // Samples that encoder frame 0 needs before lookahead: frame j ends at frame_hop() * j + this (exclusive).
  int first_frame_samples() const {
    int feature_frames = (stem.kernel - 1) * stem.stride + stem.kernel;
    return (feature_frames - 1) * features.hop_length + features.window_length;
  }

  // Feature frames that n samples give.
  std::int64_t feature_frames(std::int64_t n) const {
    return n < features.window_length ? 0 : (n - features.window_length) / features.hop_length + 1;
  }

  // Outputs of one strided, unpadded convolution of the stem over n inputs.
  std::int64_t stem_outputs(std::int64_t n) const {
    return n < stem.kernel ? 0 : (n - stem.kernel) / stem.stride + 1;
  }

  // Encoder frames that n samples give before lookahead holds any back.
  std::int64_t stem_frames(std::int64_t n) const { return stem_outputs(stem_outputs(feature_frames(n))); }

  // Encoder frames that an engine has given of a stream that goes on, after n samples.
  std::int64_t frames_given(std::int64_t n) const {
    return std::max<std::int64_t>(0, stem_frames(n) - stem.lookahead);
  }

  // The most samples that an engine has heard behind the hops of the frames that it has given:
  // n - frame_hop() * frames_given(n) is at most this for every n.
  int most_unread_samples() const { return first_frame_samples() - 1 + stem.lookahead * frame_hop(); }

  // Encoder frames a whole stream of n samples gives, end padding included.
  std::int64_t total_frames(std::int64_t n) const { return stem_frames(n + end_padding); }
};

// Reads and checks a config; origin names it in errors. Throws ModelError.
ModelConfig parse_config(std::string_view json, const std::string& origin);
ModelConfig load_config(const std::filesystem::path& file);

}  // namespace sidewinder
