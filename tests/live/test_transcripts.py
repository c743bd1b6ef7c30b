"""What is heard live is what is heard offline, whoever else is heard and however the audio was cut."""

import random
import struct

import pytest
from harness import DATA, Feeder, Subscriber, cut, decode, stream_whole, transcribe


@pytest.mark.parametrize("chunk_ms", [80, 160, 320])
def test_equal_offline_for_several_clients_and_random_chunks(start, quilter, quilter_offline, stereo, stereo_offline,
                                                             chunk_ms):
    daemon = start(scheduler={"chunk_ms": chunk_ms})
    subscriber = Subscriber(daemon)
    rng = random.Random(chunk_ms)
    material = [
        (quilter, quilter_offline, {}),
        (decode("quilter.flac", "-e", "float", "-b", "32"), quilter_offline, {"format": "f32le"}),
        (stereo, stereo_offline, {"rate": 44100, "channels": 2}),
        (stereo, stereo_offline, {"rate": 44100, "channels": 2}),
    ]
    feeders = []
    for pcm, offline, form in material:
        feeder = Feeder(daemon)
        feeder.open(**form)
        feeders.append((feeder, offline, cut(pcm, feeder.frame_bytes, rng, feeder.frame_bytes * 800)))
    waiting = list(feeders)
    while waiting:
        turn = rng.choice(waiting)
        message = next(turn[2], None)
        if message is None:
            turn[0].send(type="close", stream=turn[0].stream, id="c")
            waiting.remove(turn)
        else:
            turn[0].audio(message)
    for feeder, offline, _ in feeders:
        closed = feeder.until("closed")
        assert closed["id"] == "c" and closed["reason"] == "client" and closed["seq"] == feeder.seq
        assert closed["samples"] == feeder.sent == offline["samples"]
        subscriber.until_closed(feeder.stream)
        assert subscriber.words(feeder.stream) == offline["words"]
        assert subscriber.text(feeder.stream) == offline["text"]
        assert len(subscriber.of("final", feeder.stream)) == closed["finals"]
        assert len(subscriber.of("partial", feeder.stream)) == closed["partials"]
        kinds = [m["type"] for m in subscriber.messages if m["stream"] == feeder.stream]
        assert kinds[0] == "opened" and kinds[-1] == "closed"
        assert {m["model"] for m in subscriber.messages} == {offline["model"]["sha256"]}


def test_readable_text_is_that_of_transcribe_and_only_grows(start, quilter):
    daemon = start(text={"style": "readable"})
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "talk", quilter)
    offline = transcribe(DATA / "quilter.flac", "--text", "readable")
    assert subscriber.words("talk") == offline["words"], "each with its display"
    finals = subscriber.of("final", "talk")
    assert " ".join(final["readable"]["committed"] for final in finals) == offline["readable"]
    before = {}
    for message in subscriber.of("partial", "talk") + finals:
        shown = message["readable"]["committed"]
        assert shown == " ".join(word["display"] for word in message["words"] if word.get("display"))
        before.setdefault(message["segment"], []).append(shown)
    for segment in before.values():
        for earlier, later in zip(segment, segment[1:]):
            assert later.startswith(earlier)


def test_segments_end_at_pauses_and_at_length(start, quilter, quilter_offline):
    daemon = start(endpoint={"silence_ms": 200, "max_segment_ms": 2000})
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "talk", quilter)
    finals = subscriber.of("final", "talk")
    assert {final["reason"] for final in finals} >= {"pause", "length"}
    for before, after in zip(finals, finals[1:]):
        assert before["end_sample"] <= after["start_sample"]
        assert after["seq"] == after["segment"] == before["segment"] + 1
    assert subscriber.text("talk") == quilter_offline["text"]


def test_flush_comes_after_its_results_and_changes_nothing(daemon, quilter, quilter_offline):
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("f")
    middle = 370_002  # bytes; no multiple of a chunk
    feeder.feed(quilter[:middle])
    flushed = feeder.flush()
    assert flushed["id"] == "f" and flushed["samples"] == middle // 2
    if flushed["partials"]:
        subscriber.until(lambda m: m["type"] == "partial" and m["seq"] == flushed["partials"] - 1)
    assert len(subscriber.of("final", "f")) == flushed["finals"]
    feeder.feed(quilter[middle:])
    feeder.close()
    subscriber.until_closed("f")
    assert subscriber.words("f") == quilter_offline["words"]


