"""What goes wrong below the protocol: half a frame, a frame of a gigabyte, a clock that jumps."""

import contextlib
import pathlib
import re
import socket
import struct

import pytest
from harness import DAEMON, PATIENCE, Feeder, Subscriber

# ZMTP 3.0 (ZeroMQ RFC 23), by hand: a greeting without security, and the command READY.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG = 1, 2
SOCKETS = {"results": b"SUB", "ingest": b"DEALER", "control": b"DEALER"}


def handshake(endpoint):
    kind = SOCKETS[endpoint]
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return GREETING + bytes([4, len(ready)]) + ready


def connect(daemon, endpoint):
    host, port = daemon.endpoints[endpoint].removeprefix("tcp://").split(":")
    connection = socket.create_connection((host, int(port)), PATIENCE)
    connection.sendall(handshake(endpoint))
    received = b""
    while b"READY" not in received:
        more = connection.recv(4096)
        assert more, "the daemon broke the handshake off"
        received += more
    return connection


def resident_peak(daemon):
    """Bytes."""
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


def test_half_a_message(daemon, stereo, stereo_offline):
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("w", rate=44100, channels=2)
    feeder.feed(stereo[:400_000])
    header = b'{"v":1,"type":"audio","stream":"w","seq":0}'
    for endpoint in SOCKETS:
        host, port = daemon.endpoints[endpoint].removeprefix("tcp://").split(":")
        ready = handshake(endpoint)
        for start in (b"\xff", GREETING[:20], b"GET / HTTP/1.0\r\n\r\n", bytes(1000), ready[:-3],
                      ready + bytes([0]),  # a frame without its length
                      ready + bytes([0, 200]) + b"x" * 50,  # 50 of 200 bytes
                      ready + bytes([MORE, len(header)]) + header,  # the PCM never comes
                      ready + bytes([MORE, len(header)]) + header + bytes([LONG]) + struct.pack(">Q", 10_000) + b"123",
                      ready + bytes([0xF8, 1, 1])):  # flags that there are not
            with socket.create_connection((host, int(port)), PATIENCE) as connection:
                connection.sendall(start)
                with contextlib.suppress(OSError):  # the daemon may have hung up by now
                    connection.shutdown(socket.SHUT_WR)
                while True:  # until the daemon has hung up
                    try:
                        if not connection.recv(4096):
                            break
                    except ConnectionResetError:
                        break
    feeder.feed(stereo[400_000:])
    feeder.close()
    subscriber.until_closed("w")
    assert subscriber.words("w") == stereo_offline["words"]


@pytest.mark.parametrize("endpoint", ["ingest", "results", "control"])
def test_a_frame_of_a_gigabyte(daemon, endpoint):
    """Its sender is cut off at once; nothing is kept."""
    Feeder(daemon).ask("pong", type="ping")
    before = resident_peak(daemon)
    with connect(daemon, endpoint) as connection:
        block = bytes(1 << 20)
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(bytes([LONG]) + struct.pack(">Q", 1 << 30))
            while sent < 1 << 30:
                connection.sendall(block)
                sent += len(block)
    assert sent < 1 << 30
    assert resident_peak(daemon) - before < 64 << 20
    Feeder(daemon).ask("pong", type="ping")


@pytest.mark.skipif(b"__asan_init" in DAEMON.read_bytes() or b"__tsan_init" in DAEMON.read_bytes(),
                    reason="libfaketime and the sanitizers both want to be the first library")
def test_the_clock_steps(start, tmp_path, monkeypatch, stereo, stereo_offline):
    """A day back and a year ahead: streams go on, their audio counts time, and later lives have larger epochs."""
    [library] = pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    with monkeypatch.context() as patched:
        for name, value in {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}.items():
            patched.setenv(name, str(value))
        daemon = start(ingest={"idle_ms": 60_000})
    subscriber = Subscriber(daemon)
    epochs = []
    for step in ("-1d", "+1y", "-2d"):
        feeder = Feeder(daemon)
        name = f"c{step[1:]}"
        epochs.append(feeder.open(name, rate=44100, channels=2)["epoch"])
        feeder.feed(stereo[:400_000])
        clock.write_text(step)
        feeder.feed(stereo[400_000:])
        assert feeder.close()["reason"] == "client"
        subscriber.until_closed(name)
        assert subscriber.words(name) == stereo_offline["words"]
    assert epochs == sorted(set(epochs))
    assert epochs[2] - epochs[0] > 300 * 86_400 * 1_000_000  # the daemon did see the year go by
    assert all(0 <= m["lag_ms"] < PATIENCE * 1000 for m in subscriber.messages)
