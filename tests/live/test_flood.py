"""Hundreds of messages at once, of which several threads take their share (ingest.threads)."""

import random
import signal

import pytest
from harness import Feeder, Subscriber, cut

STREAMS = 12


@pytest.mark.parametrize("threads", [1, 3])
def test_what_came_while_the_daemon_stood_still(start, threads, quilter, quilter_offline):
    """Each stream's audio in its order, each fault answered where it belongs, a close and an open in their places."""
    daemon = start(ingest={"threads": threads}, limits={"streams": STREAMS + 1, "buffer_ms": 60_000})
    subscriber = Subscriber(daemon)
    rng = random.Random(threads)
    feeders = [Feeder(daemon) for _ in range(STREAMS)]
    for n, feeder in enumerate(feeders):
        feeder.open(f"f{n}")

    daemon.stop(signal.SIGSTOP)
    todo = [list(enumerate(cut(quilter, 2, frames=5_000 + 100 * n))) for n in range(STREAMS)]
    expected = [[] for _ in feeders]
    while any(todo):
        n = rng.choice([n for n in range(STREAMS) if todo[n]])
        name, feeder = f"f{n}", feeders[n]
        seq, body = todo[n].pop(0)
        wrong = rng.randrange(8)
        if wrong == 0:
            feeder.send(body, type="audio", stream=name, seq=seq + 1)
            expected[n].append(("error", "wrong_sequence", seq + 1))
        elif wrong == 1:
            feeder.send(body[:-1], type="audio", stream=name, seq=seq)
            expected[n].append(("error", "bad_audio", seq))
        elif wrong == 2 and seq > 0:
            feeder.send(body, type="audio", stream=name, seq=seq - 1)
            expected[n].append(("credit", None, None))
        elif wrong == 3:
            feeder.send(body, type="audio", stream=f"f{(n + 1) % STREAMS}", seq=0)  # another client's
            expected[n].append(("error", "unknown_stream", 0))
        feeder.send(body, type="audio", stream=name, seq=seq)
        if not todo[n]:
            feeder.send(type="close", stream=name, seq=seq + 1)
            expected[n].append(("closed", "client", seq + 1))
    late = Feeder(daemon)
    late.send(type="open", stream="late", rate=16000, format="s16le")
    late.send(quilter, type="audio", stream="late", seq=0)
    late.send(type="close", stream="late", seq=1)
    daemon.stop(signal.SIGCONT)

    for feeder, wanted in zip(feeders, expected):
        answers = []
        while not answers or answers[-1]["type"] != "closed":
            answers.append(feeder.receive())
        # Credit also comes by itself; what was sent before is answered with the next number at that time.
        told = [(a["type"], a.get("reason"), a["seq"] if a["type"] != "credit" else None) for a in answers]
        assert [t for t in told if t[0] != "credit"] == [w for w in wanted if w[0] != "credit"]
        assert sum(t[0] == "credit" for t in told) >= sum(w[0] == "credit" for w in wanted)
    late.until("opened")
    assert late.until("closed")["samples"] == len(quilter) // 2
    names = [f"f{n}" for n in range(STREAMS)] + ["late"]
    subscriber.until_closed(*names)
    for name in names:
        assert subscriber.words(name) == quilter_offline["words"]
