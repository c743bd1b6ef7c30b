"""Clients that come late, vanish, repeat themselves or talk nonsense."""

import json
import os
import random
import struct
import subprocess
import sys
import time

import zmq
from harness import BIN, DATA, PATIENCE, Feeder, Subscriber, eventually, held, transcribe, validate

CLIENT_TO_KILL = """
import json, sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send_json({"v": 1, "type": "open", "stream": "victim", "rate": 16000, "format": "s16le"})
assert socket.recv_json()["type"] == "opened"
for seq in range(10):
    socket.send_multipart([json.dumps({"v": 1, "type": "audio", "stream": "victim", "seq": seq}).encode(), bytes(3200)])
socket.send_json({"v": 1, "type": "ping", "stream": "victim"})
while (answer := socket.recv_json())["type"] != "pong":
    pass
print(answer["seq"], flush=True)
sys.stdin.read()
"""


def test_resend_wrong_sequence_and_credit(daemon, stereo, stereo_offline):
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("r", rate=44100, channels=2)
    blocks = [stereo[i:i + 40_000] for i in range(0, len(stereo), 40_000)]
    for seq, block in enumerate(blocks):
        feeder.audio(block)
        feeder.send(block, type="audio", stream="r", seq=seq)  # taken already
        answer = feeder.receive()
        while answer["seq"] <= seq:
            answer = feeder.receive()
        assert answer["type"] == "credit"
        feeder.send(block, type="audio", stream="r", seq=seq + 7)
        error = feeder.until("error")
        assert (error["reason"], error["expected"], error["seq"]) == ("wrong_sequence", seq + 1, seq + 7)
    feeder.send(bytes(1_000_000), type="audio", stream="r", seq=feeder.seq)  # more than there can be credit for
    error = feeder.until("error")
    assert error["reason"] == "over_credit" and feeder.sent <= error["credit"] < feeder.sent + 250_000
    feeder.close()
    subscriber.until_closed("r")
    assert subscriber.words("r") == stereo_offline["words"]


def test_garbage(daemon, stereo, stereo_offline):
    """Answered, and nobody else's business."""
    subscriber = Subscriber(daemon)
    good = Feeder(daemon)
    good.open("good", rate=44100, channels=2)
    good.feed(stereo[:200_000])

    bad = daemon.socket(zmq.DEALER, "ingest")
    deep = b"[" * 4000
    for frames in ([b""], [b"{"], [b"\xff\x00"], [deep], [b"{}"], [b'{"v":1}'], [b'{"v":1,"type":"audio"}'], [b"x"] * 9,
                   [b'{"v":1,"type":"nonsense"}'], [b'{"v":1,"type":"ping"}', b"body"], [bytes(5000)],
                   [b'{"v":1,"type":"open","rate":16000}'], [b'{"v":1,"type":"ping","id":7}']):
        bad.send_multipart(frames)
        answer = validate("ingest", json.loads(bad.recv()))
        assert answer["type"] == "error" and answer["reason"] == "bad_message", (frames, answer)
    bad.send(b'{"v":2,"type":"ping","id":"x"}')
    assert json.loads(bad.recv())["reason"] == "version"
    bad.send_multipart([b'{"v":1,"type":"audio","stream":"good","seq":0}', b"xx"])  # another's
    assert json.loads(bad.recv())["reason"] == "unknown_stream"
    rng = random.Random(3)
    for _ in range(300):
        bad.send_multipart([rng.randbytes(rng.randint(0, 99)) for _ in range(rng.randint(1, 4))])
        assert json.loads(bad.recv())["type"] == "error"

    wrong = Feeder(daemon)
    wrong.open("wrong", format="f32le")
    for pcm in (b"", b"123", struct.pack("<f", float("nan")), struct.pack("<f", float("inf")), struct.pack("<f", 2e3)):
        wrong.send(pcm, type="audio", stream="wrong", seq=0)
        assert wrong.until("error")["reason"] == "bad_audio"
    wrong.send(type="audio", stream="wrong", seq=0)
    assert wrong.until("error")["reason"] == "bad_audio"
    assert wrong.close()["samples"] == 0

    huge = daemon.socket(zmq.DEALER, "ingest")  # cut off by ZeroMQ
    huge.send(bytes(64 << 20))
    for frames in ([b"{"], [b"a", b"b"], [b'{"v":1,"type":"list","id":' + b"9" * 99 + b"}"], [b'{"v":1,"type":"close"}'],
                   [b'{"v":1,"type":"history","stream":"good","from":-1,"to":3}']):
        assert daemon.control_raw(*frames)["reason"] == "bad_message"
    assert daemon.control_raw(b'{"v":1,"type":"close","stream":"\xf0\x9f\xa6\x80"}')["reason"] == "unknown_stream"

    good.feed(stereo[200_000:])
    good.close()
    subscriber.until_closed("good")
    assert subscriber.words("good") == stereo_offline["words"]


