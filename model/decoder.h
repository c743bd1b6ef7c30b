// Engine output to words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "model/engine.h"
#include "model/tokenizer.h"
#include "model/word_builder.h"

namespace sidewinder {

class Hotwords;
class NGram;
class WordModel;

// The text heard but not settled yet; may change or go away.
struct Tentative {
  std::string_view text;   // words with a space between; valid until the decoder's next call
  std::int64_t begin = 0;  // of its first word: samples at the model's rate, from the stream's start
  bool continues = false;  // the first word goes on the last settled one (Word::continues)
};

// One stream's decoder. Thread rule: one thread at a time. The words depend on the frames alone, not on how
// they were cut into calls.
class Decoder {
 public:
  virtual ~Decoder() = default;

  // Takes in the next frames and appends the words that are now settled, in order.
  virtual void advance(const StreamOutput& frames, std::vector<Word>& settled) = 0;

  // Settles all that is open: at the stream's end, or at a pause, after which it may go on.
  virtual void finish(std::vector<Word>& settled) = 0;

  // Frames of blank after which finish() decides nothing that later frames could have changed.
  virtual int pause_frames() const noexcept { return 1; }

  virtual Tentative tentative() const noexcept = 0;

  // From the next frame on these phrases are favoured, or none (null); what was settled stays. `hotwords`
  // must outlive their use. A decoder that can't favour any ignores them.
  virtual void set_hotwords(const Hotwords*) noexcept {}

  // The decoder's part of the state capsule: a fixed number of bytes for each kind of decoder. Hotwords are
  // not in it: whoever loads a state sets those that the stream had first.
  virtual std::size_t state_bytes() const noexcept = 0;
  virtual void save(std::span<std::byte> into) const noexcept = 0;
  virtual void load(std::span<const std::byte> state) noexcept = 0;

  // Whether load() may be given a state that came from outside, once the hotwords are set: it has
  // state_bytes(), and every index, count and number in it is one that such a decoder can have.
  virtual bool valid(std::span<const std::byte> state) const noexcept = 0;
};

// CTC best path (Graves et al. 2006): the most likely token of each frame, repeats merged, blanks dropped. A
// word is settled once the next one begins. `tokenizer` must outlive the decoder.
std::unique_ptr<Decoder> make_best_path_decoder(const ModelConfig& config, const Tokenizer& tokenizer);

// What the beam search weighs; every number is read from the model folder's decoder.json (decoding.h). Scores
// are natural logs.
struct BeamOptions {
  int beam = 16;              // hypotheses kept, at most kMostBeam
  int frame_tokens = 12;      // tokens tried a frame, at most kMostFrameTokens
  float token_threshold = 9;  // a token this far below its frame's best is not tried
  float beam_threshold = 10;  // a hypothesis this far below the best is dropped
  float lm_weight = 0;        // of the language model's log probability
  float prior_weight = 0;     // of a token's log prior, taken off in each frame
  float word_share =
      0;  // of the model over words in a word's probability, below 1; the rest: the one over pieces
  float token_bonus = 0;     // added for each token
  float word_bonus = 0;      // added for each word's first token
  float hotword_weight = 1;  // of the hotwords' boosts
  int pause_frames = 10;     // so many frames of blank settle all that is open but the last word's end
  int settle_frames = 50;    // a token is settled at the latest so many frames after it began

  static constexpr int kMostBeam = 64;
  static constexpr int kMostFrameTokens = 64;
  static constexpr int kMostSettleFrames = 100;
};

// What the beam search asks beside the encoder; what is not there is not asked. All must outlive the decoder.
struct BeamModels {
  const NGram* pieces = nullptr;
  const WordModel* words = nullptr;  // needs pieces
  // (vocab), natural logs: how common each token is in what the encoder learnt.
  std::span<const float> log_priors = {};
};

// CTC prefix beam search (Hannun et al. 2014, algorithm 1); a hypothesis is any row of tokens. The n-gram
// over pieces is fused token by token (shallow fusion), so it weighs a word while it is being spoken; at a
// word's end the one over words has its say too. What all hypotheses agree on is settled; what they do not
// agree on for settle_frames is decided for the best one, which bounds memory and delay. Needs
// StreamOutput::log_probs. tokenizer must outlive the decoder.
std::unique_ptr<Decoder> make_beam_search_decoder(const ModelConfig& config, const Tokenizer& tokenizer,
                                                  const BeamModels& models, const BeamOptions& options);

}  // namespace sidewinder
