"""`sidewinder listen`, `send` and `ctl` against a real daemon, as a user runs them."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest
from client_support import DATA, LONG, PROGRAM

from sidewinder import Control, transcript

REFUSED, UNREACHABLE, INTERRUPTED, USAGE = 9, 8, 130, 2


def environment(daemon):
    addresses = {f"SIDEWINDER_{name.upper()}": getattr(daemon, name) for name in ("results", "ingest", "control")}
    return {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "", **addresses}


def start(daemon, *arguments, **options):
    return subprocess.Popen([PROGRAM, *arguments], env=environment(daemon), **options)


def sidewinder(daemon, *arguments, **options):
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, env=environment(daemon), capture_output=True, timeout=LONG, **options)


@pytest.fixture(scope="module")
def wav(tmp_path_factory, quilter):
    file = tmp_path_factory.mktemp("wav") / "quilter.wav"
    subprocess.run(["sox", DATA / "quilter.flac", "-b", "16", file], check=True)
    return file


def listening(daemon, *arguments):
    return start(daemon, "listen", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def hold(daemon, stream, *arguments):
    """A sender that has opened the stream and waits for its samples."""
    command = ["send", "-", "--rate", "16000", "--fast", "--stream", stream, *arguments]
    process = start(daemon, *command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    while f'"{stream}"'.encode() not in sidewinder(daemon, "ctl", "list", "--json").stdout:
        assert process.poll() is None
    return process


def first_line(daemon, listener):
    """Of a listener to all streams: once it shows one of these, it has subscribed."""
    while not select.select([listener.stdout], [], [], 0.2)[0]:
        opened = sidewinder(daemon, "ctl", "open", DATA / "stereo-44k.flac", "--stream", "probe", "--fast")
        assert opened.returncode in (0, REFUSED)  # the one before is not over yet
    return listener.stdout.readline().decode()


def interrupt(process):
    process.send_signal(signal.SIGINT)
    assert process.wait(LONG) == INTERRUPTED


def test_one_stream(shared_daemon, quilter, transcribed):
    with hold(shared_daemon, "cli") as sender, listening(shared_daemon, "cli", "--json", "--until-closed") as listener:
        lines = [listener.stdout.readline()]
        assert json.loads(lines[0])["type"] == "opened"
        sender.stdin.write(quilter)
        sender.stdin.close()
        assert sender.wait(LONG) == 0
        assert b"cli: 23.2 s sent" in sender.stderr.read()
        lines += listener.communicate(timeout=LONG)[0].splitlines()
    assert listener.returncode == 0
    finals = [header for header in map(json.loads, lines) if header["type"] == "final"]
    assert " ".join(final["committed"] for final in finals) == transcribed("quilter.flac")


def test_lines_of_all_streams(shared_daemon, wav, transcribed):
    with listening(shared_daemon) as listener:
        assert first_line(shared_daemon, listener).startswith("probe: ")
        assert sidewinder(shared_daemon, "send", wav, "--stream", "cli2", "--fast").returncode == 0
        words = transcribed("quilter.flac").split()
        shown = []
        while len(shown) < len(words):
            name, text = listener.stdout.readline().decode().split(": ", 1)
            shown += text.split() if name == "cli2" else []
        interrupt(listener)
    assert shown == words


def test_json_of_all_streams(shared_daemon, wav, schemas, transcribed):
    with listening(shared_daemon, "--json", "--kinds", "opened,final,closed") as listener:
        lines = [first_line(shared_daemon, listener)]
        assert sidewinder(shared_daemon, "send", wav, "--stream", "json", "--fast").returncode == 0
        while not ('"json"' in lines[-1] and '"closed"' in lines[-1]):
            lines.append(listener.stdout.readline().decode())
        interrupt(listener)
    headers = [json.loads(line) for line in lines]
    for header in headers:
        schemas.check("results", header)
    finals = [header for header in headers if header["type"] == "final" and header["stream"] == "json"]
    assert " ".join(header["committed"] for header in finals) == transcribed("quilter.flac")
    assert {header["type"] for header in headers} == {"opened", "final", "closed"}


def test_pipes_and_raw_samples(shared_daemon, quilter, transcribed):
    control = Control(shared_daemon.control)
    for number, (arguments, data) in enumerate(
        [
            (["--rate", "16000"], quilter),
            (["--rate", "16000", "--sample-format", "s16le", "--channels", "1"], quilter + b"\0"),
            ([], wav_stream("-b", "24")),
            ([], wav_stream("-e", "float", "-b", "32")),
            (["--channel", "1"], wav_stream("-b", "16", "-c", "2")),
        ]
    ):
        name = f"pipe{number}"
        sent = sidewinder(shared_daemon, "send", "-", "--fast", "--stream", name, *arguments, input=data)
        assert sent.returncode == 0, sent.stderr
        assert (b"ends within a sample" in sent.stderr) == (data == quilter + b"\0")
        assert transcript(control.history(name, 0, 99).finals) == transcribed("quilter.flac")


def wav_stream(*options):
    """From a pipe: its header does not know the length."""
    command = ["sox", DATA / "quilter.flac", *options, "-t", "wav", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_the_daemon_names_the_stream(shared_daemon, wav):
    sent = sidewinder(shared_daemon, "send", wav, "--fast")
    name = re.search(rb"sending to stream (\S+)", sent.stderr)
    assert sent.returncode == 0 and name and name[1] + b": 23.2 s sent" in sent.stderr
    quiet = sidewinder(shared_daemon, "send", wav, "--fast", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")


def test_refusals_and_wrong_input(shared_daemon, tmp_path, wav):
    assert sidewinder(shared_daemon, "ctl", "drain").returncode == 0
    refused = sidewinder(shared_daemon, "send", wav, "--fast")
    assert sidewinder(shared_daemon, "ctl", "drain", "--off").returncode == 0
    assert refused.returncode == REFUSED and b"(draining)" in refused.stderr
    bad_name = sidewinder(shared_daemon, "send", wav, "--stream", "a/b")
    assert bad_name.returncode == REFUSED and b"(bad_name)" in bad_name.stderr
    text = tmp_path / "text.wav"
    text.write_text("This is not a recording.")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(wav.read_bytes()[:30])
    for file, message in ((DATA / "quilter.flac", b"not WAV"), (text, b"not WAV"), (cut, b"ends within"),
                          (tmp_path / "none.wav", b"No such file"), (tmp_path, b"Is a directory")):
        wrong = sidewinder(shared_daemon, "send", file)
        assert wrong.returncode == 1 and message in wrong.stderr and not wrong.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["send"],
        ["send", "-", "--rate", "7"],
        ["send", "-", "--sample-format", "s16le"],
        ["send", "-", "--rate", "16000", "--sample-format", "mp3"],
        ["listen", "--until-closed"],
        ["listen", "--kinds", "final"],
        ["listen", "--results", "nowhere"],
        ["listen", "--json", "--kinds", "finals"],
        ["ctl"],
        ["ctl", "close"],
        ["ctl", "list", "--control", "nowhere"],
    ],
)
def test_wrong_command_lines(shared_daemon, arguments):
    wrong = sidewinder(shared_daemon, *arguments, stdin=subprocess.DEVNULL)
    assert wrong.returncode == USAGE and wrong.stderr.startswith(b"sidewinder: ") and not wrong.stdout


def test_nobody_there(shared_daemon, link, wav):
    nobody = link("tcp://127.0.0.1:1").address
    commands = (["ctl", "list", "--control", nobody], ["send", wav, "--ingest", nobody])
    for process in [start(shared_daemon, *command, stderr=subprocess.PIPE) for command in commands]:
        errors = process.communicate(timeout=LONG)[1]
        assert process.returncode == UNREACHABLE and nobody.encode() in errors
    with listening(shared_daemon, "--results", nobody) as listener:
        assert b"No daemon answers on " + nobody.encode() in listener.stderr.readline()
        interrupt(listener)


def test_ctl(shared_daemon, schemas):
    def answer(*arguments):
        asked = sidewinder(shared_daemon, "ctl", *arguments, "--json")
        assert asked.returncode == 0, asked.stderr
        header = json.loads(asked.stdout)
        schemas.check("control", header)
        return header

    assert answer("open", DATA / "northanger.flac", "--stream", "ctl")["stream"] == "ctl"
    assert "ctl" in [stream["stream"] for stream in answer("list")["streams"]]
    table = sidewinder(shared_daemon, "ctl", "list").stdout.decode().splitlines()
    assert table[0].split() == ["STREAM", "STATE", "SOURCE", "HZ", "CH", "HEARD", "WAITING", "FINALS"]
    assert any(line.startswith("ctl ") and "northanger.flac" in line for line in table)
    assert answer("close", "ctl")["type"] == "closing"
    assert answer("stats")["slots"] == 4
    stats = sidewinder(shared_daemon, "ctl", "stats").stdout.decode()
    assert "engine" in stats and "of 4" in stats
    assert answer("drain")["on"] and not answer("drain", "--off")["on"]
    for arguments in (["close", "nobody"], ["open", "/there/is/no.flac"]):
        refused = sidewinder(shared_daemon, "ctl", *arguments)
        assert refused.returncode == REFUSED and refused.stderr


def test_send_goes_on_after_a_lost_connection(shared_daemon, link, quilter, transcribed):
    ingest = link(shared_daemon.ingest)
    with hold(shared_daemon, "resumed-cli", "--ingest", ingest.address) as sender:
        for at in range(0, len(quilter), 200000):
            sender.stdin.write(quilter[at : at + 200000])
            sender.stdin.flush()
            ingest.cut()
            ingest.mend()
        sender.stdin.close()
        assert sender.wait(LONG) == 0, sender.stderr.read()
    history = Control(shared_daemon.control).history("resumed-cli", 0, 99)
    assert transcript(history.finals) == transcribed("quilter.flac")


def test_send_tells_that_the_stream_was_ended(shared_daemon):
    arguments = ["send", "-", "--rate", "16000", "--stream", "ended-cli"]
    with start(shared_daemon, *arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(bytes(32000))
        process.stdin.flush()
        while sidewinder(shared_daemon, "ctl", "close", "ended-cli").returncode != 0:
            pass
        assert process.wait(LONG) == REFUSED
        assert b"the daemon ended stream ended-cli" in process.stderr.read()


def test_interrupted_send_closes_its_stream(shared_daemon):
    arguments = ["send", "-", "--rate", "16000", "--stream", "interrupted"]
    with start(shared_daemon, *arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(bytes(32000))
        process.stdin.flush()
        while b"interrupted" not in sidewinder(shared_daemon, "ctl", "list").stdout:
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == INTERRUPTED
        assert b" s sent" in process.stderr.read()
    assert b"interrupted" not in sidewinder(shared_daemon, "ctl", "list").stdout


class Terminal:
    """`sidewinder` on a terminal of its own."""

    def __init__(self, daemon, *arguments, columns=60, rows=20):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = start(daemon, *arguments, stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)
        self.written = b""

    def read_until(self, pattern):
        while not (found := re.search(pattern, self.written)):
            assert select.select([self.leader], [], [], LONG)[0], self.written
            self.written += os.read(self.leader, 65536)
        return found

    def close(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(LONG) == INTERRUPTED
        os.close(self.leader)


def test_captions_on_a_terminal(shared_daemon, quilter, transcribed):
    terminal = Terminal(shared_daemon, "listen", "shown")
    terminal.read_until(rb"Listening")
    arguments = ["send", "-", "--rate", "16000", "--stream", "shown"]
    with start(shared_daemon, *arguments, stdin=subprocess.PIPE) as process:
        process.stdin.write(quilter[:192000])
        process.stdin.close()
        assert process.wait(LONG) == 0
    terminal.read_until(rb"shown closed: the client closed it")
    assert re.search(rb"\x1b\[2m[a-z']+\x1b\[0m", terminal.written), "nothing tentative was dimmed"
    assert re.search(rb"\r\x1b\[J", terminal.written), "nothing was redrawn in place"
    words = transcribed("quilter.flac").split()
    shown = screen(terminal.written, 60)
    assert all(len(row) <= 60 for row in shown)
    assert " ".join(shown).split()[5:15] == words[:10]  # after "shown opened: 16000 Hz, s16le"
    terminal.close()


def screen(written, columns):
    """The rows that a terminal shows: text, \\r, \\n, cursor up and erase below are all that listen uses."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written.decode()):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part.startswith("\x1b"):
            if part.endswith("A"):
                row -= int(part[2:-1])
            elif part.endswith("J"):
                rows = rows[: row + 1]
                rows[row] = rows[row][:column]
        else:
            rows[row] = rows[row][:column].ljust(column) + part
            column += len(part)
    return rows


def test_a_terminal_without_colour_gets_lines(shared_daemon, wav):
    daemon = shared_daemon
    leader, follower = pty.openpty()
    command = [PROGRAM, "listen", "plain", "--until-closed"]
    with subprocess.Popen(command, env={**environment(daemon), "NO_COLOR": "1"}, stdout=follower) as process:
        while process.poll() is None:  # the first may be over before it has subscribed
            assert sidewinder(daemon, "send", wav, "--fast", "--stream", "plain").returncode == 0
        assert process.returncode == 0
    assert b"\x1b" not in os.read(leader, 65536)
    os.close(leader)
    os.close(follower)
