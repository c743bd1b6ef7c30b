"""The Python package against a real daemon."""

import array
import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from client_support import LONG, MODEL, PACKAGE, ROOT

import sidewinder
from sidewinder import aio

RATE = 16000


def listen(daemon, streams=None, kinds=None, **options):
    options = {"address": daemon.results, "control": daemon.control, "from_start": True, **options}
    return sidewinder.Listener(streams, kinds, **options)


def sender(daemon, stream, **options):
    return sidewinder.Sender(stream, **{"rate": RATE, "address": daemon.ingest, **options})


def send(daemon, stream, pcm, **options):
    with sender(daemon, stream, **options) as one:
        one.send(pcm, timeout=LONG)
        return one.close(timeout=LONG)


def until_closed(listener, streams):
    """All events up to the last of those streams' `closed`."""
    left = {streams} if isinstance(streams, str) else set(streams)
    events = []
    while left:
        events.append(listener.receive(timeout=LONG))
        if isinstance(events[-1], sidewinder.Closed):
            left.discard(events[-1].stream)
    return events


def of(events, kind, stream=None):
    return [event for event in events if isinstance(event, kind) and stream in (None, event.stream)]


def test_text_is_that_of_transcribe(shared_daemon, quilter, transcribed):
    with listen(shared_daemon, "text") as listener:
        end = send(shared_daemon, "text", quilter)
        events = until_closed(listener, "text")
    finals = of(events, sidewinder.Final)
    assert sidewinder.transcript(finals) == transcribed("quilter.flac")
    assert [final.seq for final in finals] == list(range(end.finals)) and not of(events, sidewinder.Missed)
    assert isinstance(events[0], sidewinder.Opened) and events[0].format == "s16le"
    assert end.reason == "client" and end.samples == len(quilter) // 2 == events[-1].end_sample
    assert of(events, sidewinder.Level)
    for final in finals:
        assert " ".join(word.word for word in final.words) == final.committed
    for before, after in zip(of(events, sidewinder.Partial), of(events, sidewinder.Partial)[1:]):
        assert before.segment != after.segment or after.committed.startswith(before.committed)


@pytest.mark.parametrize("format, channels", [("f32le", 1), ("s16le", 2)])
def test_formats(shared_daemon, quilter, transcribed, format, channels):
    pcm = quilter
    samples = array.array("h", quilter)
    if format == "f32le":
        pcm = array.array("f", (sample / 32768 for sample in samples)).tobytes()
    if channels == 2:
        pcm = array.array("h", (value for sample in samples for value in (0, sample))).tobytes()
    channel = 2 if channels == 2 else None
    with listen(shared_daemon, "formats", "final") as listener:
        with sender(shared_daemon, "formats", format=format, channels=channels, channel=channel) as one:
            for at in range(0, len(pcm), 10007):  # never whole frames
                one.send(pcm[at : at + 10007], timeout=LONG)
            end = one.close(timeout=LONG)
        finals = [listener.receive(timeout=LONG) for _ in range(end.finals)]
    assert sidewinder.transcript(finals) == transcribed("quilter.flac")


def test_flush(shared_daemon, quilter):
    with listen(shared_daemon, "flush", ["partial", "final"]) as listener:
        with sender(shared_daemon, "flush") as one:
            half = len(quilter) // 4 * 2
            one.send(quilter[:half])
            flushed = one.flush(timeout=LONG)
            assert flushed.samples == half // 2 and flushed.partials > 0
            seen = {"partial": -1, "final": -1}
            while seen != {"partial": flushed.partials - 1, "final": flushed.finals - 1}:
                event = listener.receive(timeout=LONG)
                seen["final" if isinstance(event, sidewinder.Final) else "partial"] = event.seq
                assert event.end_sample <= flushed.samples
            one.send(quilter[half:])
            assert one.flush(timeout=LONG).samples == len(quilter) // 2


def test_two_streams_at_once(shared_daemon, quilter, northanger, transcribed):
    audio = {"one": quilter, "two": northanger}
    with listen(shared_daemon, list(audio)) as listener:
        with sender(shared_daemon, "one") as one, sender(shared_daemon, "two") as two:
            for at in range(0, max(map(len, audio.values())), 32000):
                one.send(quilter[at : at + 32000])
                two.send(northanger[at : at + 32000])
        events = until_closed(listener, audio)
    assert sidewinder.transcript(of(events, sidewinder.Final, "one")) == transcribed("quilter.flac")
    assert sidewinder.transcript(of(events, sidewinder.Final, "two")) == transcribed("northanger.flac")
    assert not of(events, sidewinder.Missed)


