"""The daemon under test and its clients. Every message, either way, is validated against clients/schema."""

import contextlib
import ctypes
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import jsonschema
import zmq

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("SIDEWINDER_BIN", ROOT / "build" / "bin"))
DAEMON = pathlib.Path(os.environ.get("SIDEWINDERD", BIN / "sidewinderd"))  # one with sanitizers, say
ENGINE = os.environ.get("SIDEWINDER_ENGINE", "cpu")  # engine.kind of every daemon, and of what it is compared with
DATA = ROOT / "tests" / "data"
PATIENCE = int(os.environ.get("SIDEWINDER_PATIENCE", 120))  # seconds for anything to happen; sanitizers are slow
SANITIZER_REPORTS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:")

SANE = {
    "sockets": {"results": "tcp://127.0.0.1:*", "ingest": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*",
                "http": "127.0.0.1:0"},
    "model": {"folder": str(ROOT / "model" / "pretrained")},
    "engine": {"kind": ENGINE},
    "limits": {"streams": 8, "load_percent": 0},  # a loaded machine is no failure
    "scheduler": {"behind_ms": 600_000},
    "ingest": {"idle_ms": 600_000},
    "shutdown": {"timeout_ms": 600_000},
}

# ptrace(2)
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x4000_0000  # __WALL of waitpid(2): threads too


def _validators(name):
    schema = json.loads((ROOT / "clients" / "schema" / f"{name}.json").read_text())
    resolver = jsonschema.RefResolver.from_schema(schema)
    return {kind: jsonschema.Draft202012Validator(part, resolver=resolver) for kind, part in schema["$defs"].items()}


SCHEMAS = {name: _validators(name) for name in ("results", "ingest", "control")}


def validate(schema, message, kind=None):
    SCHEMAS[schema][kind or message["type"]].validate(message)
    return message


def toml(sections):
    return "".join(f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
                   for name, keys in sections.items())


def run_daemon(*arguments):
    """One that is to end by itself."""
    return subprocess.run([DAEMON, *arguments], capture_output=True, text=True, timeout=PATIENCE)


class Daemon:
    def __init__(self, folder, **sections):
        config = {name: {**SANE.get(name, {}), **sections.get(name, {})} for name in {*SANE, *sections}}
        self.config = folder / "sidewinder.toml"
        self.config.write_text(toml(config))
        self.log_path = folder / "log"
        self.process = subprocess.Popen([DAEMON, "--config", self.config], stdout=subprocess.PIPE,
                                        stderr=self.log_path.open("w"), text=True)
        line = self.process.stdout.readline()
        assert line, self.log()
        self.endpoints = json.loads(line)
        self.context = zmq.Context()
        self.keys = None  # Keys of the sockets that are made from now on

    def log(self):
        return self.log_path.read_text()

    def stop(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)

    def join(self):
        """Waits for its end, which must be a clean one."""
        code = self.process.wait(PATIENCE)
        self.context.destroy(linger=0)
        log = self.log()
        assert code == 0, log
        assert not any(word in log for word in SANITIZER_REPORTS), log

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.endpoints['http']}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def socket(self, kind, endpoint):
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 0
        socket.rcvtimeo = PATIENCE * 1000
        if self.keys is not None:
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = self.keys
        socket.connect(self.endpoints[endpoint])
        return socket

    def control(self, **request):
        validate("control", {"v": 1, **request}, request["type"] + "_request" if request["type"] in
                 ("list", "stats", "history", "access", "devices") else None)
        return self.control_raw(json.dumps({"v": 1, **request}).encode())

    def control_raw(self, *frames):
        with self.socket(zmq.REQ, "control") as socket:
            socket.send_multipart(frames)
            return validate("control", json.loads(socket.recv()))


class Subscriber:
    """Keeps every message, and checks what must hold among them."""

    def __init__(self, daemon, topic=""):
        self.socket = daemon.socket(zmq.SUB, "results")
        self.socket.subscribe(topic)
        self.messages = []
        self.replays = []
        self.bodies = {}
        self.last = {}  # (stream, epoch, type): seq
        self.committed = {}  # (stream, epoch): segment, text
        self.wait_for_subscription(daemon, topic)

    def wait_for_subscription(self, daemon, topic):
        """A subscription takes a while to arrive; behind it in line, one to a live stream is answered."""
        probe = Feeder(daemon)
        name = probe.open()["stream"]
        probe.flush()  # its `opened` has been published
        self.socket.subscribe(name + "/opened/")
        self.until(lambda m: m["stream"] == name and m.get("replay"))
        probe.close()
        if topic == "":
            self.until_closed(name)
        self.socket.unsubscribe(name + "/opened/")
        self.messages = [m for m in self.messages if m["stream"] != name]
        self.replays = [m for m in self.replays if m["stream"] != name]

    def receive(self):
        topic, header, *body = self.socket.recv_multipart()
        message = validate("results", json.loads(header))
        assert topic.decode() == f"{message['stream']}/{message['type']}/"
        assert bool(body) == (message["type"] == "encodings")
        life = message["stream"], message["epoch"]
        key = *life, message["type"]
        if message.get("replay"):
            self.replays.append(message)
            return message
        if key in self.last:
            assert message["seq"] == self.last[key] + 1, "a hole"
        self.last[key] = message["seq"]
        if body:
            self.bodies[(*life, message["seq"])] = body[0]
        if message["type"] in ("partial", "final"):
            segment, text = self.committed.get(life, (0, ""))
            if message["segment"] == segment:
                assert message["committed"].startswith(text), "a committed word is gone"
            else:
                assert message["segment"] > segment
            assert message["committed"] == " ".join(word["word"] for word in message["words"])
            ended = message["type"] == "final"
            self.committed[life] = (segment + 1, "") if ended else (message["segment"], message["committed"])
        assert message["start_sample"] <= message["end_sample"]
        assert message["model_start_sample"] <= message["model_end_sample"]
        self.messages.append(message)
        return message

    def until(self, wanted):
        while not wanted(message := self.receive()):
            pass
        return message

    def until_closed(self, *streams):
        left = {*streams} - {m["stream"] for m in self.of("closed")}
        while left:
            left.discard(self.until(lambda m: m["type"] == "closed")["stream"])

    def of(self, kind, stream=None):
        return [m for m in self.messages if m["type"] == kind and stream in (None, m["stream"])]

    def words(self, stream):
        return [word for final in self.of("final", stream) for word in final["words"]]

    def text(self, stream):
        text = ""
        for final in self.of("final", stream):
            text += ("" if not text or final["continues"] else " ") + final["committed"]
        return text


