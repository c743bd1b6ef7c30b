"""The process: start, stop, ports, settings, HTTP."""

import os
import signal
import subprocess

import pytest
from harness import (DAEMON, ENGINE, PATIENCE, SANE, SANITIZER_REPORTS, Feeder, Subscriber, run_daemon, toml,
                     transcribe)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_stop_under_load_loses_no_final(start, quilter, sign):
    daemon = start()
    subscriber = Subscriber(daemon)
    feeders = [Feeder(daemon) for _ in range(4)]
    for number, feeder in enumerate(feeders):
        feeder.open(f"t{number}")
    # As much as the credit allows, without waiting for what becomes of it.
    for feeder in feeders:
        while feeder.sent + 1600 <= feeder.credit:
            feeder.audio(quilter[2 * feeder.sent:2 * feeder.sent + 3200])
    daemon.stop(sign)
    for feeder in feeders:
        while (closed := feeder.until("closed", "error"))["type"] == "error":
            assert closed["reason"] == "unknown_stream"  # sent when it was over
        assert closed["reason"] == "shutdown" and closed["samples"] == closed["seq"] * 1600
        subscriber.until_closed(feeder.stream)
        accepted = quilter[:2 * closed["samples"]]
        expected = transcribe("-", pcm=accepted)["words"] if accepted else []
        assert subscriber.words(feeder.stream) == expected
        assert len(subscriber.of("final", feeder.stream)) == closed["finals"]
    daemon.join()


def test_stop_bounded_by_timeout(start, quilter):
    """Too short a timeout for what is left: a code of its own, and no hang."""
    daemon = start(shutdown={"timeout_ms": 0})
    feeder = Feeder(daemon)
    feeder.open("t")
    while feeder.sent + 1600 <= feeder.credit:
        feeder.audio(quilter[2 * feeder.sent:2 * feeder.sent + 3200])
    daemon.stop()
    assert daemon.process.wait(PATIENCE) in (0, 7)
    assert not any(word in daemon.log() for word in SANITIZER_REPORTS)


@pytest.mark.parametrize("socket", ["results", "ingest", "control", "http"])
def test_port_in_use(start, tmp_path, socket):
    daemon = start()
    config = tmp_path / "second.toml"
    sockets = {**SANE["sockets"], socket: daemon.endpoints[socket]}
    config.write_text(toml({**SANE, "sockets": sockets}))
    second = run_daemon("--config", config)
    assert second.returncode == 6
    assert f"sockets.{socket}" in second.stderr and "can't be bound" in second.stderr


def test_check(tmp_path):
    config = tmp_path / "a.toml"
    config.write_text("[limits]\nstreams = 3\n")
    assert run_daemon("--config", config, "--check").returncode == 0
    assert run_daemon("--check").returncode == 0
    config.write_text("[limits]\nstreems = 3\n")
    done = run_daemon("--config", config, "--check")
    assert done.returncode == 2 and ":2: limits.streems: unknown key; did you mean streams?" in done.stderr
    config.write_text('[sockets]\nresults = "tcp://0.0.0.0:7600"\n')
    done = run_daemon("--config", config)
    assert done.returncode == 2 and "allow_remote" in done.stderr
    config.write_text('[model]\nfolder = "/nonexistent"\n')
    assert run_daemon("--config", config).returncode == 3
    assert run_daemon("--config", tmp_path / "none.toml").returncode == 2
    assert run_daemon("--bogus").returncode == 2
    assert run_daemon("--version").stdout.startswith("sidewinderd ")


def test_http_and_stats(start, quilter):
    daemon = start()
    assert daemon.get("/healthz") == (200, "ok\n")
    assert daemon.get("/readyz") == (200, "ready\n")
    assert daemon.get("/nonsense")[0] == 404
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("m")
    feeder.feed(quilter[:320_000])
    feeder.flush()
    [listed] = [s for s in daemon.control(type="list")["streams"] if s["stream"] == "m"]
    assert listed["samples"] == listed["model_samples"] == 160_000 and listed["state"] == "live"
    feeder.close()
    subscriber.until_closed("m")
    values = dict(line.rsplit(" ", 1) for line in daemon.get("/metrics")[1].splitlines() if not line.startswith("#"))
    assert float(values["sidewinder_audio_seconds_total"]) == pytest.approx(10)
    assert float(values["sidewinder_slots"]) == 8
    assert float(values['sidewinder_results_total{kind="final"}']) == len(subscriber.of("final"))
    assert float(values["sidewinder_streams_opened_total"]) == float(values["sidewinder_streams_closed_total"]) == 2
    assert float(values["sidewinder_lag_seconds_count"]) > 0 < float(values["sidewinder_step_seconds_count"])
    stats = daemon.control(type="stats", id="s")
    assert stats["opened"] == stats["closed"] == 2 and stats["streams"] == 0 and stats["engine"] == ENGINE
    assert stats["audio_s"] == pytest.approx(10) and stats["id"] == "s"


def test_starts_with_no_config_at_all():
    """On the default ports, or it says who has them."""
    done = subprocess.Popen([DAEMON], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            env={**os.environ, "SIDEWINDER_MODEL": SANE["model"]["folder"]})
    line = done.stdout.readline()
    done.terminate()
    code = done.wait(PATIENCE)
    if line:
        assert '"tcp://127.0.0.1:7600"' in line and code == 0
    else:
        assert code == 6
