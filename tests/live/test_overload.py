"""More audio than the engine can take: who is in stays in and is told; who is not is told why."""

from harness import Feeder, Subscriber, eventually


def test_behind_is_told_and_new_streams_wait(start, quilter):
    """Everything that the credit allows at once is seconds of work: every stream falls behind, and catches up."""
    daemon = start(scheduler={"behind_ms": 10}, limits={"streams": 4, "buffer_ms": 30_000}, engine={"threads": 1})
    subscriber = Subscriber(daemon)
    feeders = [Feeder(daemon) for _ in range(3)]
    for number, feeder in enumerate(feeders):
        feeder.open(f"b{number}")
    for feeder in feeders:
        feeder.feed(quilter, frames=16_000)
    late = subscriber.until(lambda m: m["type"] == "behind")
    assert late["behind"] and late["lag_ms"] > 10
    for feeder in feeders:
        feeder.close()
    subscriber.until_closed(*(feeder.stream for feeder in feeders))
    for feeder in feeders:  # behind and not behind take turns
        states = [m["behind"] for m in subscriber.of("behind", feeder.stream)]
        assert states and states == [i % 2 == 0 for i in range(len(states))]
    texts = {subscriber.text(feeder.stream) for feeder in feeders}
    assert len(texts) == 1 and texts != {""}  # and nothing was lost
    newcomer = Feeder(daemon)
    newcomer.open("later")  # nobody is behind any more
    newcomer.close()


def test_refused_while_behind(start, quilter):
    daemon = start(scheduler={"behind_ms": 10}, limits={"streams": 4, "buffer_ms": 30_000}, engine={"threads": 1})
    subscriber = Subscriber(daemon)
    feeder, other = Feeder(daemon), Feeder(daemon)
    feeder.open("b")
    refused = None
    while refused is None:  # until the newcomer asks at such a moment
        feeder.feed(quilter[:320_000], frames=16_000)
        other.send(type="open", rate=16000, format="s16le", stream="n")
        answer = other.receive()
        if answer["type"] == "refused":
            refused = answer
        else:
            other.stream = "n"
            other.close()
    assert refused["reason"] == "full" and "behind" in refused["message"]
    feeder.close()
    subscriber.until_closed("b")


def test_admission_by_measured_capacity(start):
    """One per cent of what the engine can do is less than the slots there are."""
    daemon = start(limits={"streams": 1000, "load_percent": 1}, engine={"threads": 1})
    capacity = daemon.control(type="stats")["capacity"]
    assert 1 <= capacity < 1000
    feeders = [Feeder(daemon) for _ in range(capacity)]
    for feeder in feeders:
        feeder.open()
    assert daemon.get("/readyz")[0] == 503
    newcomer = Feeder(daemon)
    newcomer.send(type="open", rate=16000, format="s16le")
    refused = newcomer.receive()
    assert refused["type"] == "refused" and refused["reason"] == "full"
    assert f"measured to carry {capacity} streams" in refused["message"]
    assert f"sidewinder_capacity_streams {capacity}\n" in daemon.get("/metrics")[1]
    feeders[0].close()
    eventually(lambda: daemon.get("/readyz")[0] == 200)
    newcomer.open()
    for feeder in [*feeders[1:], newcomer]:
        feeder.close()


def test_trace(start, quilter):
    daemon = start()
    feeder = Feeder(daemon)
    feeder.open("t")
    unknown = daemon.control(type="trace", stream="nobody", on=True)
    assert unknown["reason"] == "unknown_stream"
    assert daemon.control(type="trace", stream="t", on=False)["reason"] == "bad_message"
    assert daemon.control(type="trace", stream="t", on=True)["type"] == "tracing"
    assert daemon.control(type="trace", stream="t", on=True)["reason"] == "busy"
    feeder.feed(quilter[:320_000])
    feeder.flush()
    traced = daemon.control(type="trace", stream="t", on=False)
    assert traced["dropped"] == 0
    stages = {}
    for event in traced["traceEvents"]:
        if event["ph"] == "X":
            stages.setdefault(event["name"], []).append(event)
    assert [*sorted(stages)] == ["accept", "publish", "queue", "readout", "step", "wait"]
    assert sum(1 for _ in stages["accept"]) == 100  # messages of 1,600 frames
    assert max(event["args"]["end_sample"] for event in stages["step"]) == 160_000
    steps = {event["args"]["end_sample"]: event for event in stages["step"]}
    for event in stages["wait"]:  # a stage begins where the one before ended
        step = steps[event["args"]["end_sample"]]
        assert abs(event["ts"] + event["dur"] - step["ts"]) < 0.01
    feeder.close()
