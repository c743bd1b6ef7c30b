"""Fixtures; every frame of JSON that the package sends or receives is held against the schemas."""

import json
import signal
import subprocess

import pytest
from client_support import DATA, MODEL, PROGRAM, Daemon, Link, Schemas, decode

import sidewinder._control
import sidewinder._listener
import sidewinder._sender
import sidewinder._wire


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "bad_requests: sends what the schemas forbid")


@pytest.fixture(scope="session")
def quilter() -> bytes:
    return decode("quilter.flac")


@pytest.fixture(scope="session")
def northanger() -> bytes:
    return decode("northanger.flac")


@pytest.fixture(scope="session")
def transcribed(tmp_path_factory):
    """The text that `sidewinder transcribe` gives for a recording, as one line."""
    known = {}

    def transcribe(name: str) -> str:
        if name not in known:
            command = [PROGRAM, "transcribe", "--engine", "cpu", "--model", MODEL, DATA / name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            known[name] = " ".join(output.split())
        return known[name]

    return transcribe


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("daemon"))
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def own_daemon(tmp_path):
    """For tests that kill it or need settings of their own. Who is not killed must end cleanly."""
    daemons = []

    def start(**options) -> Daemon:
        daemons.append(Daemon(tmp_path, **options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        if daemon.process.poll() != -signal.SIGKILL:
            assert daemon.stop() == 0


@pytest.fixture
def link():
    links = []

    def make(address: str) -> Link:
        links.append(Link(address))
        return links[-1]

    yield make
    for one in links:
        one.close()


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return Schemas()


@pytest.fixture(autouse=True)
def validated(monkeypatch, schemas, request):
    """Every frame of JSON that passes through the package in a test."""
    for name, module in (
        ("results", sidewinder._listener),
        ("ingest", sidewinder._sender),
        ("control", sidewinder._control),
    ):

        def unpack(frame, name=name):
            header = sidewinder._wire.unpack(frame)
            schemas.check(name, header)
            if header["type"] == "history":
                for final in header["finals"]:
                    schemas.check("results", final)
            return header

        def pack(header, name=name):
            frame = sidewinder._wire.pack(header)
            if request.node.get_closest_marker("bad_requests") is None:
                schemas.check(name, json.loads(frame))
            return frame

        monkeypatch.setattr(module, "unpack", unpack)
        if name != "results":
            monkeypatch.setattr(module, "pack", pack)
