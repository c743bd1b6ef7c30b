"""Options, outputs that can't be written, standard streams, Ctrl-C and the progress bar."""

import array
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import termios
import threading

import media
import pytest
from program import BINARY, CLIP, MODEL, environment, run, start, transcribe

EXIT_INPUT, EXIT_USAGE, EXIT_OUTPUT, EXIT_ENGINE, EXIT_INTERRUPTED = 1, 2, 4, 5, 130

USAGE = [
    (["--format", "doc", "FILE"], "--format: must be text, json, srt or vtt, not doc"),
    (["--engine", "gpu", "FILE"], "--engine: must be auto, cpu or cuda, not gpu"),
    (["--decoder", "fast", "FILE"], "--decoder: must be auto, best-path or beam, not fast"),
    (["--chunk-ms", "0", "FILE"], "--chunk-ms: Value 0 not in range"),
    (["--chunk-ms", "soon", "FILE"], "--chunk-ms: Value soon not in range"),
    (["--threads", "0", "FILE"], "--threads: Value 0 not in range"),
    (["--channel", "0", "FILE"], "--channel: must be mix, each or a number from 1, not 0"),
    (["--channel", "left", "FILE"], "--channel: must be mix, each or a number from 1, not left"),
    (["--rate", "16000", "--sample-format", "s16le", "FILE"], "describe standard input, so give - as an input"),
    (["--channels", "2", "FILE"], "describe standard input, so give - as an input"),
    (["--sample-format", "s16le", "-"], "samples without a header need both"),
    (["--rate", "16000", "-"], "samples without a header need both"),
    (["--channels", "2", "-"], "samples without a header need both"),
    (["--rate", "7999", "--sample-format", "s16le", "-"], "--rate: Value 7999 not in range 8000 to 192000"),
    (["--rate", "16000", "--sample-format", "mp3", "-"], "--sample-format: must be u8, s16le"),
    (["-", "-"], "standard input can be read once only"),
    (["--format", "srt", "FILE", "FILE"], "give --output DIR"),
    (["--format", "vtt", "--channel", "each", "FILE"], "give --output DIR"),
    (["--output", "OUT", "FILE", "other/good.flac"], "two inputs are named good"),
    (["--output", "OUT", "-", "other/stdin.wav"], "two inputs are named stdin"),
    (["--shout", "FILE"], "not expected: --shout"),
    ([], "FILE is required"),
]


@pytest.mark.parametrize("arguments, wrong", USAGE, ids=[" ".join(case[0]) or "nothing" for case in USAGE])
def test_bad_options(good, tmp_path, arguments, wrong):
    places = {"FILE": str(good), "OUT": str(tmp_path / "out")}
    result = transcribe(*[places.get(a, a) for a in arguments])
    assert result.fails(EXIT_USAGE, wrong, "see sidewinder transcribe --help").out == ""


@pytest.mark.parametrize("phrases, wrong", [
    ("bath\nroute 66\n", '"route 66" has a digit; write numbers as words'),
    ("na\u00efve\n", "has a character that the model does not know"),
    ("bath\tloud\n", ':1: "loud" is no number'),
    ("bath\n" * 2001, "2001 phrases; at most 2000"),
    ("# nobody\n", "no phrase; give at least one, or no list"),
    (None, "No such file or directory; check the path"),
])
def test_bad_hotwords(good, tmp_path, phrases, wrong):
    file = tmp_path / "list.txt"
    if phrases is not None:
        file.write_text(phrases)
    assert transcribe(good, "--decoder", "beam", "--hotwords", file).fails(EXIT_USAGE, file, wrong).out == ""


def test_the_best_path_takes_no_hotwords(good, store):
    file = store("list.txt", b"bath\n")
    result = transcribe(good, "--decoder", "best-path", "--hotwords", file)
    assert result.fails(EXIT_USAGE, file, "use --decoder beam").out == ""


