// `sidewinder ctl`: what a running daemon does, and orders to it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <thread>

#include "clients/cli/commands.h"
#include "clients/cli/text.h"
#include "clients/cli/wire.h"
#include "daemon/cli/exit_code.h"

namespace sidewinder {
namespace {

using namespace clients;

using Table = std::vector<std::vector<std::string>>;
using Show = void (*)(const Json& answer);

// A save waits until everything accepted was heard.
constexpr std::chrono::milliseconds kSaveTimeout(60'000);
// A swap until the model is loaded and measured.
constexpr std::chrono::milliseconds kSwapTimeout(600'000);

struct Arguments {
  Addresses addresses;
  bool json = false;
  std::string file;
  std::string device;
  std::string stream;
  std::string pace = "real_time";
  std::string hotwords;
  int channel = 0;
  bool off = false;
  bool end = false;
  double seconds = 5;
  double within = 10;
  std::string out;
};

// The cells below `right` are set flush right.
void print_table(const Table& table, const std::vector<bool>& right) {
  std::vector<std::size_t> widths(right.size(), 0);
  for (const auto& row : table)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  for (const auto& row : table) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (right[i] ? padding + row[i] : row[i] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

std::string decimal(double value, int digits) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

// Hours, minutes and seconds.
std::string duration(double seconds) {
  const auto whole = static_cast<long long>(seconds);
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  return buffer;
}

std::string text(const Json& value) {
  return printable(value.is_string() ? value.get<std::string>() : value.dump());
}

void show_list(const Json& answer) {
  const Json& streams = answer.at("streams");
  if (streams.empty()) {
    std::puts("no streams");
    return;
  }
  Table table{{"STREAM", "STATE", "SOURCE", "HZ", "CH", "HEARD", "WAITING", "FINALS"}};
  for (const Json& stream : streams) {
    const double seconds = stream.at("samples").get<double>() / stream.at("rate").get<double>();
    table.push_back({text(stream.at("stream")), text(stream.at("state")),
                     text(stream.value("file", stream.value("device", stream.at("source")))),
                     text(stream.at("rate")), text(stream.at("channels")), duration(seconds),
                     decimal(stream.at("backlog_ms").get<double>(), 0) + " ms", text(stream.at("finals"))});
  }
  print_table(table, {false, false, false, true, true, true, true, true});
}

void show_devices(const Json& answer) {
  const Json& devices = answer.at("devices");
  if (devices.empty()) {
    std::puts("no capture devices");
    return;
  }
  Table table{{"INDEX", "NAME", "CHANNELS", "HZ", "HOST"}};
  for (const Json& device : devices)
    table.push_back({text(device.at("index")), text(device.at("name")), text(device.at("channels")),
                     text(device.at("rate")),
                     text(device.at("host")) + (device.at("default").get<bool>() ? " (default)" : "")});
  print_table(table, {true, false, true, true, false});
}

void show_opened(const Json& answer) {
  std::printf("%s: opened, %s Hz, %s channel(s)\n", text(answer.at("stream")).c_str(),
              text(answer.at("rate")).c_str(), text(answer.at("channels")).c_str());
}

void show_closing(const Json& answer) {
  std::printf("%s: closing; what was accepted is still transcribed\n", text(answer.at("stream")).c_str());
}

void show_draining(const Json& answer) {
  const bool on = answer.at("on").get<bool>();
  std::printf("%s; %s streams are open\n",
              on ? "draining: new streams are refused" : "new streams are taken again",
              text(answer.at("streams")).c_str());
}

void show_access(const Json& answer) {
  const auto patterns = [&](const char* key) {
    std::string listed;
    for (const Json& each : answer.at(key)) listed += (listed.empty() ? "" : ", ") + text(each);
    return listed.empty() ? "nothing" : listed;
  };
  const auto limit = [&](const char* key) {
    return answer.at(key) == 0 ? std::string("no limit") : text(answer.at(key));
  };
  print_table({{"key", text(answer.value("key", Json("none: nothing is encrypted")))},
               {"may publish", patterns("publish")},
               {"may subscribe to", patterns("subscribe")},
               {"may ask for", patterns("control")},
               {"streams", limit("streams")},
               {"bytes a second", limit("bytes_per_second")},
               {"requests a second", limit("requests_per_second")}},
              {false, false});
}

void show_stats(const Json& answer) {
  const auto mean_max = [&](const char* key) {
    const Json& value = answer.at(key);
    return decimal(value.at("mean").get<double>(), 1) + " ms mean, " +
           decimal(value.at("max").get<double>(), 1) + " ms at most";
  };
  const Json& results = answer.at("results");
  const std::string draining = answer.at("draining").get<bool>() ? ", draining" : "";
  std::string swap;
  if (answer.at("swapping").get<bool>())
    swap = ", being swapped: " + text(answer.at("moving")) + " streams are still to move";
  print_table({{"version", text(answer.at("version"))},
               {"engine", text(answer.at("engine"))},
               {"model", text(answer.at("model")) + swap},
               {"up", duration(answer.at("uptime_s").get<double>())},
               {"streams", text(answer.at("streams")) + " of " + text(answer.at("slots")) + draining},
               {"since the start", text(answer.at("opened")) + " opened, " + text(answer.at("closed")) +
                                       " closed, " + text(answer.at("refused")) + " refused"},
               {"audio heard", duration(answer.at("audio_s").get<double>())},
               {"steps", text(answer.at("steps")) + " of " + text(answer.at("chunk_ms")) + " ms"},
               {"time a step", mean_max("step_ms")},
               {"lag", mean_max("lag_ms")},
               {"results", text(results.at("published")) + " published, " +
                               text(results.at("partials_skipped")) + " partials skipped"},
               {"queue", text(results.at("queued")) + " of " + text(results.at("capacity"))}},
              {false, false});
}

int ask(const Arguments& arguments, const Json& message, const std::string& answer, Show show) {
  zmq::context_t context(1);
  const Json reply = exchange(context, arguments.addresses.control, arguments.addresses.load_keys(), message,
                              std::as_bytes(std::span(arguments.hotwords)), answer)
                         .header;
  if (arguments.json)
    std::printf("%s\n", reply.dump().c_str());
  else
    show(reply);
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    throw ClientError(kExitOutput, "standard output can't be written");
  return kExitOk;
}

// Starts a trace, waits, stops it and writes what came.
int take_trace(const Arguments& arguments) {
  zmq::context_t context(1);
  const auto ask_trace = [&](bool on, const char* answer) {
    return request(context, arguments.addresses.control, arguments.addresses.load_keys(),
                   {{"type", "trace"}, {"stream", arguments.stream}, {"on", on}}, answer);
  };
  ask_trace(true, "tracing");
  std::this_thread::sleep_for(std::chrono::duration<double>(arguments.seconds));
  const Json traced = ask_trace(false, "traced");
  const std::string name = arguments.out.empty() ? arguments.stream + ".trace.json" : arguments.out;
  std::ofstream file(name);
  file << traced.dump() << '\n';
  if (!file.flush()) throw ClientError(kExitOutput, name + " can't be written");
  std::printf("%s: %zu events, %s did not fit; open it in chrome://tracing or ui.perfetto.dev\n",
              name.c_str(), traced.at("traceEvents").size(), text(traced.at("dropped")).c_str());
  return kExitOk;
}

// The file is made before anything is asked: with --end what it gets exists nowhere else.
int save_stream(const Arguments& arguments) {
  const std::string part = arguments.file + ".part";
  std::ofstream file(part, std::ios::binary);
  if (!file) throw ClientError(kExitOutput, part + " can't be written; check the folder");
  zmq::context_t context(1);
  const Answer answer = [&] {
    try {
      return exchange(context, arguments.addresses.control, arguments.addresses.load_keys(),
                      {{"type", "save"}, {"stream", arguments.stream}, {"end", arguments.end}}, {}, "saved",
                      kSaveTimeout);
    } catch (...) {
      std::filesystem::remove(part);
      throw;
    }
  }();
  file.write(answer.body.data(), static_cast<std::streamsize>(answer.body.size()));
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(part, arguments.file, error);
  if (!file || error)
    throw ClientError(kExitOutput, part + " can't be written, or not renamed to " + arguments.file);
  if (arguments.json)
    std::printf("%s\n", answer.header.dump().c_str());
  else
    std::printf("%s: %s saved to %s, %zu bytes%s\n", text(answer.header.at("stream")).c_str(),
                (text(answer.header.at("samples")) + " samples").c_str(), printable(arguments.file).c_str(),
                answer.body.size(), arguments.end ? "; it ended here" : "");
  return kExitOk;
}

int restore_stream(const Arguments& arguments) {
  std::ifstream file(arguments.file, std::ios::binary);
  const std::string capsule{std::istreambuf_iterator<char>(file), {}};
  if (!file || capsule.empty()) throw ClientError(kExitInput, arguments.file + " can't be read, or is empty");
  Json message{{"type", "restore"}};
  if (!arguments.stream.empty()) message["stream"] = arguments.stream;
  zmq::context_t context(1);
  const Json opened = exchange(context, arguments.addresses.control, arguments.addresses.load_keys(), message,
                               std::as_bytes(std::span(capsule)), "opened", kSaveTimeout)
                          .header;
  if (arguments.json)
    std::printf("%s\n", opened.dump().c_str());
  else
    std::printf("%s: restored at sample %s, epoch %s; its client may go on with audio %s\n",
                text(opened.at("stream")).c_str(), text(opened.at("samples")).c_str(),
                text(opened.at("epoch")).c_str(), text(opened.at("seq")).c_str());
  return kExitOk;
}

int swap_model(const Arguments& arguments) {
  zmq::context_t context(1);
  const Json message{{"type", "swap_model"},
                     {"folder", std::filesystem::absolute(arguments.file).string()},
                     {"within_ms", static_cast<std::int64_t>(arguments.within * 1000)}};
  const Json swapping = exchange(context, arguments.addresses.control, arguments.addresses.load_keys(),
                                 message, {}, "swapping", kSwapTimeout)
                            .header;
  if (arguments.json)
    std::printf("%s\n", swapping.dump().c_str());
  else
    std::printf("model %s serves from now on; %s streams are to move to it\n",
                text(swapping.at("model")).c_str(), text(swapping.at("streams")).c_str());
  return kExitOk;
}

Json open_message(const Arguments& arguments) {
  Json message{{"type", "open"}};
  if (arguments.file.empty()) {
    message["device"] = arguments.device;
  } else {
    message["file"] = std::filesystem::absolute(arguments.file).string();
    message["pace"] = arguments.pace;
  }
  if (!arguments.stream.empty()) message["stream"] = arguments.stream;
  if (arguments.channel > 0) message["channel"] = arguments.channel;
  return message;
}

}  // namespace

void add_ctl_command(CLI::App& app, std::function<int()>& run) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* ctl = app.add_subcommand("ctl", "Ask a running daemon, or tell it what to do");
  ctl->require_subcommand(1);
  ctl->add_flag("--json", arguments->json, "Write the daemon's answer as JSON");
  add_address_option(*ctl, "control", arguments->addresses.control);
  add_key_options(*ctl, arguments->addresses);
  ctl->footer(
      "Exit codes: 0 done; 2 the command line is wrong; 4 standard output can't be written; 8 no daemon "
      "answers;\n"
      "9 the daemon refused.");
  const auto add = [&](const std::string& name, const std::string& description,
                       const std::function<Json(const Arguments&)>& message, const std::string& answer,
                       Show show) {
    CLI::App* command = ctl->add_subcommand(name, description);
    command->fallthrough();  // so that ctl's options may stand behind it
    command->callback([arguments, &run, message, answer, show] {
      run = [arguments, message, answer, show] {
        return run_client([&] { return ask(*arguments, message(*arguments), answer, show); });
      };
    });
    return command;
  };

  add(
      "list", "The streams that are open",
      [](const Arguments&) {
        return Json{{"type", "list"}};
      },
      "list", show_list);

  CLI::App* open = add("open", "Transcribe a file or a capture device of the daemon's machine as a stream",
                       open_message, "opened", show_opened);
  CLI::Option_group* source = open->add_option_group("Source");
  source->add_option("FILE", arguments->file, "A sound file of any format; the daemon opens it");
  source->add_option(
      "--device", arguments->device,
      "A capture device instead: its index, its name or a part of it (see ctl devices), or \"\" "
      "for the default");
  source->require_option(1);
  open->add_option("--stream", arguments->stream, "The stream's name (default: the daemon chooses one)")
      ->type_name("NAME");
  open->add_flag_callback(
      "--fast", [arguments] { arguments->pace = "fast"; }, "As fast as it goes, not as it was spoken");
  open->add_option("--channel", arguments->channel, "Take this channel, from 1 (default: all mixed)")
      ->check(CLI::Range(1, 1024).description(""))
      ->type_name("N");
  add_hotwords_option(*open, arguments->hotwords);

  add(
      "devices", "The capture devices of the daemon's machine",
      [](const Arguments&) {
        return Json{{"type", "devices"}};
      },
      "devices", show_devices);

  CLI::App* close = add(
      "close", "End a stream",
      [](const Arguments& given) {
        return Json{{"type", "close"}, {"stream", given.stream}};
      },
      "closing", show_closing);
  close->add_option("STREAM", arguments->stream, "Its name")->required();

  CLI::App* drain = add(
      "drain", "Take no new streams",
      [](const Arguments& given) {
        return Json{{"type", "drain"}, {"on", !given.off}};
      },
      "draining", show_draining);
  drain->add_flag("--off", arguments->off, "Take new streams again");

  CLI::App* trace =
      ctl->add_subcommand("trace", "Where the time of a stream's chunks goes, as a Chrome trace file");
  trace->fallthrough();
  trace->add_option("STREAM", arguments->stream, "Its name")->required();
  trace->add_option("--seconds", arguments->seconds, "How long (default 5)")
      ->check(CLI::Range(0.1, 59.0).description(""));
  trace->add_option("--out", arguments->out, "The file (default STREAM.trace.json)")->type_name("FILE");
  trace->callback([arguments, &run] {
    run = [arguments] { return run_client([&] { return take_trace(*arguments); }); };
  });

  CLI::App* save = ctl->add_subcommand(
      "save", "Write the state of a stream that a client feeds to a file; the stream goes on");
  save->fallthrough();
  save->add_option("STREAM", arguments->stream, "Its name")->required();
  save->add_option("FILE", arguments->file, "The file")->required();
  save->add_flag("--end", arguments->end,
                 "End the stream there, its text unfinished, for it to go on where it is restored");
  save->callback([arguments, &run] {
    run = [arguments] { return run_client([&] { return save_stream(*arguments); }); };
  });

  CLI::App* restore = ctl->add_subcommand("restore", "Open a stream in the state that was saved to a file");
  restore->fallthrough();
  restore->add_option("FILE", arguments->file, "What ctl save wrote")->required();
  restore->add_option("--stream", arguments->stream, "Another name: a copy, with an epoch of its own")
      ->type_name("NAME");
  restore->callback([arguments, &run] {
    run = [arguments] { return run_client([&] { return restore_stream(*arguments); }); };
  });

  CLI::App* swap = ctl->add_subcommand(
      "swap", "Load another model; the streams that are open move to it, each at its next pause");
  swap->fallthrough();
  swap->add_option("FOLDER", arguments->file, "Its folder, on the daemon's machine")->required();
  swap->add_option("--within", arguments->within,
                   "Where a stream has no pause for so long, end its open segment (default 10)")
      ->check(CLI::Range(0.0, 86'400.0).description(""))
      ->type_name("SECONDS");
  swap->callback([arguments, &run] {
    run = [arguments] { return run_client([&] { return swap_model(*arguments); }); };
  });

  add(
      "access", "What this client's key may do",
      [](const Arguments&) {
        return Json{{"type", "access"}};
      },
      "access", show_access);

  add(
      "stats", "How the daemon fares",
      [](const Arguments&) {
        return Json{{"type", "stats"}};
      },
      "stats", show_stats);
}

}  // namespace sidewinder
