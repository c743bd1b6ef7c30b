#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "daemon/cli/commands.h"
#include "daemon/cli/exit_code.h"
#include "daemon/cli/model_folder.h"
#include "daemon/transcribe/transcribe.h"

namespace sidewinder {
namespace {

// What the shell gives, before it is checked as a whole.
struct Arguments {
  TranscribeOptions options;
  std::string output;
  std::string model;
  std::string hotwords;
  std::string channel = "mix";
  std::string sample_format;
  int rate = 0;
  int channels = 0;
  int chunk_ms = 0;
};

// An option that takes one of a few names.
template <typename T>
CLI::Option* add_choice(CLI::App* command, const std::string& flags, T& choice,
                        std::vector<std::pair<std::string, T>> names, const std::string& description) {
  auto parse = [&choice, names, flags](const std::string& text) {
    std::string known;
    for (const auto& [name, value] : names) {
      if (text == name) {
        choice = value;
        return;
      }
      known += (known.empty() ? "" : name == names.back().first ? " or " : ", ") + name;
    }
    throw CLI::ValidationError(flags.substr(flags.find("--")), "must be " + known + ", not " + text);
  };
  return command->add_option_function<std::string>(flags, parse, description)->type_name("NAME");
}

ChannelChoice parse_channel(const std::string& text) {
  if (text == "mix") return {ChannelChoice::Kind::Mix, 0};
  if (text == "each") return {ChannelChoice::Kind::Each, 0};
  int number = 0;
  for (char c : text) number = (c >= '0' && c <= '9' && number < 10000) ? number * 10 + (c - '0') : -100000;
  if (number < 1)
    throw CLI::ValidationError("--channel", "must be mix, each or a number from 1, not " + text);
  return {ChannelChoice::Kind::One, number};
}

// Two inputs that would write the same file: the second would overwrite the first.
void refuse_same_names(const TranscribeOptions& options) {
  std::set<std::string> stems;
  for (const std::string& input : options.inputs) {
    std::string stem = output_stem(input);
    if (!stems.insert(stem).second)
      throw CLI::ValidationError("--output", "two inputs are named " + stem +
                                                 ", so one transcript would overwrite the "
                                                 "other; transcribe them into different folders");
  }
}

void check(Arguments& arguments) {
  TranscribeOptions& options = arguments.options;
  options.model = arguments.model.empty() ? default_model_folder() : std::filesystem::path(arguments.model);
  if (!arguments.hotwords.empty()) options.hotwords = arguments.hotwords;
  options.channel = parse_channel(arguments.channel);
  options.chunk_ms = arguments.chunk_ms > 0 ? arguments.chunk_ms : options.realtime ? 320 : 1920;
  if (std::count(options.inputs.begin(), options.inputs.end(), "-") > 1)
    throw CLI::ValidationError("-", "standard input can be read once only");
  if (!arguments.sample_format.empty() || arguments.rate != 0 || arguments.channels != 0) {
    if (std::find(options.inputs.begin(), options.inputs.end(), "-") == options.inputs.end())
      throw CLI::ValidationError("--rate, --sample-format, --channels",
                                 "describe standard input, so give - as an input");
    if (arguments.sample_format.empty() || arguments.rate == 0)
      throw CLI::ValidationError("--rate, --sample-format", "samples without a header need both");
    options.raw = PcmFormat{*parse_sample_format(arguments.sample_format), arguments.rate,
                            std::max(arguments.channels, 1)};
  }
  bool cues = options.format == TranscriptFormat::Srt || options.format == TranscriptFormat::Vtt;
  bool several = options.inputs.size() > 1 || options.channel.kind == ChannelChoice::Kind::Each;
  if (cues && several && arguments.output.empty())
    throw CLI::ValidationError("--format", "srt and vtt hold one stream a file, so give --output DIR");
  if (arguments.output.empty()) return;
  refuse_same_names(options);
  std::error_code error;
  std::filesystem::create_directories(arguments.output, error);
  if (error || !std::filesystem::is_directory(arguments.output))
    throw OutputError(arguments.output + ": " + (error ? error.message() : "not a directory") +
                      "; choose another place for --output");
  options.output = arguments.output;
}

}  // namespace

void add_transcribe_command(CLI::App& app, std::function<int()>& run) {
  auto arguments = std::make_shared<Arguments>();
  TranscribeOptions& options = arguments->options;
  CLI::App* command = app.add_subcommand("transcribe", "Write down what is said in recordings");
  command
      ->add_option("FILE", options.inputs,
                   "Sound files of any format and rate; - is standard input (WAV, or samples "
                   "described by --rate and --sample-format)")
      ->required();
  add_choice<TranscriptFormat>(command, "-f,--format", options.format,
                               {{"text", TranscriptFormat::Text},
                                {"json", TranscriptFormat::Json},
                                {"srt", TranscriptFormat::Srt},
                                {"vtt", TranscriptFormat::Vtt}},
                               "text (default), json, srt or vtt");
  add_choice<TextStyle>(
      command, "-t,--text", options.text,
      {{"words", TextStyle::Words},
       {"numbers", TextStyle::Numbers},
       {"punctuated", TextStyle::Punctuated},
       {"readable", TextStyle::Readable}},
      "words as they were heard (default), numbers (in digits), punctuated (casing and marks) or readable "
      "(all of it)");
  command
      ->add_option("-o,--output", arguments->output,
                   "Write NAME.txt, .json, .srt or .vtt for each input here")
      ->type_name("DIR");
  command
      ->add_option("-m,--model", arguments->model,
                   "Model folder (default: $SIDEWINDER_MODEL, or the shipped one)")
      ->type_name("DIR");
  add_choice<EngineChoice>(
      command, "-e,--engine", options.engine,
      {{"auto", EngineChoice::Auto}, {"cpu", EngineChoice::Cpu}, {"cuda", EngineChoice::Cuda}},
      "auto (default), cpu or cuda");
  command->add_option("--gpus", options.gpus, "GPUs that share the inputs (default 1; 0: all)")
      ->check(CLI::Range(0, 64).description(""));
  add_choice<CudaPrecision>(command, "--precision", options.precision, kCudaPrecisions,
                            "Of the CUDA engine: float16 (default), bfloat16, float32, or float8 (faster, a "
                            "little less exact)");
  add_choice<std::optional<DecoderKind>>(
      command, "-d,--decoder", options.decoding.kind,
      {{"auto", std::nullopt}, {"best-path", DecoderKind::BestPath}, {"beam", DecoderKind::Beam}},
      "auto (default): as the model's decoder.json says; best-path or beam");
  command
      ->add_option(
          "--stability", options.decoding.stability,
          "How soon words settle: a profile of the model's decoder.json (the shipped one's: quick, balanced, "
          "which is its default, steady, patient; later is a little more exact); does not matter to "
          "best-path")
      ->type_name("NAME");
  command
      ->add_option("--hotwords", arguments->hotwords,
                   "Phrases to favour, one a line; behind a tab how strongly (1 is usual)")
      ->type_name("FILE");
  command
      ->add_option("--chunk-ms", arguments->chunk_ms,
                   "Audio a step, milliseconds (default 1920; 320 with --realtime); "
                   "does not change the words")
      ->check(CLI::Range(10, 600000).description(""));
  command->add_option("--threads", options.threads, "Threads of the CPU engine (default: one a core)")
      ->check(CLI::Range(1, 1024).description(""));
  command
      ->add_option("--channel", arguments->channel,
                   "mix (default), a channel's number from 1, or each by itself")
      ->type_name("N|mix|each");
  command->add_flag("--progress", options.progress, "Show a bar, if standard error is a terminal");
  command->add_flag("--realtime", options.realtime, "Take the audio no faster than it was spoken");
  command->add_option("--rate", arguments->rate, "Standard input without a header: Hz")
      ->check(CLI::Range(8000, 192000).description(""))
      ->type_name("HZ");
  command
      ->add_option("--sample-format", arguments->sample_format,
                   "Standard input without a header: u8, s16le, s24le, s32le, f32le or f64le")
      ->check([](const std::string& name) {
        return parse_sample_format(name) ? std::string()
                                         : "must be u8, s16le, s24le, s32le, f32le or f64le, not " + name;
      })
      ->type_name("NAME");
  command
      ->add_option("--channels", arguments->channels, "Standard input without a header: channels (default 1)")
      ->check(CLI::Range(1, 1024).description(""));
  command->footer(
      "Exit codes: 0 all done; 1 an input failed (the others were finished); 2 the command line is wrong;\n"
      "3 the model can't be used; 4 an output can't be written; 5 the engine asked for is not there;\n"
      "10 the engine failed at its work; 130 interrupted.");
  command->callback([arguments, &run] {
    check(*arguments);
    run = [arguments] { return transcribe(arguments->options); };
  });
}

}  // namespace sidewinder
