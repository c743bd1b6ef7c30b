"""What the tests of the clients share: a real daemon, a connection that can be cut, real speech, the schemas."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clients" / "python" / "src"
sys.path.insert(0, str(PACKAGE))

DATA = ROOT / "tests" / "data"
DAEMON = Path(os.environ.get("SIDEWINDERD_BIN", ROOT / "build" / "bin" / "sidewinderd"))
PROGRAM = Path(os.environ.get("SIDEWINDER_BIN", ROOT / "build" / "bin" / "sidewinder"))
MODEL = Path(os.environ.get("SIDEWINDER_MODEL", ROOT / "model" / "pretrained"))
LONG = float(os.environ.get("SIDEWINDER_PATIENCE", 60))  # seconds: longer than anything here takes on a loaded machine

CONFIG = """
[model]
folder = "{model}"
[engine]
kind = "cpu"
threads = 1
encodings = true
[sockets]
results = "{results}"
ingest = "{ingest}"
control = "{control}"
http = "127.0.0.1:0"
[limits]
streams = 4
load_percent = 0
[scheduler]
behind_ms = 600000
[shutdown]
timeout_ms = 600000
[ingest]
idle_ms = {idle_ms}
[history]
finals = {finals}
[log]
level = "warning"
"""


class Daemon:
    """sidewinderd as a process; started again, it has the same addresses."""

    def __init__(self, folder: Path, idle_ms: int = 60_000, finals: int = 64, more: str = "") -> None:
        self.folder = folder
        self.more = more  # settings
        self.results = self.ingest = self.control = "tcp://127.0.0.1:*"
        self.options = {"idle_ms": idle_ms, "finals": finals}
        self.start()

    def start(self) -> None:
        config = self.folder / "sidewinder.toml"
        addresses = {"results": self.results, "ingest": self.ingest, "control": self.control}
        config.write_text(CONFIG.format(model=MODEL, **addresses, **self.options) + self.more)
        self.process = subprocess.Popen([DAEMON, "--config", config], stdout=subprocess.PIPE)
        assert select.select([self.process.stdout], [], [], LONG)[0], "the daemon does not get ready"
        ready = json.loads(self.process.stdout.readline() or "{}")
        assert ready.get("ready"), f"the daemon ended with {self.process.wait()}"
        self.results, self.ingest, self.control = ready["results"], ready["ingest"], ready["control"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)


class Link:
    """A TCP relay that can be cut, between a client and the daemon."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self.target = (host, int(port))
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.ends = []
        self.open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            self.ends += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        self.open = False
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.ends.clear()

    def mend(self) -> None:
        self.open = True

    def close(self) -> None:
        self.cut()
        self.listening.close()


def decode(name: str) -> bytes:
    command = ["sox", DATA / name, "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "16000", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _schemas():
    for name in ("results", "ingest", "control"):
        yield name, json.loads((ROOT / "clients" / "schema" / f"{name}.json").read_text())


class Schemas:
    """Where request and answer share a type, either may match."""

    def __init__(self) -> None:
        self.checked = set()
        self.validators = {}
        for name, schema in _schemas():
            for kind in schema["$defs"]:
                validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
                self.validators.setdefault((name, kind.removesuffix("_request")), []).append(validator)

    def check(self, name: str, header) -> None:
        kind = header.get("type")
        validators = self.validators.get((name, kind))
        assert validators, f"{name}: no such message: {header}"
        errors = [list(validator.iter_errors(header)) for validator in validators]
        assert not all(errors), f"{header}: {errors[0][0].message}"
        self.checked.add((name, kind))