def test_client_that_waits_for_credit_is_not_idle(start, quilter, quilter_offline):
    """It says nothing because the daemon takes nothing."""
    idle_ms = 300
    daemon = start(ingest={"idle_ms": idle_ms})
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("slow")
    with held(daemon, "scheduler"):
        while feeder.sent + 1600 <= feeder.credit:
            feeder.audio(quilter[2 * feeder.sent:2 * feeder.sent + 3200])
        time.sleep(4 * idle_ms / 1000)  # too short would pass: the daemon may then not have looked
    feeder.feed(quilter[2 * feeder.sent:])
    assert feeder.close()["samples"] == len(quilter) // 2
    subscriber.until_closed("slow")
    assert subscriber.text("slow") == quilter_offline["text"]


def test_killed_client_is_closed_as_idle_with_all_it_sent(start):
    daemon = start(ingest={"idle_ms": 500})
    subscriber = Subscriber(daemon)
    client = subprocess.Popen([sys.executable, "-c", CLIENT_TO_KILL, daemon.endpoints["ingest"]], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout.readline() == "10\n"
    client.kill()
    client.wait()
    subscriber.until_closed("victim")
    [closed] = subscriber.of("closed", "victim")
    assert closed["reason"] == "idle" and closed["end_sample"] == 16000 and "500 ms" in closed["message"]
    assert daemon.control(type="list")["streams"] == []


def test_resume_from_another_connection(daemon, stereo, stereo_offline):
    subscriber = Subscriber(daemon)
    first = Feeder(daemon)
    first.open("m", rate=44100, channels=2)
    first.feed(stereo[:400_000])
    taken = first.ask("pong", type="ping", stream="m")
    assert taken["seq"] == first.seq
    second = Feeder(daemon)
    form = {"type": "open", "stream": "m", "rate": 44100, "channels": 2}
    assert second.ask("refused", format="s16le", **form)["reason"] == "in_use"
    assert second.ask("refused", format="s16le", epoch=first.epoch - 1, **form)["reason"] == "unknown_stream"
    assert second.ask("refused", format="f32le", epoch=first.epoch, **form)["reason"] == "bad_format"
    opened = second.open("m", rate=44100, channels=2, epoch=first.epoch)
    assert opened["seq"] == first.seq and opened["epoch"] == first.epoch
    second.sent = first.sent
    first.send(b"1234", type="audio", stream="m", seq=first.seq)
    assert first.until("error")["reason"] == "unknown_stream"
    second.feed(stereo[400_000:])
    second.close()
    subscriber.until_closed("m")
    assert subscriber.words("m") == stereo_offline["words"]


def test_open_again_is_the_same(daemon):
    feeder = Feeder(daemon)
    first = feeder.open("o")
    feeder.feed(bytes(3200))
    again = feeder.open("o")
    assert again["epoch"] == first["epoch"] and again["seq"] == 1
    feeder.close()
    assert feeder.open("o")["epoch"] > first["epoch"]
    feeder.close()


def test_refusals(start):
    daemon = start(limits={"streams": 2})
    feeders = [Feeder(daemon) for _ in range(3)]
    feeders[0].open("one")
    feeders[1].open("two")
    form = {"type": "open", "rate": 16000, "format": "s16le"}
    full = feeders[2].ask("refused", stream="three", id="x", **form)
    assert full["reason"] == "full" and full["id"] == "x" and full["stream"] == "three"
    assert daemon.control(type="open", file=str(os.path.realpath(__file__)))["reason"] == "bad_file"
    assert daemon.get("/readyz")[0] == 503
    feeders[0].close()
    assert feeders[2].ask("refused", stream="two", **form)["reason"] == "in_use"
    for wrong, reason in ({"rate": 7000}, "bad_format"), ({"format": "mp3"}, "bad_format"), (
            {"stream": "a/b"}, "bad_name"), ({"encodings": "float32"}, "unsupported"):
        message = {"v": 1, **form, **wrong}  # not a valid message, so not validated
        feeders[2].socket.send(json.dumps(message).encode())
        assert feeders[2].until("refused")["reason"] == reason
    assert daemon.control(type="drain")["streams"] == 1
    assert feeders[2].ask("refused", **form)["reason"] == "draining"
    assert daemon.get("/readyz") == (503, "draining: the daemon takes no new streams at the moment\n")
    daemon.control(type="drain", on=False)
    feeders[2].open("three")


def test_too_many_flushes(daemon):
    feeder = Feeder(daemon)
    feeder.open("f")
    for _ in range(200):
        feeder.send(type="flush", stream="f", id="n")
    answers = [feeder.until("flushed", "error") for _ in range(200)]
    assert {a["type"] for a in answers} <= {"flushed", "error"}
    assert all(a["reason"] == "too_many" for a in answers if a["type"] == "error")
    assert all(a["id"] == "n" for a in answers)
    feeder.close()


def test_late_subscriber_gets_the_last_values(start, quilter):
    daemon = start(endpoint={"silence_ms": 200})
    early = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("late")
    feeder.feed(quilter[:600_000])
    flushed = feeder.flush()
    assert flushed["finals"] and flushed["partials"]
    late = Subscriber(daemon, "late/")
    opened, final = late.replays[:2]
    assert opened["type"] == "opened" and final["type"] == "final" and final["seq"] == flushed["finals"] - 1
    feeder.feed(quilter[600_000:])
    feeder.close()
    late.until_closed("late")
    early.until_closed("late")
    del final["replay"]
    assert final == early.of("final", "late")[flushed["finals"] - 1]


def test_history(start, quilter):
    daemon = start(endpoint={"silence_ms": 120}, history={"finals": 3, "streams": 1})
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)
    feeder.open("h")
    assert daemon.control_raw(b'{"v":1,"type":"history","stream":"none","from":0,"to":1}')["reason"] == "unknown_stream"
    feeder.feed(quilter)
    feeder.close()
    subscriber.until_closed("h")
    finals = subscriber.of("final", "h")
    count = len(finals)
    assert count > 4
    kept = daemon.control(type="history", stream="h", **{"from": 0, "to": 99})
    for final in kept["finals"]:
        validate("results", final)
    assert kept["finals"] == finals[-3:] and kept["next"] == count
    assert kept["gap"] == {"from": 0, "to": count - 4}
    some = daemon.control(type="history", stream="h", epoch=feeder.epoch, **{"from": count - 2, "to": count - 2})
    assert some["finals"] == [finals[-2]] and "gap" not in some
    other = Feeder(daemon)
    other.open("i")
    other.close()
    gone = eventually(lambda: (r := daemon.control(type="history", stream="h", **{"from": 0, "to": 1}))["type"] == "error"
                      and r)
    assert gone["reason"] == "unknown_stream"