def test_late_listener(shared_daemon, quilter):
    with sender(shared_daemon, "late") as one:
        one.send(quilter)
        flushed = one.flush(timeout=LONG)
        assert flushed.finals >= 2
        with listen(shared_daemon, "late", from_start=False) as late, listen(shared_daemon, "late") as whole:
            events = [late.receive(timeout=LONG) for _ in range(2)]
            assert isinstance(events[0], sidewinder.Opened) and isinstance(events[1], sidewinder.Final)
            assert events[0].replay and events[1].replay and events[1].seq == flushed.finals - 1
            one.close(timeout=LONG)
            finals = of(until_closed(late, "late"), sidewinder.Final)
            assert [final.seq for final in finals] == list(range(flushed.finals, flushed.finals + len(finals)))
            everything = of(until_closed(whole, "late"), sidewinder.Final)
            assert [final.seq for final in everything] == list(range(flushed.finals + len(finals)))
            assert everything[0].recovered and not everything[-1].recovered


def test_missed_finals_are_recovered(shared_daemon, link, quilter, transcribed):
    results = link(shared_daemon.results)
    with listen(shared_daemon, "cut", address=results.address) as listener, sender(shared_daemon, "cut") as one:
        one.send(quilter[:32000])
        assert isinstance(listener.receive(timeout=LONG), sidewinder.Opened)
        results.cut()
        one.send(quilter[32000:])
        assert one.flush(timeout=LONG).finals >= 2
        results.mend()
        one.close(timeout=LONG)
        events = []
        while not of(events, sidewinder.Closed) and not any(
            missed.kind == "closed" for missed in of(events, sidewinder.Missed)
        ):
            events.append(listener.receive(timeout=LONG))
    finals = of(events, sidewinder.Final)
    assert any(final.recovered for final in finals)
    assert [final.seq for final in finals] == list(range(len(finals)))
    assert sidewinder.transcript(finals) == transcribed("quilter.flac")


def test_what_ends_right_after_a_lost_connection_is_heard(shared_daemon, link, quilter):
    """The subscription is there again as soon as the connection is, also while there is more to take of what came before."""
    results = link(shared_daemon.results)
    with listen(shared_daemon, "reconnected", address=results.address) as listener:
        with sender(shared_daemon, "reconnected") as one:
            one.send(quilter)
            one.flush(timeout=LONG)
            events = [listener.receive(timeout=LONG)]
            results.cut()
            results.mend()
            time.sleep(2)  # by then it has connected again
            events.append(listener.receive(timeout=LONG))
        events += until_closed(listener, "reconnected")
    assert isinstance(events[-1], sidewinder.Closed) and of(events, sidewinder.Final)


def test_stream_missed_altogether(shared_daemon, link, quilter, transcribed):
    """Opened and closed while the connection was lost."""
    results = link(shared_daemon.results)
    with listen(shared_daemon, "unseen", address=results.address) as listener:
        with sender(shared_daemon, "unseen") as one:
            assert isinstance(listener.receive(timeout=LONG), sidewinder.Opened)  # its subscription has arrived
            one.close(timeout=LONG)
        until_closed(listener, "unseen")
        results.cut()
        end = send(shared_daemon, "unseen", quilter)
        results.mend()
        finals = [listener.receive(timeout=LONG) for _ in range(end.finals)]
        assert listener.receive(timeout=LONG) == sidewinder.Missed("unseen", end.epoch, "closed", 0, 0)
    assert sidewinder.transcript(finals) == transcribed("quilter.flac")