@pytest.mark.parametrize("arguments", [[], ["translate"], ["good.wav"]], ids=str)
def test_no_command(arguments):
    run(*arguments).fails(EXIT_USAGE, "sidewinder transcribe FILE", "see sidewinder --help")


def test_help_names_every_option_and_exit_code():
    assert "transcribe" in run("--help").succeeds().out
    text = transcribe("--help").succeeds().out
    for option in ("--format", "--output", "--model", "--engine", "--chunk-ms", "--threads", "--channel", "--decoder", "--hotwords",
                   "--progress", "--realtime", "--rate", "--sample-format", "--channels", "Exit codes"):
        assert option in text


def test_version():
    name, version = run("--version").succeeds().out.split()
    assert name == "sidewinder" and all(part.isdigit() for part in version.split("."))


def test_a_channel_that_is_not_there(good):
    transcribe(good, "--channel", 5).fails(EXIT_INPUT, f"{good}: it has 1 channel, not 5", "choose another --channel")
    stereo = media.DATA / "stereo-44k.flac"
    transcribe(stereo, "--channel", 5).fails(EXIT_INPUT, f"{stereo}: it has 2 channels, not 5")


def test_engines(good, good_text):
    assert transcribe(good, "--engine", "cpu").succeeds().out == good_text
    result = transcribe(good, "--engine", "cuda")
    assert result.code in (0, EXIT_ENGINE)  # as this machine has it
    if result.code == EXIT_ENGINE:
        result.fails(EXIT_ENGINE, "--engine cuda: ", "--engine cpu")


@pytest.mark.parametrize("where", ["prefix/bin", "repository/build/bin"])
def test_the_default_model_is_found_beside_the_program(tmp_path, good, good_text, where):
    folder = tmp_path / where
    folder.mkdir(parents=True)
    program = shutil.copy(BINARY, folder)
    home = tmp_path / ("prefix/share/sidewinder/model" if where == "prefix/bin" else "repository/model/pretrained")
    home.parent.mkdir(parents=True)
    home.symlink_to(MODEL)
    without = {name: value for name, value in os.environ.items() if name != "SIDEWINDER_MODEL"}
    done = subprocess.run([program, "transcribe", good], env=without, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.decode()) == (0, good_text)


# ---- outputs ----


def test_output_is_a_file(good, tmp_path):
    transcribe(good, "--output", good).fails(EXIT_OUTPUT, f"{good}: ", "choose another place for --output")
    inside = good / "folder"
    transcribe(good, "--output", inside).fails(EXIT_OUTPUT, f"{inside}: Not a directory", "choose another place")


def test_folder_in_which_nobody_can_write(good):
    """/proc: also where the tests run as root."""
    transcribe(good, "--output", "/proc").fails(EXIT_OUTPUT, "/proc/good.txt: ", "choose another place")


def test_one_name_taken_by_a_folder(store, good, good_text, speech, tmp_path):
    (tmp_path / "out" / "good.txt").mkdir(parents=True)
    other = store("other.wav", media.wav(speech[:160000]))
    transcribe(good, other, "--output", tmp_path / "out").fails(EXIT_OUTPUT, "out/good.txt: Is a directory")
    assert (tmp_path / "out" / "other.txt").read_text() == good_text, "the other transcript is there"
    assert sorted(os.listdir(tmp_path / "out")) == ["good.txt", "other.txt"], "and no half one"


def test_channels_that_would_overwrite_another_file(store, good, tmp_path):
    """a.wav has two channels, a.1.srt and a.2.srt; a.1.wav would be a.1.srt too."""
    stereo = store("a.wav", media.wav(bytes(6400), channels=2))
    mono = store("a.1.wav", media.wav(bytes(range(256)) * 25))
    result = transcribe(stereo, mono, "--format", "srt", "--channel", "each", "--output", tmp_path / "out")
    assert result.code == EXIT_OUTPUT
    assert f"a.1.srt: {mono} would overwrite it" in result.err


