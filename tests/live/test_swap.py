"""A model swapped under live streams: what the one before has said stays, the new one goes on, no sample is lost."""

import json
import pathlib
import shutil
import struct
import subprocess

import pytest
import zmq
from harness import BIN, PATIENCE, ROOT, Feeder, Subscriber, eventually, stream_whole, transcribe, validate
from test_capsule import SILENCE, ask, go_on, restore, save, taken, texts
from test_security import entries, guarded, ring  # noqa: F401

PRETRAINED = ROOT / "model" / "pretrained"
FOR_EVER = 86_400_000  # within_ms: at a pause, or not at all
ENCODED = {"endpoint": {"silence_ms": 400}, "engine": {"encodings": True}}


def variant(folder, bias=0.5):
    """The default model, but surer of blanks: other words here and there, and another hash."""
    folder.mkdir(parents=True)
    for file in PRETRAINED.iterdir():
        if file.is_dir():
            (folder / file.name).symlink_to(file)
        elif file.name != "model.safetensors":
            shutil.copy(file, folder)
    data = bytearray((PRETRAINED / "model.safetensors").read_bytes())
    header = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + header])["ctc_head.bias"]
    begin = 8 + header + entry["data_offsets"][0]
    form = {"F32": "<f", "F16": "<e"}[entry["dtype"]]
    struct.pack_into(form, data, begin, struct.unpack_from(form, data, begin)[0] + bias)
    (folder / "model.safetensors").write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    return variant(tmp_path_factory.mktemp("models") / "other")


def swap(daemon, folder, **more):
    return daemon.control(type="swap_model", folder=str(folder), **more)


def swapped(daemon, folder, **more):
    answer = swap(daemon, folder, **more)
    assert answer["type"] == "swapping", answer
    return answer


def settled(daemon):
    """Every stream has moved, and the model before is freed."""
    return eventually(lambda: not (stats := daemon.control(type="stats"))["swapping"] and stats)


def on(subscriber, kind, stream, model):
    return [m for m in subscriber.of(kind, stream) if m["model"] == model]


def origin(subscriber, stream, model):
    """Where the model began: its first frame says it."""
    first = on(subscriber, "encodings", stream, model)[0]
    assert first["first_frame"] == 0
    return first["model_start_sample"]


def words_from(model, pcm, begin):
    """What a model alone hears that begins at a sample."""
    words = transcribe("-", pcm=pcm[2 * begin:], model=model)["words"]
    return [(w["word"], w["start_sample"] + begin, w["end_sample"] + begin, w["confidence"]) for w in words]


def words_of(finals):
    """A word that a segment's end cut in two is one, of no confidence."""
    words = []
    for final in finals:
        its = [(w["word"], w["start_sample"], w["end_sample"], w["confidence"]) for w in final["words"]]
        if final["continues"] and words:
            word, begin, *_ = words.pop()
            its[0] = (word + its[0][0], begin, its[0][2], None)
        words += its
    return words


def check_words(finals, model, pcm, begin):
    """They are what the model alone hears from there on, which joins a word that was cut in two."""
    live, alone = words_of(finals), words_from(model, pcm, begin)
    assert [w[:3] for w in live] == [w[:3] for w in alone]
    assert all(a[3] in (None, b[3]) for a, b in zip(live, alone))