def test_what_fell_out_of_the_history_is_told(own_daemon, link, quilter):
    daemon = own_daemon(finals=1)
    results = link(daemon.results)
    with listen(daemon, "short", address=results.address) as listener, sender(daemon, "short") as one:
        assert isinstance(listener.receive(timeout=LONG), sidewinder.Opened)
        results.cut()
        one.send(quilter)
        flushed = one.flush(timeout=LONG)
        assert flushed.finals >= 2
        results.mend()
        while True:
            event = listener.receive(timeout=LONG)
            if isinstance(event, sidewinder.Missed) and event.kind == "final":
                break
        assert (event.first, event.last) == (0, flushed.finals - 2)
        while not isinstance(event, sidewinder.Final):
            event = listener.receive(timeout=LONG)
        assert event.seq == flushed.finals - 1


READER = """
import sys, sidewinder
with sidewinder.Listener("stopped", address=sys.argv[1], control=sys.argv[2], high_water_mark=1) as listener:
    for event in listener:
        print(type(event).__name__, event.seq if isinstance(event, sidewinder.Final) else "", flush=True)
        if isinstance(event, sidewinder.Closed):
            break
"""


def test_stopped_reader(shared_daemon, quilter):
    """Stopped while everything is published, it still gets all finals in order, and the end."""
    command = [sys.executable, "-c", READER, shared_daemon.results, shared_daemon.control]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as reader:
        with sender(shared_daemon, "stopped", encodings=True) as one:
            assert reader.stdout.readline().startswith("Opened")
            reader.send_signal(signal.SIGSTOP)
            one.send(quilter)
            end = one.close(timeout=LONG)
            reader.send_signal(signal.SIGCONT)
        lines = reader.communicate(timeout=LONG)[0].split("\n")
    assert [line for line in lines if line.startswith("Final")] == [f"Final {seq}" for seq in range(end.finals)]


def test_sender_resumes_after_a_lost_connection(shared_daemon, link, quilter, transcribed):
    ingest = link(shared_daemon.ingest)
    with listen(shared_daemon, "resumed") as listener:
        with sender(shared_daemon, "resumed", address=ingest.address) as one:
            epoch = one.epoch
            for at in range(0, len(quilter), 64000):
                one.send(quilter[at : at + 64000], timeout=LONG)
                if at % 192000 == 0:
                    ingest.cut()
                    threading.Timer(0.3, ingest.mend).start()
            assert one.flush(timeout=LONG).samples == len(quilter) // 2
            assert one.epoch == epoch
        events = until_closed(listener, "resumed")
    assert sidewinder.transcript(of(events, sidewinder.Final)) == transcribed("quilter.flac")


def test_daemon_restarted(own_daemon, quilter, northanger, transcribed):
    daemon = own_daemon()
    with listen(daemon, "restarted") as listener:
        with sender(daemon, "restarted") as one:
            first = one.epoch
            one.send(quilter)
            one.flush(timeout=LONG)
            daemon.kill()
            daemon.start()
            # All of the first half was acknowledged by the flush, so the new life has the second only.
            one.send(northanger, timeout=LONG)
            one.flush(timeout=LONG)
            assert one.epoch > first
            events = [listener.receive(timeout=LONG)]
            while events[-1].epoch == first:
                events.append(listener.receive(timeout=LONG))
        events += until_closed(listener, "restarted")
    assert {event.epoch for event in of(events, sidewinder.Opened)} == {first, one.epoch}
    finals = [final for final in of(events, sidewinder.Final) if final.epoch == one.epoch]
    assert sidewinder.transcript(finals) == transcribed("northanger.flac")
    assert [missed.epoch for missed in of(events, sidewinder.Missed) if missed.kind == "closed"] == [first]


def test_daemon_stopped_and_started(own_daemon, quilter):
    """A graceful stop ends the stream; what it took is final, the rest goes on in the next daemon."""
    daemon = own_daemon()
    with sender(daemon, "stopping") as one:
        first = one.epoch
        one.send(quilter[:64000])
        one.flush(timeout=LONG)
        assert daemon.stop() == 0
        daemon.start()
        one.send(quilter[64000:], timeout=LONG)
        end = one.close(timeout=LONG)
    assert end.epoch > first and end.samples == len(quilter[64000:]) // 2


def refusal(call):
    with pytest.raises(sidewinder.Refused) as error:
        call()
    assert error.value.message
    return error.value.reason