def test_one_channel(daemon, stereo):
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "right", stereo, rate=44100, channels=2, channel=2)
    right = b"".join(stereo[i + 2:i + 4] for i in range(0, len(stereo), 4))
    stream_whole(daemon, subscriber, "mono", right, rate=44100)
    assert subscriber.words("right") == subscriber.words("mono") != []


def test_gap_is_silence_and_is_told(daemon, quilter):
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("g")
    first, lost, rest = quilter[:64000], 4800, quilter[64000:128000]
    feeder.feed(first)
    feeder.send(type="gap", stream="g", seq=feeder.seq, frames=lost)
    feeder.seq, feeder.sent = feeder.seq + 1, feeder.sent + lost
    feeder.feed(rest)
    closed = feeder.close()
    subscriber.until_closed("g")
    [gap] = subscriber.of("gap")
    assert (gap["start_sample"], gap["end_sample"], gap["reason"]) == (32000, 32000 + lost, "client")
    assert closed["samples"] == 64000 + lost
    assert subscriber.words("g") == transcribe("-", pcm=first + bytes(2 * lost) + rest)["words"]


def test_levels(start):
    daemon = start(results={"level_ms": 100})
    subscriber = Subscriber(daemon)
    square = struct.pack("<2h", 16384, -16384) * 800
    stream_whole(daemon, subscriber, "l", bytes(len(square)) + square, frames=1000)
    silent, loud = subscriber.of("level")
    assert (silent["rms_dbfs"], silent["peak_dbfs"]) == (-120, -120)
    assert (loud["rms_dbfs"], loud["peak_dbfs"]) == (-6.0, -6.0)
    assert (loud["start_sample"], loud["end_sample"]) == (1600, 3200)


def test_encodings(start, stereo):
    daemon = start(engine={"encodings": True})
    subscriber = Subscriber(daemon)
    bodies = {}
    for name, frames, dtype, size in ("a", 700, "float32", 4), ("b", 3000, "float32", 4), ("h", 1100, "float16", 2):
        stream_whole(daemon, subscriber, name, stereo, frames, rate=44100, channels=2, encodings=dtype)
        expected, bodies[name] = 0, b""
        for message in subscriber.of("encodings", name):
            assert message["first_frame"] == expected and message["dtype"] == dtype
            expected += message["frames"]
            part = subscriber.bodies[name, message["epoch"], message["seq"]]
            assert len(part) == message["frames"] * message["d_model"] * size
            bodies[name] += part
    assert bodies["a"] == bodies["b"] != b""  # the same bits however it was cut
    values = struct.unpack(f"<{len(bodies['a']) // 4}f", bodies["a"])
    assert struct.pack(f"<{len(values)}e", *values) == bodies["h"]  # rounded to nearest, ties to even


def test_files(daemon, stereo_offline):
    subscriber = Subscriber(daemon)
    opened = daemon.control(type="open", file=str(DATA / "stereo-44k.flac"), pace="fast", stream="file")
    assert opened["type"] == "opened" and opened["rate"] == 44100 and opened["channels"] == 2
    slow = daemon.control(type="open", file=str(DATA / "quilter.flac"))
    assert [s["stream"] for s in daemon.control(type="list")["streams"] if s["source"] == "file"]
    subscriber.until_closed("file")
    assert subscriber.words("file") == stereo_offline["words"]
    [closed] = subscriber.of("closed", "file")
    assert closed["reason"] == "end" and closed["end_sample"] == stereo_offline["samples"]
    assert daemon.control(type="close", stream=slow["stream"])["type"] == "closing"
    subscriber.until_closed(slow["stream"])
    [closed] = subscriber.of("closed", slow["stream"])
    assert closed["reason"] == "control"
    assert closed["end_sample"] < 23 * 16000 or closed["lag_ms"] >= 0
    for file, reason in ("/nonexistent", "bad_file"), (str(DATA / "README.md"), "bad_file"):
        assert daemon.control(type="open", file=file)["reason"] == reason
