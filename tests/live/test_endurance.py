"""What must not grow, and what must not drift. tests/load/endurance has the long versions."""

import pathlib
import sys

import pytest
import zmq
from harness import ROOT, Feeder, Subscriber

sys.path.append(str(ROOT / "tests" / "e2e"))
import tiny_model  # noqa: E402


def resident_kib(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.memory
def test_streams_opened_and_closed_cost_no_memory(start, quilter):
    """Sixty streams at once, eight times over."""
    daemon = start(limits={"streams": 60, "load_percent": 0}, history={"finals": 4, "streams": 20})
    sizes = []
    for round_number in range(8):
        feeders = [Feeder(daemon) for _ in range(60)]
        for number, feeder in enumerate(feeders):
            feeder.open(f"r{round_number}-{number}")
        for feeder in feeders:
            feeder.feed(quilter[:48_000], frames=8_000)
        for feeder in feeders:
            feeder.close()
            feeder.socket.close()
        sizes.append(resident_kib(daemon))
    assert sizes[-1] < 1.02 * sizes[2], sizes


@pytest.mark.memory
def test_subscriber_that_stops_reading(start, quilter):
    """Its queue fills and overflows; the daemon's memory stays, and the others hear everything."""
    daemon = start(results={"high_water_mark": 2000, "level_ms": 10})
    feeder = Feeder(daemon)
    feeder.open("s")
    good = Subscriber(daemon)
    stalled = [daemon.socket(zmq.SUB, "results") for _ in range(5)]
    for socket in stalled:
        socket.rcvhwm = 1
        socket.subscribe("")
    minute = quilter * 3
    feeder.feed(minute, frames=16_000)
    feeder.flush()
    before = resident_kib(daemon)
    for _ in range(4):
        feeder.feed(minute, frames=16_000)
    feeder.close()
    good.until_closed("s")  # receive() fails on a hole
    levels = good.of("level", "s")
    assert [level["seq"] for level in levels] == list(range(len(levels))) and len(levels) == 15 * len(quilter) // 320
    assert resident_kib(daemon) < before + 8 * 1024  # each queue was full after the first minute


@pytest.mark.long
def test_sample_clock_after_ten_hours(start, tmp_path):
    """At a rate that no whole number of samples converts: integer positions neither drift nor lose a sample."""
    daemon = start(model={"folder": str(tiny_model.write(tmp_path / "tiny"))}, scheduler={"chunk_ms": 2000},
                   results={"level_ms": 60_000}, limits={"buffer_ms": 60_000, "max_message_bytes": 1 << 20})
    subscriber = Subscriber(daemon, "c/level/")
    subscriber.socket.subscribe("c/closed/")
    feeder = Feeder(daemon)
    rate, model_rate = 11_025, 16_000
    feeder.open("c", rate=rate, format="u8")
    second = bytes(128 + (i * 7919 % 41) for i in range(rate))
    seconds = 10 * 3600 + 1
    for _ in range(seconds // 20):
        feeder.audio(20 * second)
    feeder.audio(second + b"\x80")  # and one sample more
    feeder.close()
    subscriber.until_closed("c")
    [closed] = subscriber.of("closed", "c")
    samples = seconds * rate + 1
    assert closed["end_sample"] == samples
    levels = subscriber.of("level", "c")
    assert len(levels) == samples * model_rate // rate // (60 * model_rate)
    for number, level in enumerate(levels):
        assert level["model_start_sample"] == number * 60 * model_rate
        assert level["model_end_sample"] == (number + 1) * 60 * model_rate
        assert level["start_sample"] == number * 60 * rate
        assert level["end_sample"] == (number + 1) * 60 * rate