@pytest.mark.bad_requests
def test_refusals(shared_daemon):
    control = sidewinder.Control(shared_daemon.control)

    def open_as(stream, **options):
        return lambda: sender(shared_daemon, stream, **options).open(timeout=LONG)

    with sender(shared_daemon, "taken"):
        assert refusal(open_as("taken")) == "in_use"
    assert refusal(open_as("no/name")) == "bad_name"
    assert refusal(open_as("rate", rate=7)) == "bad_format"
    assert refusal(lambda: control.open("/there/is/no.flac")) == "bad_file"
    control.drain()
    try:
        assert refusal(open_as("drained")) == "draining"
    finally:
        assert not control.drain(False).on
    many = [sender(shared_daemon, None).open(timeout=LONG) for _ in range(4)]
    assert len({one.stream for one in many}) == 4
    assert refusal(open_as("fifth")) == "full"
    for one in many:
        one.close(timeout=LONG)


def test_errors(shared_daemon):
    control = sidewinder.Control(shared_daemon.control)
    for call in (lambda: control.close("nobody"), lambda: control.history("nobody", 0, 1)):
        with pytest.raises(sidewinder.RequestError) as error:
            call()
        assert error.value.reason == "unknown_stream"
    one = sender(shared_daemon, "loud", format="f32le").open(timeout=LONG)
    one.send(array.array("f", [float("nan")] * 16).tobytes())
    with pytest.raises(sidewinder.RequestError) as error:
        one.flush(timeout=LONG)
    assert error.value.reason == "bad_audio"
    one.close(timeout=LONG)
    with pytest.raises(sidewinder.SidewinderError):
        one.send(b"")
    with pytest.raises(ValueError):
        sidewinder.Sender("x", rate=RATE, format="mp3")
    with pytest.raises(ValueError):
        sidewinder.Listener(kinds="finals", address=shared_daemon.results)
    with pytest.raises(ValueError):
        sidewinder.Listener(address="nowhere")


def test_hotwords(shared_daemon, quilter, transcribed):
    """A phrase that outweighs what was heard gets into the text, from the start or from where it was set."""
    heard = transcribed("quilter.flac").split()
    favoured = heard[1] + "s"  # sounds like what was said
    assert favoured not in heard

    def words(stream, act, **options):
        with listen(shared_daemon, stream) as listener:
            with sender(shared_daemon, stream, **options) as one:
                act(one)
            return sidewinder.transcript(of(until_closed(listener, stream), sidewinder.Final)).split()

    def change(one):
        assert one.set_hotwords({favoured: 10, "zebra": 0.5}, timeout=LONG) == 2
        one.send(quilter, timeout=LONG)

    def take_back(one):
        assert one.set_hotwords([], timeout=LONG) == 0
        one.send(quilter, timeout=LONG)

    def plain(one):
        one.send(quilter, timeout=LONG)

    expected = words("hot", plain, hotwords={favoured: 10, "zebra": 0.5})
    without = words("plain", plain)
    assert expected != without
    assert words("changed", change) == expected
    assert words("taken-back", take_back, hotwords={favoured: 10}) == without
    with sender(shared_daemon, "bad") as one:
        for bad in ["route 66"], {"bath": 11}, [""] * 2:
            with pytest.raises(sidewinder.RequestError) as error:
                one.set_hotwords(bad, timeout=LONG)
            assert error.value.reason == "bad_hotwords" and error.value.message
        with pytest.raises(ValueError):
            one.set_hotwords(["a\tb"])
    assert refusal(lambda: sender(shared_daemon, "worse", hotwords=["na\u00efve"]).open(timeout=LONG)) == "bad_hotwords"


def test_nobody_there(link):
    nobody = link("tcp://127.0.0.1:1")
    with pytest.raises(sidewinder.Timeout):
        sidewinder.Control(nobody.address, timeout=0.2).list()
    with pytest.raises(sidewinder.Timeout):
        sidewinder.Sender("x", rate=RATE, address=nobody.address).open(timeout=0.2)
    with sidewinder.Listener(address=nobody.address) as listener, pytest.raises(sidewinder.Timeout):
        listener.receive(timeout=0.2)


