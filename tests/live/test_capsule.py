"""Streams that are saved, and go on here or in another process as if nothing had been."""

import json
import random
import signal
import subprocess

import pytest
import zmq
from harness import BIN, DATA, PATIENCE, Feeder, Subscriber, stream_whole, transcribe, validate
from test_security import entries, guarded, ring  # noqa: F401

SILENCE = {"endpoint": {"silence_ms": 400, "max_segment_ms": 4000, "detector": "both"}}  # several segments in each clip
OF_THE_TEXT = ("seq", "segment", "rate", "start_sample", "end_sample", "model_start_sample", "model_end_sample", "model",
               "reason", "committed", "tentative", "continues", "words", "readable")


def save(daemon, stream, **more):
    """The answer, and the capsule (None if there is none)."""
    return ask(daemon, type="save", stream=stream, **more)


def restore(daemon, capsule, **more):
    return ask(daemon, capsule, type="restore", **more)[0]


def ask(daemon, *body, **request):
    validate("control", {"v": 1, **request})
    with daemon.socket(zmq.REQ, "control") as socket:
        socket.send_multipart([json.dumps({"v": 1, **request}).encode(), *body])
        header, *frames = socket.recv_multipart()
        answer = validate("control", json.loads(header))
        assert bool(frames) == (answer["type"] == "saved")
        assert not frames or len(frames[0]) == answer["bytes"]
        return answer, (frames[0] if frames else None)


def taken(feeder):
    """All that it has sent: the control socket is another, and could be quicker."""
    feeder.ask("pong", type="ping", stream=feeder.stream, id="p")


def texts(finals):
    """What must be equal, bit for bit."""
    return [{key: final[key] for key in OF_THE_TEXT if key in final} for final in finals]


def undisturbed(daemon, pcm, **form):
    subscriber = Subscriber(daemon)
    stream_whole(daemon, subscriber, "whole", pcm, **form)
    return texts(subscriber.of("final", "whole"))


def kill(daemon):
    daemon.stop(signal.SIGKILL)
    daemon.process.wait(PATIENCE)
    daemon.context.destroy(linger=0)


def go_on(daemon, saved, **form):
    """The client of a restored stream, in a new process as it were."""
    feeder = Feeder(daemon)
    opened = feeder.open(saved["stream"], epoch=saved["epoch"], **form)
    assert (opened["epoch"], opened["seq"]) == (saved["epoch"], saved["seq"])
    feeder.sent = saved["samples"]
    return feeder