@pytest.mark.parametrize("form", ["text", "json", "srt", "vtt"])
def test_full_disk_as_standard_output(good, form):
    with open("/dev/full", "wb") as full:
        transcribe(good, "--format", form, stdout=full).fails(EXIT_OUTPUT, "standard output: No space left on device",
                                                              "free space")


@pytest.mark.parametrize("form", ["text", "json", "srt", "vtt"])
def test_closed_pipe(good, form):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        transcribe(good, "--format", form, stdout=writing).fails(EXIT_OUTPUT, "standard output: ", "closed the pipe")
    finally:
        os.close(writing)


def shell(redirection, *arguments):
    """With a standard stream closed, which subprocess can't do."""
    done = subprocess.run(["sh", "-c", f'exec "$0" transcribe "$@" {redirection}', BINARY, *map(str, arguments)],
                          env=environment(), capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_closed_standard_output(good):
    code, _, err = shell(">&-", good)
    assert code == EXIT_OUTPUT and err.startswith("sidewinder: standard output: Bad file descriptor")


@pytest.mark.parametrize("first", [True, False])
def test_closed_standard_input_is_not_another_input(good, good_text, first):
    code, out, err = shell("<&-", *(("-", good) if first else (good, "-")))
    assert code == EXIT_INPUT
    assert err.startswith("sidewinder: standard input: can't be read") and err.count("\n") == 1
    assert good_text in out and out.count("==") == 2, "one transcript, under its name"


# ---- Ctrl-C ----


def wait_until_read(process):
    """Until the program has taken all that is in its standard input."""
    waiting = array.array("i", [1])
    while waiting[0] > 0:
        assert process.poll() is None
        fcntl.ioctl(process.stdin, termios.FIONREAD, waiting)


def interrupt(process, content):
    process.stdin.write(content)
    process.stdin.flush()
    wait_until_read(process)
    process.send_signal(signal.SIGINT)
    out, err = process.stdout.read(), process.stderr.read()
    process.stdin.close()
    return process.wait(timeout=60), out.decode(), err.decode()


def test_ctrl_c_ends_a_live_stream(speech):
    """The pipe stays open: without the signal the program would wait for ever."""
    live = media.wav(speech[:160000], data_size=0xFFFFFFFF)
    code, out, err = interrupt(start("-", "--format", "json"), live)
    assert (code, err) == (EXIT_INTERRUPTED, "")
    transcript = json.loads(out)
    assert transcript["samples"] == 80000 and len(transcript["words"]) > 5 and "error" not in transcript


def test_ctrl_c_leaves_a_whole_document(speech, good):
    """33 inputs and more wait for a slot; those never opened have their place in the array all the same."""
    live = media.wav(speech[:32000], data_size=0xFFFFFFFF)
    process = start("-", *[good] * 39, "--format", "json", "--chunk-ms", 10000)
    code, out, _ = interrupt(process, live)
    assert code == EXIT_INTERRUPTED
    documents = json.loads(out)
    assert len(documents) == 40
    assert [d["file"] for d in documents] == ["-"] + [str(good)] * 39
    assert documents[-1]["error"].startswith("interrupted")


# ---- progress ----


def test_progress_bar_on_a_terminal(clip_text):
    terminal, end = pty.openpty()
    seen = bytearray()

    def watch():
        try:
            while block := os.read(terminal, 4096):
                seen.extend(block)
        except OSError:  # the other end is closed
            pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        process = start(CLIP, "--progress", "--engine", "cpu", stderr=end)
        os.close(end)
        out, _ = process.communicate(timeout=60)
    finally:
        watcher.join()
        os.close(terminal)
    assert (process.returncode, out.decode()) == (0, clip_text)
    text = seen.decode()
    assert "[#" in text and "% of 0:00:23" in text and "times real time" in text
    assert text.endswith("\r\x1b[K"), "the bar is gone at the end"


def test_no_progress_bar_in_a_pipe(clip_text):
    assert transcribe(CLIP, "--progress", "--engine", "cpu").succeeds().out == clip_text