def test_stream_ended_by_others(shared_daemon, own_daemon):
    control = sidewinder.Control(shared_daemon.control)
    with sender(shared_daemon, "ended") as one:
        control.close("ended")
        with pytest.raises(sidewinder.StreamClosed) as error:
            while True:
                one.send(bytes(3200), timeout=LONG)
        assert error.value.reason == "control"
        assert one.close(timeout=LONG).reason == "control"
    with sender(own_daemon(idle_ms=300), "idle") as one:
        with pytest.raises(sidewinder.StreamClosed) as error:
            while True:
                one.send(b"")
                time.sleep(0.01)
        assert error.value.reason == "idle"


def test_gap_ping_and_control(shared_daemon, quilter):
    control = sidewinder.Control(shared_daemon.control)
    with listen(shared_daemon, "gap") as listener:
        with sender(shared_daemon, "gap") as one:
            one.send(quilter[:64000])
            one.gap(4800)
            one.ping(timeout=LONG)
            one.flush(timeout=LONG)
            [info] = [info for info in control.list() if info.stream == "gap"]
            assert (info.state, info.source, info.rate, info.samples) == ("live", "ingest", RATE, 32000 + 4800)
        [gap] = of(until_closed(listener, "gap"), sidewinder.Gap)
        assert (gap.start_sample, gap.end_sample, gap.reason) == (32000, 36800, "client")
    stats = control.stats()
    assert stats.engine == "cpu" and stats.slots == 4 and stats.opened > 0 and stats.results.capacity > 0