def test_unread_subscriber_and_unread_answers_hold_nobody_up(start, stereo, stereo_offline):
    daemon = start(results={"high_water_mark": 100})
    deaf = daemon.socket(zmq.SUB, "results")
    deaf.rcvhwm = 1
    deaf.subscribe("")
    subscriber = Subscriber(daemon, "s/final/")
    mute = daemon.socket(zmq.DEALER, "ingest")
    for _ in range(3000):
        mute.send(b'{"v":1,"type":"ping"}')
    feeder = Feeder(daemon)
    feeder.open("s", rate=44100, channels=2)
    feeder.feed(stereo)
    feeder.close()
    while subscriber.text("s") != stereo_offline["text"]:
        subscriber.receive()


def hotwords(feeder, phrases, answer="hotwords_set"):
    feeder.send(phrases.encode(), type="hotwords", stream=feeder.stream, id="h")
    return feeder.until(answer)


def test_hotwords_hold_from_their_sample_on_however_the_audio_comes(start, quilter):
    """The same change at the same place gives the same words; a strong enough phrase gets in, and out again."""
    daemon = start(decoder={"kind": "beam"}, scheduler={"chunk_ms": 320})
    subscriber = Subscriber(daemon)
    place = 5 * 16000 * 2  # bytes
    heard = {}
    for name, frames in ("a", 160), ("b", 1111), ("c", 16000):
        feeder = Feeder(daemon)
        feeder.open(name)
        feeder.feed(quilter[:place], frames=frames)
        assert hotwords(feeder, "zebra\t10\n# a list\nQuilters ox\t10\n")["phrases"] == 2
        feeder.feed(quilter[place:2 * place], frames=frames)
        assert hotwords(feeder, "")["phrases"] == 0
        feeder.feed(quilter[2 * place:], frames=frames)
        feeder.close()
        subscriber.until_closed(name)
        heard[name] = subscriber.words(name)
    assert heard["a"] == heard["b"] == heard["c"]