def in_the_midst(finals):
    """Bytes of 16-bit PCM until the longest segment that is not the last is half said: some of its words are out."""
    words = max((final["words"] for final in finals[:-1]), key=len)
    return 2 * words[len(words) // 2]["end_sample"]


def check_frames(subscriber, stream, hop=640):
    """The frames of each model follow each other; the second's begin where the first's end, or in the pause before."""
    runs = []
    for message in subscriber.of("encodings", stream):
        if not runs or runs[-1][0] != message["model"]:
            runs.append([message["model"], message["model_start_sample"], message["model_start_sample"]])
            assert message["first_frame"] == 0
        assert message["model_start_sample"] == runs[-1][2]
        assert message["model_end_sample"] == message["model_start_sample"] + message["frames"] * hop
        runs[-1][2] = message["model_end_sample"]
    return runs


def test_at_a_pause_the_words_are_those_of_each_model_alone(start, quilter, other):
    daemon = start(**ENCODED)
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "whole", quilter)
    expected = subscriber.of("final", "whole")
    cut = in_the_midst(expected)
    feeder = Feeder(daemon)
    before = feeder.open("talk", encodings="float32")["model"]
    feeder.feed(quilter[:cut])
    feeder.flush()
    answer = swapped(daemon, other, within_ms=FOR_EVER)
    assert answer["before"] == before == expected[0]["model"] and answer["streams"] == 1
    stats = daemon.control(type="stats")
    assert stats["model"] == answer["model"] and stats["swapping"] and stats["moving"] == 1
    assert f'model="{answer["model"]}"' in daemon.get("/metrics")[1] and before not in daemon.get("/metrics")[1]
    assert "sidewinder_streams_moving 1" in daemon.get("/metrics")[1]
    # One that is opened now is on the new model, in the same steps as the one that has not moved.
    fresh = Feeder(daemon)
    assert fresh.open("fresh")["model"] == answer["model"]
    fresh.feed(quilter[:cut])
    feeder.feed(quilter[cut:])
    fresh.feed(quilter[cut:])
    closed = feeder.close()
    fresh.close()
    subscriber.until_closed("talk", "fresh")
    settled(daemon)

    talk = subscriber.of("final", "talk")
    old, new = on(subscriber, "final", "talk", before), on(subscriber, "final", "talk", answer["model"])
    assert talk == old + new and old and new
    assert [f["seq"] for f in talk] == [f["segment"] for f in talk] == list(range(closed["finals"]))
    assert texts(old) == texts(expected[:len(old)]), "as if nothing had been asked"
    assert in_the_midst(expected) < 2 * old[-1]["end_sample"]
    begin = origin(subscriber, "talk", answer["model"])
    check_words(new, other, quilter, begin)
    first, second = check_frames(subscriber, "talk")
    assert second[1] <= first[2] <= second[1] + 6400
    check_words(subscriber.of("final", "fresh"), other, quilter, 0)
    for kind in ("opened", "closed"):
        assert [m["seq"] for m in subscriber.of(kind, "talk")] == [0]
    assert subscriber.of("closed", "talk")[0]["end_sample"] == len(quilter) // 2


def test_at_once_the_open_segment_ends_and_no_sample_is_lost(start, quilter, other):
    daemon = start(**ENCODED)
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "whole", quilter)
    cut = in_the_midst(subscriber.of("final", "whole"))
    feeder = Feeder(daemon)
    before = feeder.open("talk", encodings="float32")["model"]
    feeder.feed(quilter[:cut])
    feeder.flush()
    answer = swapped(daemon, other, within_ms=0)
    ended = subscriber.until(lambda m: m["type"] == "final" and m["stream"] == "talk" and m["reason"] == "model")
    settled(daemon)  # though no audio comes
    assert ended["model"] == before and ended["words"]
    feeder.feed(quilter[cut:])
    feeder.close()
    subscriber.until_closed("talk")
    begin = origin(subscriber, "talk", answer["model"])
    first, second = check_frames(subscriber, "talk")
    assert second[1] == first[2] == begin == ended["model_end_sample"], "a frame of the one, then one of the other"
    assert begin <= cut // 2
    talk = subscriber.of("final", "talk")
    assert [f["seq"] for f in talk] == [f["segment"] for f in talk] == list(range(len(talk)))
    new = [f for f in talk if f["seq"] > ended["seq"]]
    assert {f["model"] for f in new} == {answer["model"]}
    check_words(new, other, quilter, begin)
    assert all(w["end_sample"] <= begin for f in talk[:ended["seq"] + 1] for w in f["words"])
    levels = subscriber.of("level", "talk")
    assert [m["start_sample"] for m in levels] == [16_000 * i for i in range(len(levels))]