def test_save_and_restore(shared_daemon, own_daemon, quilter, transcribed):
    other = own_daemon()
    cut = len(quilter) // 4 * 2
    with listen(shared_daemon, "moved") as before, listen(other, "moved") as after:
        first = sender(shared_daemon, "moved").open(LONG)
        first.send(quilter[:cut], timeout=LONG)
        first.flush(LONG)
        saved = sidewinder.Control(shared_daemon.control, LONG).save("moved", end=True)
        assert (saved.stream, saved.samples, saved.end) == ("moved", cut // 2, True)
        first.abandon()
        events = until_closed(before, "moved")
        assert events[-1].reason == "saved" and events[-1].finals == saved.finals
        control = sidewinder.Control(other.control, LONG)
        opened = control.restore(saved.capsule)
        with pytest.raises(sidewinder.Refused) as refused:
            control.restore(saved.capsule)
        assert refused.value.reason == "in_use"
        with sender(other, None, resume=opened) as second:
            assert second.stream == "moved" and second.epoch == saved.epoch and second.model == saved.model
            second.send(quilter[cut:], timeout=LONG)
            assert second.close(LONG).samples == len(quilter) // 2
        rest = until_closed(after, "moved")
    assert not of(events + rest, sidewinder.Missed)
    assert of(rest, sidewinder.Opened)[0].restored
    assert sidewinder.transcript(of(events + rest, sidewinder.Final)) == transcribed("quilter.flac")


def test_swap_model(own_daemon, quilter, tmp_path):
    daemon = own_daemon()
    control = sidewinder.Control(daemon.control, LONG)

    def settled():
        while (stats := control.stats()).swapping:
            time.sleep(0.1)
        assert stats.moving == 0
        return stats

    with listen(daemon, "swapped") as listener:
        with sender(daemon, "swapped") as one:
            one.send(quilter[: len(quilter) // 2], timeout=LONG)
            one.flush(LONG)
            with pytest.raises(sidewinder.Refused) as refused:
                control.swap_model(tmp_path / "none")
            assert refused.value.reason == "bad_model" and "config.json" in refused.value.message
            # The same model is another all the same: what it has heard it has heard alone.
            swapping = control.swap_model(MODEL, within=0)
            assert swapping.streams == 1 and swapping.model == swapping.before == one.model
            settled()
            again = asyncio.run(aio.Control(daemon.control, LONG).swap_model(MODEL, within=1))
            assert again.streams == 1
            one.send(quilter[len(quilter) // 2 :], timeout=LONG)
            settled()
            assert one.close(LONG).samples == len(quilter) // 2
        events = until_closed(listener, "swapped")
    finals = of(events, sidewinder.Final)
    assert [final.seq for final in finals] == list(range(len(finals)))
    assert "model" in [final.reason for final in finals] and not of(events, sidewinder.Missed)


def test_file_through_control(shared_daemon, transcribed):
    control = sidewinder.Control(shared_daemon.control)
    with listen(shared_daemon, "file") as listener:
        opened = control.open(ROOT / "tests" / "data" / "quilter.flac", "file", pace="fast")
        events = until_closed(listener, "file")
    finals = of(events, sidewinder.Final)
    assert sidewinder.transcript(finals) == transcribed("quilter.flac")
    assert events[-1].reason == "end" and events[0].file.endswith("quilter.flac")
    history = control.history("file", 0, 10**6, opened.epoch)
    assert [final.committed for final in history.finals] == [final.committed for final in finals]
    assert history.next == len(finals) and history.gap is None


def test_encodings(shared_daemon, quilter):
    with listen(shared_daemon, "encodings", "encodings") as listener:
        with sender(shared_daemon, "encodings", encodings=True) as one:
            one.send(quilter[:64000])
            one.flush(timeout=LONG)
            event = listener.receive(timeout=LONG)
    assert event.first_frame == 0 and len(event.data) == event.frames * event.d_model * 4


@pytest.mark.bad_requests
def test_asyncio(shared_daemon, quilter, northanger, transcribed):
    async def feed(stream, pcm):
        async with aio.Sender(stream, rate=RATE, address=shared_daemon.ingest) as one:
            assert await one.set_hotwords([], timeout=LONG) == 0
            await one.send(pcm, timeout=LONG)
            await one.flush(timeout=LONG)
            await one.ping(timeout=LONG)
            return await one.close(timeout=LONG)

    async def hear(listener, streams):
        finals = {stream: [] for stream in streams}
        left = set(streams)
        async for event in listener:
            if isinstance(event, sidewinder.Final):
                finals[event.stream].append(event)
            if isinstance(event, sidewinder.Closed):
                left.discard(event.stream)
                if not left:
                    return finals

    async def both():
        control = aio.Control(shared_daemon.control)
        addresses = {"address": shared_daemon.results, "control": shared_daemon.control}
        async with aio.Listener(["a", "b"], from_start=True, **addresses) as listener:
            with pytest.raises(sidewinder.Timeout):
                await listener.receive(timeout=0.05)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(listener.receive(), 0.05)
            hearing = asyncio.create_task(hear(listener, ["a", "b"]))
            await asyncio.gather(feed("a", quilter), feed("b", northanger))
            finals = await asyncio.wait_for(hearing, LONG)
        assert (await control.stats()).streams == len(await control.list())
        assert len((await control.history("a", 0, 99)).finals) == len(finals["a"])
        with pytest.raises(sidewinder.RequestError):
            await control.close("nobody")
        with pytest.raises(sidewinder.Refused):
            await control.open("/there/is/no.flac")
        with pytest.raises(sidewinder.Refused):
            await aio.Sender("no/name", rate=RATE, address=shared_daemon.ingest).open()
        return finals

    finals = asyncio.run(both())
    assert sidewinder.transcript(finals["a"]) == transcribed("quilter.flac")
    assert sidewinder.transcript(finals["b"]) == transcribed("northanger.flac")


def test_example(shared_daemon, quilter):
    """The caption feed, on the addresses of this daemon."""
    script = (ROOT / "clients" / "examples" / "caption_feed.py").read_text()
    assert len(script.splitlines()) <= 35
    arguments = f'["partial", "final"], address="{shared_daemon.results}", control="{shared_daemon.control}"'
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-c", script.replace('["partial", "final"]', arguments), "example"]
    with sender(shared_daemon, "example") as one:
        one.send(quilter)
        flushed = one.flush(timeout=LONG)
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as feed:
            assert b"example: " in feed.stdout.readline()  # the last final, replayed
            feed.send_signal(signal.SIGINT)
            feed.communicate(timeout=LONG)
    assert flushed.finals > 0


def test_every_kind_was_validated(schemas):
    """Runs last: what the tests above saw of the protocol."""
    results = {kind for name, kind in schemas.checked if name == "results"}
    assert results >= {"opened", "partial", "final", "gap", "level", "closed", "encodings"}
    ingest = {kind for name, kind in schemas.checked if name == "ingest"}
    assert ingest >= {"open", "opened", "refused", "audio", "gap", "credit", "flush", "flushed", "close", "closed"}
    assert ingest >= {"hotwords", "hotwords_set"}
    assert ingest >= {"ping", "pong", "error"}