def test_hotwords_are_favoured(start, quilter):
    """Words of the recording as the daemon's own list, as a stream's list, and taken back: another text."""
    def text(daemon, *body):
        with_body = Subscriber(daemon)
        feeder = Feeder(daemon)
        if body:
            feeder.send(*body, type="open", stream="s", rate=16000, format="s16le")
            opened = feeder.until("opened")
            feeder.stream, feeder.seq, feeder.frame_bytes = opened["stream"], opened["seq"], 2
        else:
            feeder.open("s")
        feeder.feed(quilter)
        feeder.close()
        with_body.until_closed("s")
        return with_body.text("s")

    def offline(*options):
        words = transcribe(DATA / "quilter.flac", "--decoder", "beam", *options)["words"]
        return " ".join(word["word"] for word in words)

    plain = start(decoder={"kind": "beam"})
    without = text(plain)
    assert without == offline()
    # A word that sounds like one that was heard, boosted beyond doubt.
    favoured = without.split()[1] + "s"
    strong = f"{favoured}\t10\n"
    assert favoured not in without.split()
    changed = text(plain, strong.encode())
    assert changed != without
    assert text(plain) == without  # the stream before has taken its list with it
    file = plain.config.parent / "hotwords.txt"
    file.write_text(strong)
    listed = start(decoder={"kind": "beam", "hotwords": str(file)})
    assert text(listed) == changed
    assert text(listed, b"") == without
    assert offline("--hotwords", file) == changed
    # The command line's clients bring theirs from a file.
    recording = file.parent / "quilter.wav"
    subprocess.run(["sox", DATA / "quilter.flac", recording], check=True)
    heard = Subscriber(plain)
    send = [BIN / "sidewinder", "send", recording, "--fast", "--stream", "sent", "--ingest", plain.endpoints["ingest"], "--hotwords"]
    subprocess.run([*send, file], check=True, timeout=PATIENCE)
    heard.until_closed("sent")
    assert heard.text("sent") == changed
    # So does a file that the daemon itself opens.
    ctl = [BIN / "sidewinder", "ctl", "--control", plain.endpoints["control"], "open", recording, "--fast", "--stream", "opened", "--hotwords"]
    subprocess.run([*ctl, file], check=True, timeout=PATIENCE)
    heard.until_closed("opened")
    assert heard.text("opened") == changed
    file.write_text("route 66")
    for command in send, ctl:
        refused = subprocess.run([*command, file], capture_output=True, text=True, timeout=PATIENCE)
        assert refused.returncode == 9 and '"route 66" has a digit' in refused.stderr, refused.stderr
    file.write_text("")
    empty = subprocess.run([*send, file], capture_output=True, text=True, timeout=PATIENCE)
    assert empty.returncode == 2 and "is empty; give a phrase a line" in empty.stderr, empty.stderr


def test_bad_hotwords_are_refused_by_name(start):
    daemon = start(decoder={"kind": "beam"})
    feeder = Feeder(daemon)
    form = {"type": "open", "stream": "s", "rate": 16000, "format": "s16le"}
    feeder.send(b"route 66", **form)
    refused = feeder.until("refused")
    assert refused["reason"] == "bad_hotwords" and '"route 66" has a digit' in refused["message"]
    feeder.open("s")
    for bad in "na\u00efve", "bath\tloud", "bath\t11", "x" * 101, "bath\n" * 2001:
        answer = hotwords(feeder, bad, "error")
        assert answer["reason"] == "bad_hotwords" and answer["id"] == "h" and answer["message"], answer
    feeder.send(b"x", type="flush", stream="s")
    assert feeder.until("error")["reason"] == "bad_message"
    feeder.close()
    best_path = start(decoder={"kind": "best-path"})
    feeder = Feeder(best_path)
    feeder.send(b"bath", **form)
    assert feeder.until("refused")["reason"] == "unsupported"
    feeder.open("s")
    assert hotwords(feeder, "bath", "error")["reason"] == "unsupported"
    assert hotwords(feeder, "")["phrases"] == 0