def move(first, second, pcm, cut, rng=None, **form):
    """Feeds pcm to the first daemon up to byte `cut`, to the second from there on. The subscribers of both."""
    before, after = Subscriber(first), Subscriber(second)
    feeder = Feeder(first)
    feeder.open("talk", **form)
    feeder.feed(pcm[:cut], rng)
    taken(feeder)
    answer, capsule = save(first, "talk", end=True)
    assert (answer["type"], answer["epoch"], answer["seq"], answer["samples"]) == ("saved", feeder.epoch, feeder.seq,
                                                                                  cut // feeder.frame_bytes)
    assert feeder.until("closed")["reason"] == "saved"
    before.until_closed("talk")
    assert len(before.of("final", "talk")) == answer["finals"]
    return before, after, answer, capsule


@pytest.mark.parametrize("style", ["words", "readable"])
def test_moved_in_mid_sentence_the_first_process_killed(start, quilter, style):
    sections = {**SILENCE, "text": {"style": style}}
    expected = undisturbed(start(**sections), quilter)
    assert len(expected) >= 3
    rng = random.Random(7)
    # The first cut is in the midst of a final's words.
    words = expected[1]["words"]
    cuts = [(words[0]["end_sample"] + words[-1]["start_sample"]) // 2, *(rng.randrange(1, len(quilter) // 2) for _ in range(4))]
    for cut in cuts[:3] if style == "readable" else cuts:
        first, second = start(**sections), start(**sections)
        before, after, saved, capsule = move(first, second, quilter, 2 * cut, rng)
        kill(first)
        opened = restore(second, capsule)
        assert opened == {**opened, "type": "opened", "stream": "talk", "epoch": saved["epoch"], "seq": saved["seq"],
                          "samples": cut, "finals": saved["finals"], "rate": 16000, "format": "s16le", "channels": 1}
        feeder = go_on(second, opened)
        feeder.feed(quilter[2 * cut:], rng)
        closed = feeder.close()
        after.until_closed("talk")
        assert texts(before.of("final", "talk") + after.of("final", "talk")) == expected, cut
        assert closed["finals"] == len(expected) and closed["samples"] == len(quilter) // 2
        told = after.of("opened", "talk")[0]
        assert told["restored"] and told["end_sample"] == cut and told["seq"] == 1
        assert after.of("closed", "talk")[0]["seq"] == 1, "the first was told by the first process"
        partials = before.of("partial", "talk")
        if partials and after.of("partial", "talk"):
            assert after.of("partial", "talk")[0]["seq"] == partials[-1]["seq"] + 1
        kept = second.control(type="history", stream="talk", **{"from": 0, "to": 99})
        assert texts(kept["finals"]) == expected[saved["finals"]:] and kept["next"] == len(expected)
        if saved["finals"] > 0:
            assert kept["gap"] == {"from": 0, "to": saved["finals"] - 1}


def test_moved_with_another_rate_channels_encodings_and_a_gap(start, stereo):
    sections = {**SILENCE, "engine": {"encodings": True}}
    form = {"rate": 44100, "channels": 2, "encodings": "float32"}
    whole = start(**sections)
    everything = Subscriber(whole)
    expected = undisturbed(whole, stereo, **form)
    everything.until_closed("whole")
    frames = b"".join(everything.bodies[key] for key in sorted(k for k in everything.bodies if k[0] == "whole"))
    for cut in (4 * 44_101, 4 * 99_999):
        first, second = start(**sections), start(**sections)
        before, after, saved, capsule = move(first, second, stereo, cut, **form)
        kill(first)
        feeder = go_on(second, restore(second, capsule), **form)
        feeder.feed(stereo[cut:])
        feeder.close()
        after.until_closed("talk")
        assert texts(before.of("final", "talk") + after.of("final", "talk")) == expected
        joined = [each.bodies[key] for each in (before, after) for key in sorted(k for k in each.bodies if k[0] == "talk")]
        assert b"".join(joined) == frames, "the encoder's output too, bit for bit"


def test_a_checkpoint_disturbs_nothing_and_a_copy_goes_its_own_way(start, quilter):
    daemon = start(**SILENCE)
    expected = undisturbed(daemon, quilter)
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter[:300_000])
    taken(feeder)
    saved, capsule = save(daemon, "talk")
    assert not saved["end"]
    refused = restore(daemon, capsule)
    assert (refused["type"], refused["reason"]) == ("refused", "in_use")
    copy = restore(daemon, capsule, stream="copy")
    assert copy["stream"] == "copy" and copy["epoch"] > saved["epoch"] and copy["finals"] == saved["finals"]
    other = go_on(daemon, copy)
    for each in (feeder, other):
        each.feed(quilter[300_000:])
        each.close()
    subscriber.until_closed("talk", "copy")
    assert texts(subscriber.of("final", "talk")) == expected
    assert texts(subscriber.of("final", "copy")) == expected[saved["finals"]:]


def test_restored_after_a_crash_from_a_checkpoint_says_the_same_again(start, quilter):
    """What was published after the checkpoint comes again, under the same numbers and with the same words."""
    first, second = start(**SILENCE), start(**SILENCE)
    before, after = Subscriber(first), Subscriber(second)
    feeder = Feeder(first)
    feeder.open("talk")
    feeder.feed(quilter[:200_000])
    taken(feeder)
    saved, capsule = save(first, "talk")
    feeder.feed(quilter[200_000:600_000])
    finals = feeder.flush()["finals"]
    while len(before.of("final", "talk")) < finals:
        before.receive()
    kill(first)
    feeder = go_on(second, restore(second, capsule))
    feeder.feed(quilter[200_000:])
    feeder.close()
    after.until_closed("talk")
    again = texts(after.of("final", "talk"))
    assert again[0]["seq"] == saved["finals"] < finals
    assert again[:finals - saved["finals"]] == texts(before.of("final", "talk"))[saved["finals"]:]


def test_hotwords_go_with_the_stream(start, quilter):
    daemon = start(**SILENCE)
    phrases = b"quilter\t3\napostle\nfestive season\t2"
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.send(phrases, type="open", stream="whole", rate=16000, format="s16le")
    feeder.until("opened")
    feeder.stream, feeder.frame_bytes = "whole", 2
    feeder.feed(quilter)
    feeder.close()
    subscriber.until_closed("whole")
    for cut in (30_000, 111_110, 256_000):
        name = f"talk{cut}"
        feeder = Feeder(daemon)
        feeder.send(phrases, type="open", stream=name, rate=16000, format="s16le")
        feeder.until("opened")
        feeder.stream, feeder.frame_bytes = name, 2
        feeder.feed(quilter[:2 * cut])
        taken(feeder)
        _, capsule = save(daemon, name, end=True)
        feeder.until("closed")
        feeder = go_on(daemon, restore(daemon, capsule))  # in the same process, under the same name
        feeder.feed(quilter[2 * cut:])
        feeder.close()
        subscriber.until(lambda m: m["type"] == "closed" and m["stream"] == name and m["reason"] == "client")
        assert texts(subscriber.of("final", name)) == texts(subscriber.of("final", "whole"))


def test_refusals(start, quilter):
    daemon, other = start(), start(decoder={"kind": "best-path"})
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter[:100_000])
    taken(feeder)
    _, capsule = save(daemon, "talk", end=True)
    feeder.until("closed")
    assert daemon.control(type="save", stream="nobody")["reason"] == "unknown_stream"
    daemon.control(type="open", file=str(DATA / "quilter.flac"), stream="file")
    answer = daemon.control(type="save", stream="file")
    assert (answer["reason"], answer["stream"]) == ("unsupported", "file")
    assert daemon.control(type="restore")["reason"] == "bad_message"
    for damaged in (b"", capsule[:40], capsule[:-1], capsule + b"x", bytes([capsule[0] ^ 1]) + capsule[1:],
                    capsule[:5000] + bytes([capsule[5000] ^ 4]) + capsule[5001:]):
        refused = restore(daemon, damaged)
        assert (refused["type"], refused["reason"]) == ("refused", "bad_capsule"), refused
    version = restore(daemon, capsule[:8] + bytes([9]) + capsule[9:])
    assert version["reason"] == "bad_capsule" and "version 9" in version["message"] and "version 2" in version["message"]
    refused = restore(other, capsule)
    assert refused["reason"] == "unsupported" and "decoder" in refused["message"]
    assert restore(daemon, capsule, stream="a/b")["reason"] == "bad_name"
    daemon.control(type="drain")
    assert restore(daemon, capsule)["reason"] == "draining"
    daemon.control(type="drain", on=False)
    opened = restore(daemon, capsule)
    assert opened["type"] == "opened"
    wrong = Feeder(daemon).ask("refused", type="open", stream="talk", epoch=opened["epoch"], rate=8000, format="s16le")
    assert wrong["reason"] == "bad_format"
    feeder = go_on(daemon, opened)
    feeder.feed(quilter[100_000:])
    assert feeder.close()["samples"] == len(quilter) // 2