class Feeder:
    """A client of the ingest socket with one stream."""

    def __init__(self, daemon):
        self.socket = daemon.socket(zmq.DEALER, "ingest")
        self.seq = self.credit = self.sent = 0

    def send(self, *body, **message):
        message = {"v": 1, **message}
        validate("ingest", message)
        self.socket.send_multipart([json.dumps(message).encode(), *body])

    def receive(self):
        message = validate("ingest", json.loads(self.socket.recv()))
        self.credit = max(self.credit, message.get("credit", 0))
        return message

    def until(self, *kinds):
        while (message := self.receive())["type"] not in kinds:
            assert message["type"] == "credit", message
        return message

    def ask(self, answer, **message):
        self.send(**message)
        return self.until(answer)

    def open(self, stream=None, rate=16000, format="s16le", **more):
        names = {} if stream is None else {"stream": stream}
        opened = self.ask("opened", type="open", rate=rate, format=format, **names, **more)
        self.stream, self.epoch, self.seq = opened["stream"], opened["epoch"], opened["seq"]
        size = {"u8": 1, "s16le": 2, "s24le": 3, "f32le": 4}[format]
        self.frame_bytes = size * more.get("channels", 1)
        return opened

    def audio(self, pcm):
        """One message; waits for its credit."""
        frames = len(pcm) // self.frame_bytes
        while self.sent + frames > self.credit:
            self.until("credit")
        self.send(pcm, type="audio", stream=self.stream, seq=self.seq)
        self.seq += 1
        self.sent += frames

    def feed(self, pcm, rng=None, frames=1600):
        for message in cut(pcm, self.frame_bytes, rng, frames):
            self.audio(message)

    def flush(self):
        return self.ask("flushed", type="flush", stream=self.stream, id="f")

    def close(self):
        return self.ask("closed", type="close", stream=self.stream, id="c")


def stream_whole(daemon, subscriber, name, pcm, frames=1600, **form):
    """A stream from its opening to its end, once the subscriber has that. The answer to `close`."""
    feeder = Feeder(daemon)
    feeder.open(name, **form)
    feeder.feed(pcm, frames=frames)
    closed = feeder.close()
    subscriber.until_closed(name)
    return closed


def ptrace(request, thread):
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    call.restype = ctypes.c_long
    if call(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def held(daemon, name):
    """One thread of the daemon is stopped where it is; the others run on."""
    [thread] = [int(task.name) for task in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir()
                if (task / "comm").read_text().strip() == name]
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    assert os.WIFSTOPPED(os.waitpid(thread, WALL)[1])
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, thread)


class Manager:
    """systemd's end of sd_notify. As systemd does, it reads all the time: the socket takes ten messages, and then its writer waits."""

    def __init__(self, path):
        self.told = queue.SimpleQueue()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while message := self.socket.recv(4096):
            for line in message.decode().splitlines():
                self.told.put(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RD)
        self.reader.join()
        self.socket.close()

    def until(self, wanted):
        """What it was told, down to the line that is wanted."""
        seen = []
        while wanted not in seen:
            seen.append(self.told.get(timeout=PATIENCE))
        return seen

    def unread(self):
        """What it was told and has not been asked for."""
        return [self.told.get() for _ in range(self.told.qsize())]


def cut(pcm, frame_bytes, rng=None, frames=1600):
    """PCM in messages of so many frames, or of random lengths up to 4 times that."""
    at = 0
    while at < len(pcm):
        count = (rng.randint(1, 4 * frames) if rng else frames) * frame_bytes
        yield pcm[at:at + count]
        at += count


def decode(clip, *options):
    """A clip of tests/data as PCM, by a program that shares nothing with the daemon."""
    form = options or ("-e", "signed", "-b", "16")
    return subprocess.run(["sox", DATA / clip, "-t", "raw", *form, "-"], check=True, capture_output=True).stdout


def transcribe(source, *options, pcm=None, model=ROOT / "model" / "pretrained"):
    """The offline transcript: of a file, or of 16-bit mono PCM at 16 kHz given as `pcm`."""
    command = [BIN / "sidewinder", "transcribe", "--model", model, "--format", "json", "--engine", ENGINE, *options]
    if pcm is not None:
        command += ["--rate", "16000", "--sample-format", "s16le"]
    done = subprocess.run([*command, source], input=pcm, check=True, capture_output=True)
    return json.loads(done.stdout)


def eventually(condition):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value
