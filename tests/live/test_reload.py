"""SIGHUP, and what systemd is told."""

import json
import os
import signal
import subprocess

import pytest
import zmq
from harness import BIN, PATIENCE, SANE, Feeder, Subscriber, eventually, stream_whole, toml
from test_security import EVERYTHING, entries, ring  # noqa: F401 (a fixture)


def reload(daemon, **sections):
    """Changes the settings and has them read; the log says when that is done."""
    count = daemon.log().count("the settings")
    daemon.config.write_text(toml({name: {**SANE.get(name, {}), **sections.get(name, {})}
                                   for name in {*SANE, *sections}}))
    daemon.stop(signal.SIGHUP)
    eventually(lambda: daemon.log().count("the settings") > count)


def test_what_changes_live_and_what_does_not(start, quilter):
    daemon = start(endpoint={"silence_ms": 2_000})
    subscriber = Subscriber(daemon)
    before = Feeder(daemon)
    before.open("before")
    reload(daemon, endpoint={"silence_ms": 120}, limits={"streams": 3}, log={"level": "debug"},
           scheduler={"chunk_ms": 320})
    assert "limits.streams was changed; the daemon must be started again" in daemon.log()
    assert "scheduler.chunk_ms was changed" in daemon.log()
    assert "silence_ms was changed" not in daemon.log()
    assert daemon.control(type="stats")["slots"] == 8
    after = stream_whole(daemon, subscriber, "after", quilter)["finals"]
    before.feed(quilter)
    # A stream keeps the rules that it was opened with.
    assert before.close()["finals"] < after
    subscriber.until_closed("before")

    daemon.config.write_text("[limits]\nstreems = 3\n")
    daemon.stop(signal.SIGHUP)
    eventually(lambda: "the settings stay as they were" in daemon.log() and "did you mean streams?" in daemon.log())
    assert stream_whole(daemon, subscriber, "later", quilter)["finals"] == after
    reload(daemon, ingest={"idle_ms": 300}, shutdown={"timeout_ms": 600_000})
    idle = Feeder(daemon)
    idle.open("idle")
    assert idle.until("closed")["reason"] == "idle"


def test_keys_come_and_go(start, ring, tmp_path, quilter):  # noqa: F811
    audit = tmp_path / "audit.jsonl"
    rules = ring.config({"admin": EVERYTHING, "alice": EVERYTHING}, audit=str(audit))
    daemon = start(**rules)
    daemon.keys = ring.keys("alice")
    alice = Feeder(daemon)
    alice.open("a")
    hers = daemon.socket(zmq.SUB, "results")
    hers.subscribe("")
    assert hers.recv_multipart()[0] == b"a/opened/"
    monitor = hers.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    daemon.keys = ring.keys("admin")
    listener = subprocess.Popen([BIN / "sidewinder", "listen", "b", "--json", "--until-closed"],
                                stdout=subprocess.PIPE, text=True,
                                env={**os.environ, **ring.environment(daemon, "admin")})
    feeder = Feeder(daemon)
    feeder.open("b")
    assert json.loads(listener.stdout.readline())["type"] == "opened"

    del rules["keys.alice"]
    rules.update({name: keys for name, keys in ring.config({"bob": EVERYTHING}).items() if name == "keys.bob"})
    reload(daemon, **rules)
    # Withdrawn: no way back in, no audio, and what is published from now on does not reach her.
    assert monitor.poll(PATIENCE * 1000)
    alice.send(b"1234", type="audio", stream="a", seq=0)
    assert alice.until("error")["reason"] == "not_allowed"
    feeder.feed(quilter)
    closed = feeder.close()
    # Others come back and get what they missed.
    lines = [json.loads(line) for line in listener.communicate(timeout=PATIENCE)[0].splitlines()]
    assert listener.returncode == 0
    assert [m["seq"] for m in lines if m["type"] == "final"] == list(range(closed["finals"]))
    hers.rcvtimeo = 0
    left = []
    with pytest.raises(zmq.Again):
        while True:
            left.append(hers.recv_multipart()[0])
    assert not any(topic.startswith(b"b/final/") for topic in left)
    daemon.keys = ring.keys("bob")
    assert daemon.control(type="list")["type"] == "list"
    assert [e for e in entries(audit) if e["event"] == "reloaded"]


def test_audit_log_once_there_is_room_again(start, tmp_path):
    audit = tmp_path / "audit.jsonl"
    audit.symlink_to("/dev/full")
    daemon = start(security={"audit": str(audit)})
    for on in (True, False):
        daemon.control(type="drain", on=on)
    eventually(lambda: "No space left on device" in daemon.log())
    eventually(lambda: 'reason="audit_lost"} 2' in daemon.get("/metrics")[1])
    real = tmp_path / "real.jsonl"
    audit.unlink()
    audit.symlink_to(real)
    reload(daemon, security={"audit": str(audit)})
    daemon.control(type="drain", on=False)
    eventually(lambda: real.exists() and "drained" in real.read_text())
    lost, reloaded, drained = entries(real)
    assert lost["event"] == "lost" and lost["entries"] == 2
    assert reloaded["event"] == "reloaded" and drained["event"] == "drained"
    assert "can be written again" in daemon.log()


def test_systemd_is_told(start, manager):
    daemon = start()
    assert manager.until("READY=1") == ["READY=1"]
    manager.until("WATCHDOG=1")
    assert "READY=1" not in manager.until("WATCHDOG=1")
    reload(daemon)
    assert any(line.startswith("MONOTONIC_USEC=") for line in manager.until("READY=1"))
    daemon.stop()
    manager.until("STOPPING=1")
    daemon.join()