def test_a_restored_stream_whose_client_never_comes_is_closed_as_idle(start, quilter):
    daemon = start(ingest={"idle_ms": 300})
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter[:200_000])
    taken(feeder)
    _, capsule = save(daemon, "talk", end=True)
    subscriber.until_closed("talk")
    restore(daemon, capsule)
    closed = subscriber.until(lambda m: m["type"] == "closed" and m["reason"] != "saved")
    assert (closed["stream"], closed["reason"], closed["seq"], closed["end_sample"]) == ("talk", "idle", 1, 100_000)
    assert subscriber.text("talk") == transcribe("-", pcm=quilter[:200_000])["text"]


def test_permissions_and_audit(guarded, ring, tmp_path, quilter):  # noqa: F811
    audit = tmp_path / "audit.jsonl"
    daemon = guarded(security={"audit": str(audit)}, feed={"publish": ["t*"]},
                     mover={"publish": ["t*"], "control": ["save", "restore"]},
                     other={"publish": ["x"], "control": ["save", "restore"]})
    daemon.keys = ring.keys("feed")
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter[:100_000])
    taken(feeder)
    assert save(daemon, "talk")[0]["reason"] == "not_allowed", "no control"
    daemon.keys = ring.keys("other")
    assert save(daemon, "talk")[0]["reason"] == "not_allowed", "not that stream"
    daemon.keys = ring.keys("mover")
    saved, capsule = save(daemon, "talk", end=True)
    assert feeder.until("closed")["reason"] == "saved"
    daemon.keys = ring.keys("other")
    assert restore(daemon, capsule)["reason"] == "not_allowed"
    assert restore(daemon, capsule, stream="x")["reason"] == "not_allowed", "its owner may not publish that"
    daemon.keys = ring.keys("mover")
    opened = restore(daemon, capsule)
    assert opened["type"] == "opened"
    # It is its feeder's still.
    thief = Feeder(daemon)
    form = {"type": "open", "stream": "talk", "epoch": opened["epoch"], "rate": 16000, "format": "s16le"}
    assert thief.ask("refused", **form)["reason"] == "not_allowed"
    daemon.keys = ring.keys("feed")
    go_on(daemon, opened).close()
    events = [e for e in entries(audit) if e["event"] in ("saved", "restored")
              or e["event"] == "refused" and e["action"] in ("save", "restore")]
    assert [(e["event"], e["key"]) for e in events] == [
        ("refused", "feed"), ("refused", "other"), ("saved", "mover"), ("refused", "other"), ("refused", "other"),
        ("restored", "mover")]
    assert events[2]["stream"] == "talk" and events[2]["epoch"] == saved["epoch"] and events[2]["end"] is True