def test_other_rates_readable_text_and_streams_of_files(start, stereo, quilter, other):
    daemon = start(**SILENCE, text={"style": "readable"})
    subscriber = Subscriber(daemon)
    feeder, silent = Feeder(daemon), Feeder(daemon)
    before = feeder.open("talk", rate=44100, channels=2)["model"]
    silent.open("silent")
    feeder.feed(stereo[:len(stereo) // 2 // 4 * 4])
    daemon.control(type="open", file=str(ROOT / "tests" / "data" / "quilter.flac"), stream="file")
    feeder.flush()
    answer = swapped(daemon, other, within_ms=100)
    settled(daemon)
    feeder.feed(stereo[len(stereo) // 2 // 4 * 4:])
    silent.feed(quilter)
    closed = feeder.close()
    silent.close()
    daemon.control(type="close", stream="file")
    subscriber.until_closed("talk", "silent", "file")
    assert closed["samples"] == len(stereo) // 4
    assert on(subscriber, "final", "talk", before) and on(subscriber, "final", "talk", answer["model"])
    check_words(subscriber.of("final", "silent"), other, quilter, 0)
    for final in subscriber.of("final"):
        assert final["readable"]["committed"] == " ".join(w["display"] for w in final["words"] if w["display"])
    assert subscriber.of("closed", "file")[0]["model"] == answer["model"]


def test_hotwords_go_along(start, quilter, other):
    daemon = start(**SILENCE)
    feeder = Feeder(daemon)
    feeder.send(b"quilter\t10\napostle", type="open", stream="talk", rate=16000, format="s16le")
    feeder.until("opened")
    feeder.stream, feeder.frame_bytes = "talk", 2
    swapped(daemon, other)
    settled(daemon)  # nothing was heard yet: it moves at once
    subscriber = Subscriber(daemon)
    alone = Feeder(daemon)
    alone.send(b"quilter\t10\napostle", type="open", stream="alone", rate=16000, format="s16le")
    alone.until("opened")
    alone.stream, alone.frame_bytes = "alone", 2
    for each in (feeder, alone):
        each.feed(quilter)
        each.close()
    subscriber.until_closed("talk", "alone")
    assert texts(subscriber.of("final", "talk")) == texts(subscriber.of("final", "alone"))
    assert "quilter" in subscriber.text("talk") and "quilter" not in transcribe("-", pcm=quilter, model=other)["text"]


def test_a_stream_that_has_moved_is_saved_and_restored_bit_for_bit(start, quilter, other):
    sections = {**SILENCE, "model": {"folder": str(other)}}
    daemon, second = start(**SILENCE), start(**sections)
    here, there = Subscriber(daemon), Subscriber(second)
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter[:200_000])
    feeder.flush()
    _, stale = save(daemon, "talk")
    answer = swapped(daemon, other, within_ms=0)
    settled(daemon)
    for cut in (200_000, 310_002):  # what is to be heard again still waits at the first
        feeder.feed(quilter[2 * (feeder.sent):cut])
        taken(feeder)
        saved, capsule = save(daemon, "talk")
        assert saved["model"] == answer["model"]
        copy = restore(second, capsule, stream=f"copy{cut}")
        other_feeder = go_on(second, copy)
        other_feeder.feed(quilter[cut:])
        other_feeder.close()
    refused = restore(daemon, stale, stream="stale")
    assert (refused["type"], refused["reason"]) == ("refused", "other_model")
    feeder.feed(quilter[2 * feeder.sent:])
    feeder.close()
    here.until_closed("talk")
    for cut in (200_000, 310_002):
        there.until_closed(f"copy{cut}")
        copied = texts(there.of("final", f"copy{cut}"))
        assert copied and copied == texts(here.of("final", "talk"))[-len(copied):]
    # And back to the first model, from a restored stream that has heard little since.
    copy = restore(second, capsule, stream="back")
    swapped(second, PRETRAINED, within_ms=0)
    settled(second)
    feeder = go_on(second, copy)
    feeder.feed(quilter[2 * feeder.sent:])
    feeder.close()
    there.until_closed("back")
    assert there.of("closed", "back")[0]["model"] == answer["before"]


def test_refusals_change_nothing(start, quilter, other, tmp_path):
    daemon = start(text={"style": "readable"}, decoder={"stability": "steady"})
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    model = feeder.open("talk")["model"]
    feeder.feed(quilter[:300_000])

    def refused(folder, **more):
        answer = swap(daemon, folder, **more)
        assert answer["type"] == "refused", answer
        return answer["reason"], answer["message"]

    reason, message = refused(tmp_path / "none")
    assert reason == "bad_model" and "none/config.json" in message
    damaged = variant(tmp_path / "damaged")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    reason, message = refused(damaged)
    assert reason == "bad_model" and "truncated" in message
    slow = variant(tmp_path / "slow")
    config = json.loads((slow / "config.json").read_text())
    (slow / "config.json").write_text(json.dumps({**config, "sample_rate": 8000,
                                                  "features": {**config["features"], "f_max": 3800.0}}))
    reason, message = refused(slow)
    assert reason == "unsupported" and "8000 Hz" in message and "16000 Hz" in message
    mute = variant(tmp_path / "mute")
    (mute / "punctuation").unlink()
    reason, message = refused(mute)
    assert reason == "unsupported" and "punctuation" in message
    hasty = variant(tmp_path / "hasty")
    decoder = json.loads((hasty / "decoder.json").read_text())
    (hasty / "decoder.json").write_text(json.dumps({**decoder, "stability": {"quick": {"settle_frames": 5}}}))
    reason, message = refused(hasty)
    assert reason == "unsupported" and "steady" in message and "choose one of quick" in message
    assert daemon.control_raw(b'{"v":1,"type":"swap_model"}')["reason"] == "bad_message"
    assert daemon.control_raw(json.dumps({"v": 1, "type": "swap_model", "folder": "x", "within_ms": -1}).encode(
        ))["reason"] == "bad_message"
    # Two at once: the first is loading, or its streams are to move, when the second comes.
    with daemon.socket(zmq.DEALER, "control") as socket:
        for _ in range(2):
            socket.send_multipart([b"", json.dumps({"v": 1, "type": "swap_model", "folder": str(other),
                                                    "within_ms": FOR_EVER}).encode()])
        answers = [validate("control", json.loads(socket.recv_multipart()[1])) for _ in range(2)]
    assert sorted(a["type"] for a in answers) == ["refused", "swapping"]
    assert [a["reason"] for a in answers if a["type"] == "refused"] == ["busy"]
    feeder.feed(quilter[300_000:])
    feeder.close()
    subscriber.until_closed("talk")
    assert {f["model"] for f in subscriber.of("final", "talk")[:1]} == {model}
    assert settled(daemon)["model"] != model


def test_permission_and_audit(guarded, ring, tmp_path, other):  # noqa: F811
    audit = tmp_path / "audit.jsonl"
    daemon = guarded(security={"audit": str(audit)}, feed={"control": ["stats"]},
                     operator={"control": ["swap_model", "stats"]})
    daemon.keys = ring.keys("feed")
    assert swap(daemon, other)["reason"] == "not_allowed"
    daemon.keys = ring.keys("operator")
    answer = swapped(daemon, other)
    settled(daemon)
    assert swap(daemon, tmp_path)["reason"] == "bad_model"
    events = [e for e in entries(audit) if e["event"] == "swapped" or e.get("action") == "swap_model"]
    assert [(e["event"], e["key"]) for e in events] == [("refused", "feed"), ("swapped", "operator"), ("refused", "operator")]
    assert events[1]["model"] == answer["model"] and events[1]["folder"] == str(other) and events[1]["streams"] == 0
    assert events[2]["reason"] == "bad_model" and events[2]["folder"] == str(tmp_path)


@pytest.mark.memory
def test_memory_is_given_back(start, quilter, other):
    daemon = start(**SILENCE, limits={"streams": 64, "load_percent": 75})
    feeder = Feeder(daemon)
    feeder.open("talk")

    def resident():
        return int(next(line.split()[1] for line in pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text(
            ).splitlines() if line.startswith("VmRSS")))

    sizes = []
    for number in range(6):
        swapped(daemon, other if number % 2 == 0 else PRETRAINED, within_ms=0)
        feeder.feed(quilter[:64_000])
        feeder.flush()
        settled(daemon)
        sizes.append(resident())
    feeder.close()
    print(f"KiB resident after each swap: {sizes}")
    assert max(sizes[1:]) < 1.05 * sizes[0], sizes


@pytest.mark.parametrize("moving", [False, True])
def test_stopped_in_the_midst(start, manager, quilter, other, moving):
    daemon = start(**SILENCE, limits={"load_percent": 75})
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter[:200_000])
    feeder.flush()
    with daemon.socket(zmq.DEALER, "control") as socket:
        socket.send_multipart([b"", json.dumps({"v": 1, "type": "swap_model", "folder": str(other),
                                                "within_ms": FOR_EVER}).encode()])
        if moving:
            assert json.loads(socket.recv_multipart()[1])["type"] == "swapping"
            manager.until("WATCHDOG=1")  # every thread gets on
        else:
            eventually(lambda: daemon.control(type="stats")["swapping"])
        daemon.stop()
        assert feeder.until("closed")["reason"] == "shutdown"
        if not moving:
            answer = validate("control", json.loads(socket.recv_multipart()[1]))
            assert (answer["type"], answer["reason"]) == ("refused", "draining")
    daemon.join()


def test_command_line(daemon, other, tmp_path):
    def ctl(*arguments):
        return subprocess.run([BIN / "sidewinder", "ctl", "--control", daemon.endpoints["control"], *arguments],
                              capture_output=True, text=True, timeout=PATIENCE)

    done = ctl("swap", other, "--within", "0.5")
    assert done.returncode == 0 and "0 streams are to move" in done.stdout, done.stderr
    model = settled(daemon)["model"]
    assert model in done.stdout
    done = ctl("--json", "swap", PRETRAINED)
    assert validate("control", json.loads(done.stdout))["before"] == model
    settled(daemon)
    done = ctl("swap", tmp_path)
    assert done.returncode == 9 and "config.json" in done.stderr
    assert ctl("swap", other, "--within", "-1").returncode == 2
    assert "moving" not in ctl("stats").stdout
