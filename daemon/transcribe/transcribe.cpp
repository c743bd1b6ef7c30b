#include "daemon/transcribe/transcribe.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/audio/audio_reader.h"
#include "daemon/cli/exit_code.h"
#include "daemon/transcribe/progress_bar.h"
#include "daemon/transcribe/sink.h"
#include "dsp/resampler.h"
#include "model/decoding.h"
#include "model/hotwords.h"
#include "model/slot_pool.h"
#include "model/thread_team.h"
#include "model/tokenizer.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Streams that run at once; further inputs wait for a slot.
constexpr std::uint32_t kMostSlots = 32;

volatile sig_atomic_t interrupted = 0;
int interrupt_event = -1;  // readable once `interrupted` is set: what waits for input waits for this too

// Ctrl-C ends the inputs where they are, and their transcripts are finished; a second one ends the process.
void catch_interrupt() {
  interrupt_event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (interrupt_event < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  struct sigaction action {};
  action.sa_handler = [](int) {
    interrupted = 1;
    ::eventfd_write(interrupt_event, 1);
  };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
}

// libsndfile's MP3 decoder writes what it finds wrong to standard error, in lines of its own; the reader says
// it in one. While this lives nothing arrives there: this program has no other thread that writes.
class MutedErrors {
 public:
  MutedErrors() : saved_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (saved_ >= 0 && nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
    if (nowhere >= 0) ::close(nowhere);
  }
  ~MutedErrors() {
    if (saved_ < 0) return;
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
  }
  MutedErrors(const MutedErrors&) = delete;
  MutedErrors& operator=(const MutedErrors&) = delete;

 private:
  int saved_;
};

// One stream: a channel (or the mix) of one input, with everything that carries it from chunk to chunk.
struct Stream {
  SlotLease lease;
  int channel;  // from 0, or -1 for the mix
  dsp::ResamplerState resampler;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<ReadableText> readable;  // null: words as they were heard
  std::unique_ptr<TranscriptWriter> writer;
  std::vector<float> mono;     // (frames) at the input's rate
  std::vector<float> samples;  // at the model's rate: what the next step takes
  std::size_t ready = 0;       // of these, filled
  std::vector<Word> words;     // that came of the step
  double engine_seconds = 0;
};

// Where an input's transcript goes; declared before the writers that point into it.
struct Destination {
  std::vector<std::unique_ptr<FileOutput>> files;  // with --output: one, or one a channel
  std::unique_ptr<OrderedOutput> channels;         // --channel each in one document
};

// As messages name it.
std::string display_name(const std::string& input) {
  return input == "-" ? "standard input" : input.empty() ? "\"\"" : input;
}

struct Input {
  std::size_t index = 0;  // of options.inputs
  std::string name;
  Clock::time_point start;
  std::unique_ptr<AudioReader> reader;
  std::unique_ptr<dsp::ResamplerFilter> filter;
  Destination to;
  std::vector<Stream> streams;
  std::vector<float> interleaved;  // (frames, channels): one chunk
  bool ended = false;
  std::optional<std::string> error;
  bool output_failed = false;
  double read_seconds = 0;
  float peak = 0;
  std::int64_t full_scale = 0;  // samples at full scale, over all channels
};

class Transcriber {
 public:
  explicit Transcriber(const TranscribeOptions& options)
      : options_(options),
        model_(load_model(options.model)),
        tokenizer_(options.model / "tokens.txt", model_.config.vocab_size),
        decoding_(options.model, model_.config, tokenizer_, options.decoding),
        punctuator_(make_punctuator(options.text, options.model)),
        slots_(options.channel.kind == ChannelChoice::Kind::Each
                   ? kMostSlots
                   : static_cast<std::uint32_t>(std::min<std::size_t>(kMostSlots, options.inputs.size()))),
        chosen_(make_engine(options.engine, model_, engine_options(), options.gpus, options.precision)),
        pool_(slots_, chosen_.engine->devices()),
        team_(chosen_.engine->options().threads),
        ordered_(standard_output_, options.inputs.size()),
        progress_(options.progress) {
    if (options.progress && !chosen_.note.empty()) report(chosen_.note);
    if (options.hotwords) {
      hotwords_ = load_hotwords(*options.hotwords, tokenizer_);
      if (!decoding_.takes_hotwords())
        throw HotwordError(options.hotwords->string() +
                           ": the best path can't favour phrases; use --decoder beam, or no --hotwords");
    }
    batch_.reserve(slots_);
    rows_.reserve(slots_);
    results_.resize(slots_);
  }

  int run() {
    const bool array =
        options_.format == TranscriptFormat::Json && !options_.output && options_.inputs.size() > 1;
    if (array) standard_output_.write("[\n");
    const Clock::time_point start = Clock::now();
    for (std::int64_t chunk = 1; admit() || !active_.empty(); ++chunk) {
      if (options_.realtime)
        std::this_thread::sleep_until(start + chunk * std::chrono::milliseconds(options_.chunk_ms));
      for (Input& input : active_) read_chunk(input);
      step();
      decode();
      for (Input& input : active_) guard_output(input, [&] { deliver(input); });
      for (Input& input : active_)
        if (input.ended) guard_output(input, [&] { finish(input); });
      std::erase_if(active_, [](const Input& input) { return input.ended; });
      show_progress();
    }
    // Ctrl-C, or an engine lost: the document is whole all the same.
    const std::string unread =
        interrupted ? "interrupted before it was read" : "not read: " + engine_failure();
    for (; next_ < options_.inputs.size(); ++next_) fail_document(next_, unread);
    if (array) standard_output_.write("]\n");
    standard_output_.flush();
    return interrupted ? kExitInterrupted : exit_code_;
  }

 private:
  EngineOptions engine_options() const {
    int cores = std::max(1u, std::thread::hardware_concurrency());
    int threads = options_.threads > 0 ? options_.threads : std::min<int>(cores, static_cast<int>(slots_));
    // The resampler may round up; a flushed tail is far shorter.
    std::uint32_t samples =
        static_cast<std::uint32_t>(options_.chunk_ms) * model_.config.sample_rate / 1000 + 1;
    return {.slots = slots_,
            .max_batch = slots_,
            .max_samples = std::max(samples, 1024u),
            .threads = threads,
            .want_log_probs = decoding_.needs_log_probs()};
  }

  void report(const std::string& message) {
    progress_.hide();
    print_message(message);
  }

  // Opens inputs while slots are free. False once all have been opened.
  bool admit() {
    while (next_ < options_.inputs.size() && !interrupted && chosen_.engine->failure().empty()) {
      if (!waiting_) waiting_ = open(next_);
      if (waiting_) {
        std::size_t wanted =
            options_.channel.kind == ChannelChoice::Kind::Each ? waiting_->reader->channels() : 1;
        if (wanted > pool_.available()) return true;
        guard_output(*waiting_, [&] { start(*waiting_); });
        if (!waiting_->output_failed) active_.push_back(std::move(*waiting_));
        waiting_.reset();
      }
      ++next_;
    }
    return false;
  }

  // An input with its reader, or nothing after saying why not.
  std::optional<Input> open(std::size_t index) {
    Input input;
    input.index = index;
    input.name = options_.inputs[index];
    input.start = Clock::now();
    try {
      MutedErrors muted;
      input.reader = input.name == "-" ? open_pcm_stream(STDIN_FILENO, options_.raw, interrupt_event)
                                       : open_sound_file(input.name);
      check_channels(*input.reader);
      input.filter = std::make_unique<dsp::ResamplerFilter>(input.reader->rate(), model_.config.sample_rate);
      return input;
    } catch (const AudioError& error) {
      return refuse(index, error.what());
    } catch (const std::invalid_argument& error) {  // the model's rate is out of the resampler's reach
      return refuse(index, error.what());
    }
  }

  std::nullopt_t refuse(std::size_t index, const std::string& why) {
    if (!interrupted) report(display_name(options_.inputs[index]) + ": " + why);
    exit_code_ = std::max<int>(exit_code_, kExitInput);
    fail_document(index, why);
    return std::nullopt;
  }

  void check_channels(const AudioReader& reader) const {
    const ChannelChoice& choice = options_.channel;
    std::string has =
        "it has " + std::to_string(reader.channels()) + (reader.channels() == 1 ? " channel" : " channels");
    if (choice.kind == ChannelChoice::Kind::One && choice.number > reader.channels())
      throw AudioError(has + ", not " + std::to_string(choice.number) + "; choose another --channel");
    if (choice.kind == ChannelChoice::Kind::Each && reader.channels() > static_cast<int>(kMostSlots))
      throw AudioError(has + "; --channel each takes up to " + std::to_string(kMostSlots) +
                       ", so choose one or mix");
  }

  // In an array of JSON objects a failed input has one too, so that positions still match the command line.
  void fail_document(std::size_t index, const std::string& why) {
    if (options_.output) return;
    if (options_.format == TranscriptFormat::Json) {
      Sink& sink = ordered_.writer(index);
      sink.write(json_failure(options_.inputs[index], why));
      end_document(index, sink);
    }
    ordered_.close(index);
  }

  void end_document(std::size_t index, Sink& sink) {
    if (options_.format != TranscriptFormat::Json) return;
    bool last = options_.output || index + 1 == options_.inputs.size();
    sink.write(last ? "\n" : ",\n");
  }

  // A transcript file that can't be written ends its input only; standard output ends everything.
  template <typename Action>
  void guard_output(Input& input, Action&& action) {
    if (input.output_failed) return;
    try {
      action();
    } catch (const OutputError& error) {
      if (!options_.output) throw;
      report(error.what());
      exit_code_ = std::max<int>(exit_code_, kExitOutput);
      input.output_failed = true;
      input.ended = true;
    }
  }

  void start(Input& input) {
    const AudioReader& reader = *input.reader;
    bool each = options_.channel.kind == ChannelChoice::Kind::Each;
    int first = each                                                ? 0
                : options_.channel.kind == ChannelChoice::Kind::One ? options_.channel.number - 1
                                                                    : -1;
    int count = each ? reader.channels() : 1;
    std::size_t frames =
        std::max<std::size_t>(1, static_cast<std::size_t>(reader.rate()) * options_.chunk_ms / 1000);
    // Past 8 channels chunks get shorter, so that memory stays in bounds.
    frames = std::max<std::size_t>(1, std::min(frames, frames * 8 / reader.channels()));
    input.interleaved.resize(frames * reader.channels());
    open_destination(input, count);
    for (int i = 0; i < count; ++i) {
      Sink& sink = stream_sink(input, i);
      if (input.to.channels) sink.write(channel_heading(i));
      Stream stream{.lease = *pool_.acquire(),
                    .channel = first + i,
                    .resampler = {},
                    .decoder = nullptr,
                    .readable = nullptr,
                    .writer = nullptr,
                    .mono = {},
                    .samples = {},
                    .words = {}};
      chosen_.engine->reset(stream.lease.index());
      stream.decoder = decoding_.make();
      stream.decoder->set_hotwords(hotwords_ ? &*hotwords_ : nullptr);
      if (options_.text != TextStyle::Words)
        stream.readable =
            std::make_unique<ReadableText>(punctuator_.get(), text_options(options_.text, model_.config));
      stream.writer = make_transcript_writer(options_.format, transcript_start(input, stream), sink);
      stream.mono.resize(frames);
      stream.samples.resize(
          std::max(input.filter->max_outputs(frames), input.filter->max_outputs(input.filter->lookahead())));
      input.streams.push_back(std::move(stream));
    }
  }

  bool one_file_a_channel() const {
    return options_.format == TranscriptFormat::Srt || options_.format == TranscriptFormat::Vtt;
  }

  void open_destination(Input& input, int count) {
    const bool each = options_.channel.kind == ChannelChoice::Kind::Each;
    if (options_.output) {
      std::string stem = output_stem(input.name);
      int files = each && one_file_a_channel() ? count : 1;
      for (int i = 0; i < files; ++i) {
        std::string number = files > 1 ? "." + std::to_string(i + 1) : "";
        std::filesystem::path file = *options_.output / (stem + number + extension(options_.format));
        if (!written_.insert(file).second)
          throw OutputError(
              file.string() + ": " + display_name(input.name) +
              " would overwrite it, though another input of this call wrote it; transcribe them "
              "into different folders");
        input.to.files.push_back(std::make_unique<FileOutput>(file));
      }
    }
    Sink& document = document_sink(input);
    if (!options_.output && options_.format == TranscriptFormat::Text && options_.inputs.size() > 1)
      document.write("== " + display_name(input.name) + " ==\n");
    if (!each || one_file_a_channel()) return;
    if (options_.format == TranscriptFormat::Json) document.write("{\"channels\":[\n");
    input.to.channels = std::make_unique<OrderedOutput>(document, count);
  }

  Sink& document_sink(Input& input) {
    if (options_.output) return *input.to.files.front();
    return ordered_.writer(input.index);
  }

  Sink& stream_sink(Input& input, std::size_t stream) {
    if (input.to.channels) return input.to.channels->writer(stream);
    if (input.to.files.size() > 1) return *input.to.files[stream];
    return document_sink(input);
  }

  std::string channel_heading(int channel) const {
    if (options_.format == TranscriptFormat::Json) return channel == 0 ? "" : ",\n";
    return "channel " + std::to_string(channel + 1) + ":\n";
  }

  TranscriptStart transcript_start(const Input& input, const Stream& stream) const {
    std::filesystem::path folder = std::filesystem::weakly_canonical(model_.folder);
    return {.file = input.name,
            .sample_rate = input.reader->rate(),
            .model_rate = model_.config.sample_rate,
            .channels = input.reader->channels(),
            .channel = stream.channel < 0 ? "mix" : std::to_string(stream.channel + 1),
            .engine = chosen_.engine->name(),
            .model_name = folder.filename().string(),
            .model_hash = hex(model_.hash),
            .readable = stream.readable != nullptr};
  }

  // One chunk of every channel asked for, resampled; none and `ended` at the input's end.
  void read_chunk(Input& input) {
    const Clock::time_point start = Clock::now();
    const std::size_t channels = static_cast<std::size_t>(input.reader->channels());
    std::size_t frames = 0;
    try {
      MutedErrors muted;
      if (!interrupted) frames = input.reader->read(input.interleaved);
    } catch (const AudioError& error) {
      input.error = error.what();
    }
    input.ended = frames == 0;
    for (std::size_t i = 0; i < frames * channels; ++i) {
      float level = std::abs(input.interleaved[i]);
      input.peak = std::max(input.peak, level);
      constexpr float kFullScale = 32767.0f / 32768.0f;
      input.full_scale += level >= kFullScale;
    }
    for (Stream& stream : input.streams) {
      take_channel(input, stream, frames);
      stream.ready =
          input.ended
              ? input.filter->flush(stream.resampler, stream.samples)
              : input.filter->process(stream.resampler, std::span(stream.mono).first(frames), stream.samples);
    }
    input.read_seconds += seconds_since(start);
  }

  static void take_channel(const Input& input, Stream& stream, std::size_t frames) {
    const std::size_t channels = static_cast<std::size_t>(input.reader->channels());
    for (std::size_t frame = 0; frame < frames; ++frame) {
      const float* row = input.interleaved.data() + frame * channels;
      if (stream.channel >= 0) {
        stream.mono[frame] = row[stream.channel];
        continue;
      }
      float sum = 0;
      for (std::size_t c = 0; c < channels; ++c) sum += row[c];
      stream.mono[frame] = sum / static_cast<float>(channels);
    }
  }

  void step() {
    batch_.clear();
    rows_.clear();
    std::size_t samples = 0;
    for (Input& input : active_)
      for (Stream& stream : input.streams) {
        rows_.push_back(&stream);
        batch_.push_back({stream.lease.index(), std::span(stream.samples).first(stream.ready), input.ended});
        samples += stream.ready;
      }
    if (batch_.empty()) return;
    const Clock::time_point start = Clock::now();
    chosen_.engine->step(batch_, results_);
    if (!chosen_.engine->failure().empty()) {
      exit_code_ = kExitEngineFailed;
      for (Input& input : active_) {
        input.ended = true;
        input.error = engine_failure();
      }
      for (StreamInput& row : batch_) row.end = true;
    }
    const double second_a_sample =
        seconds_since(start) / static_cast<double>(std::max<std::size_t>(samples, 1));
    for (Input& input : active_)
      for (Stream& stream : input.streams)
        stream.engine_seconds += second_a_sample * static_cast<double>(stream.ready);
  }

  std::string engine_failure() const {
    return "the engine failed: " + std::string(chosen_.engine->failure()) +
           "; run it again, or with --engine cpu";
  }

  // The step's output to words. Streams are decoded side by side: beside a GPU's step a beam search is no
  // trifle.
  void decode() {
    if (batch_.empty()) return;
    team_.deal(batch_.size(), [&](std::size_t row) {
      Stream& stream = *rows_[row];
      stream.words.clear();
      stream.decoder->advance(results_[row], stream.words);
      if (batch_[row].end) stream.decoder->finish(stream.words);
    });
  }

  // Words of the step to the input's transcripts.
  void deliver(Input& input) {
    // At the model's rate, and no later than the input's own clock.
    const std::int64_t heard = input.reader->frames_read() * model_.config.sample_rate / input.reader->rate();
    for (Stream& stream : input.streams) {
      tokens_.clear();
      for (Word& word : stream.words) {
        // Words that came out of the padding end with the audio.
        word.begin = std::min(word.begin, heard);
        word.end = std::min(word.end, heard);
        if (stream.readable == nullptr) tokens_.push_back(plain_token(word));
      }
      if (stream.readable != nullptr) {
        stream.readable->hear(stream.words, tokens_);
        if (input.ended) stream.readable->pause(tokens_);
      }
      if (!tokens_.empty()) progress_.hide();
      for (const TextToken& token : tokens_) stream.writer->token(token);
    }
  }

  void finish(Input& input) {
    if (!input.error) input.error = interrupted ? unread(*input.reader) : input.reader->defect();
    for (std::size_t i = 0; i < input.streams.size(); ++i) {
      Stream& stream = input.streams[i];
      stream.writer->finish({.samples = input.reader->frames_read(),
                             .wall_seconds = seconds_since(input.start),
                             .read_seconds = input.read_seconds,
                             .engine_seconds = stream.engine_seconds,
                             .error = input.error});
      if (input.to.channels) input.to.channels->close(i);
    }
    Sink& document = document_sink(input);
    if (input.to.channels && options_.format == TranscriptFormat::Json) document.write("\n]}");
    end_document(input.index, document);
    if (options_.output)
      for (auto& file : input.to.files) file->finish();
    else
      ordered_.close(input.index);
    // Behind the transcript, so that on a terminal the message does not stand inside its last line.
    if (input.error) {
      report(display_name(input.name) + ": " + *input.error);
      exit_code_ = std::max<int>(exit_code_, kExitInput);
    } else {
      warn(input);
    }
    audio_done_ += static_cast<double>(input.reader->frames_read()) / input.reader->rate();
  }

  // Ctrl-C is how a live stream ends, but it leaves part of a recording unheard.
  static std::optional<std::string> unread(const AudioReader& reader) {
    if (!reader.expected_frames() || reader.frames_read() >= *reader.expected_frames()) return std::nullopt;
    return "interrupted after " + std::to_string(reader.frames_read()) + " of " +
           std::to_string(*reader.expected_frames()) + " frames; run it again for the rest";
  }

  void warn(const Input& input) {
    const std::string name = display_name(input.name);
    std::int64_t samples = input.reader->frames_read() * input.reader->channels();
    if (samples > 0 && input.peak == 0)
      report(name +
             ": warning: every sample is zero, so there is nothing to hear; check the microphone or channel");
    if (input.full_scale * 1000 > samples) {
      std::int64_t percent = input.full_scale * 100 / samples;
      report(
          name + ": warning: " + (percent > 0 ? std::to_string(percent) : "up to 1") +
          " % of the samples are at full scale or over (clipped), so words will be missed; record quieter");
    }
  }

  void show_progress() {
    double done = audio_done_, total = audio_done_;
    bool known = next_ == options_.inputs.size();
    for (const Input& input : active_) {
      done += static_cast<double>(input.reader->frames_read()) / input.reader->rate();
      known = known && input.reader->expected_frames();
      total += static_cast<double>(input.reader->expected_frames().value_or(0)) / input.reader->rate();
    }
    progress_.update(done, known ? std::optional(total) : std::nullopt);
  }

  const TranscribeOptions& options_;
  Model model_;
  Tokenizer tokenizer_;
  Decoding decoding_;
  std::optional<Hotwords> hotwords_;
  std::unique_ptr<Punctuator> punctuator_;  // null: --text needs none
  std::uint32_t slots_;
  ChosenEngine chosen_;
  SlotPool pool_;
  ThreadTeam team_;  // decodes
  StandardOutput standard_output_;
  OrderedOutput ordered_;
  ProgressBar progress_;
  std::size_t next_ = 0;          // first input not opened yet, or being opened
  std::optional<Input> waiting_;  // opened, but no slot is free
  std::vector<Input> active_;
  std::set<std::filesystem::path> written_;  // with --output: every file so far
  std::vector<StreamInput> batch_;
  std::vector<Stream*> rows_;  // whose each is
  std::vector<StreamOutput> results_;
  std::vector<TextToken> tokens_;
  double audio_done_ = 0;  // seconds of the inputs that have ended
  int exit_code_ = kExitOk;
};

}  // namespace

std::string output_stem(const std::string& input) {
  return input == "-" ? "stdin" : std::filesystem::path(input).stem().string();
}

int transcribe(const TranscribeOptions& options) {
  catch_interrupt();
  signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of the write, which has a name
  return Transcriber(options).run();
}

}  // namespace sidewinder