def test_command_line(start, tmp_path, quilter, quilter_offline):
    first, second = start(), start()
    after, before = Subscriber(second), Subscriber(first)
    feeder = Feeder(first)
    feeder.open("talk")
    feeder.feed(quilter[:400_000])
    taken(feeder)
    file = tmp_path / "talk.capsule"

    def ctl(daemon, *arguments):
        return subprocess.run([BIN / "sidewinder", "ctl", "--control", daemon.endpoints["control"], *arguments],
                              capture_output=True, text=True, timeout=PATIENCE)

    assert ctl(first, "save", "nobody", file).returncode == 9
    assert not file.exists() and not [*tmp_path.glob("*.part")]
    done = ctl(first, "save", "talk", file, "--end")
    assert done.returncode == 0 and "talk: 200000 samples saved" in done.stdout, done.stderr
    done = ctl(second, "--json", "restore", file)
    opened = validate("control", json.loads(done.stdout))
    assert ctl(second, "restore", file).returncode == 9, "it is open"
    assert ctl(second, "restore", tmp_path / "none").returncode == 1
    feeder = go_on(second, opened)
    feeder.feed(quilter[400_000:])
    feeder.close()
    before.until_closed("talk")
    after.until_closed("talk")
    assert before.words("talk") + after.words("talk") == quilter_offline["words"]


@pytest.mark.parametrize("end", [False, True])
def test_saved_in_the_last_moment(start, quilter, end):
    """Ordered while audio waits; the daemon is told to stop before that is heard. What the save waits for is heard, and it is answered."""
    daemon = start(limits={"buffer_ms": 60_000}, engine={"threads": 1})
    feeder = Feeder(daemon)
    feeder.open("talk")
    feeder.feed(quilter, frames=8000)
    taken(feeder)
    with daemon.socket(zmq.DEALER, "control") as socket:
        for request in ({"type": "save", "stream": "talk", "end": end}, {"type": "stats", "id": "taken"}):
            socket.send_multipart([b"", json.dumps({"v": 1, **request}).encode()])
        answers = [socket.recv_multipart()]
        daemon.stop()
        answers.append(socket.recv_multipart())
    [saved] = [a for a in answers if json.loads(a[1])["type"] == "saved"]
    assert validate("control", json.loads(saved[1]))["samples"] == len(quilter) // 2
    assert feeder.until("closed")["reason"] == ("saved" if end else "shutdown")
    daemon.join()
    second = start()
    assert restore(second, saved[2])["samples"] == len(quilter) // 2
