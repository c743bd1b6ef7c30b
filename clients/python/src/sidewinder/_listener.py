"""Results: order, holes, and what was missed."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Iterable, List, Optional, Union

import zmq

from . import messages
from ._control import ControlCore
from ._wire import CONTROL, RESULTS, Connection, Deadline, Task, unpack
from .errors import ProtocolError, Refused, RequestError, Timeout
from .keys import Keys
from .messages import Event, Missed

FOR_EVER = 2**53 - 1
TOPICS_AT_ONCE = 32  # they fit into a header


class _Life:
    """One epoch of a stream, as far as it was seen."""

    def __init__(self, epoch: int, whole: bool) -> None:
        self.epoch = epoch
        self.ended = False  # the daemon has it no more, though no `closed` came; it may still be on the way
        self.told = False  # ... and a `Missed` said so
        self.whole = whole  # it began after the listener did, so whatever is not seen of it was missed
        self.next: Dict[str, int] = {}  # by kind: the sequence number expected


class ListenerCore:
    def __init__(
        self,
        streams: Union[str, Iterable[str], None] = None,
        kinds: Union[str, Iterable[str], None] = None,
        *,
        address: str = RESULTS,
        keys: Optional[Keys] = None,
        control: Optional[str] = CONTROL,
        from_start: bool = False,
        high_water_mark: int = 10_000,
        control_timeout: float = 5.0,
    ) -> None:
        self._streams = [streams] if isinstance(streams, str) else None if streams is None else list(streams)
        self._kinds = set(messages.RESULTS if kinds is None else [kinds] if isinstance(kinds, str) else kinds)
        unknown = self._kinds - set(messages.RESULTS)
        if unknown:
            raise ValueError(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(messages.RESULTS)}")
        access = ControlCore(control, control_timeout, keys=keys) if control else None
        self._access_control = access if keys is not None else None
        self._control = access if "final" in self._kinds else None
        self._from_start = from_start
        self._lives: Dict[str, _Life] = {}
        self._past: Dict[str, int] = {}  # of streams asked for by name: an epoch that needs no looking for
        self._ready: Deque[Event] = deque()
        self._taking: Optional[List[bytes]] = None  # kept until done: an asyncio task may be cancelled in between
        self._connections = 0
        self._connection = Connection(zmq.SUB, address, keys, high_water_mark)
        for topic in self._topics():
            self._connection.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())

    def _topics(self) -> List[str]:
        streams = self._streams
        if streams is None:
            return [""]
        if self._kinds == set(messages.RESULTS):
            return [f"{stream}/" for stream in streams]
        # `closed` says how many finals there were, and frees what is known of the stream.
        return [f"{stream}/{kind}/" for stream in streams for kind in sorted(self._kinds | {"closed"})]

    def _close(self) -> None:
        self._connection.close()

    def _receive(self, timeout: Optional[float]) -> Task[Event]:
        deadline = Deadline(timeout, "nothing received")
        while not self._ready:
            frames = self._taking or self._connection.receive()
            if self._connection.connections != self._connections:
                again = self._connections > 0
                self._connections = self._connection.connections
                yield from self._check_access()
                yield from self._catch_up() if again else self._note_past()
            if frames is not None:
                self._taking = frames
                yield from self._take(frames)
                self._taking = None
                continue
            self._tell_ended()
            if not self._ready:
                yield self._connection.wait(deadline.left())
        return self._ready.popleft()

    def _take(self, frames: List[bytes]) -> Task[None]:
        if len(frames) < 2:
            raise ProtocolError(f"not a result: {frames[0][:80]!r}")
        header = unpack(frames[1])
        event = messages.result(header, frames[2] if len(frames) > 2 else b"")
        if event is None:
            return
        kind = header["type"]
        life = self._lives.get(event.stream)
        if life is not None and event.epoch < life.epoch:
            return
        if life is None or event.epoch > life.epoch:
            if life is not None:
                yield from self._recover(event.stream, life, FOR_EVER)
                self._end(event.stream, life)
            # One that was saved and goes on: what was published before is not missed.
            restored = isinstance(event, messages.Opened) and event.restored
            whole = not restored and (self._connections > 1 or (kind == "opened" and not event.replay))
            life = self._lives[event.stream] = _Life(event.epoch, whole)
            if restored:
                life.next["final"] = event.segment
        expected = life.next.get(kind)
        if expected is None:
            # Of a stream that was there before, the last final is replayed, if there is one: it is where to begin.
            late = not life.whole and (event.replay and not self._from_start if kind == "final" else True)
            expected = event.seq if late else 0
        if event.seq < expected:
            return
        life.next[kind] = expected
        if kind == "final":
            yield from self._recover(event.stream, life, event.seq - 1)
        elif event.seq > expected and kind in self._kinds:
            self._ready.append(Missed(event.stream, event.epoch, kind, expected, event.seq - 1))
        if isinstance(event, messages.Closed):
            yield from self._recover(event.stream, life, event.finals - 1)
            del self._lives[event.stream]
            if event.stream in self._past:
                self._past[event.stream] = event.epoch
        life.next[kind] = event.seq + 1
        if kind in self._kinds:
            self._ready.append(event)

    def _recover(self, stream: str, life: _Life, last: int) -> Task[None]:
        """Asks for the finals from the expected one to `last`."""
        first = life.next.get("final", 0)
        if first > last or "final" not in self._kinds:
            return
        try:
            if self._control is None:
                raise RequestError("unknown_stream", "no control socket to ask")
            history = yield from self._control._history(stream, first, last, life.epoch)
        except (RequestError, Timeout):
            if last != FOR_EVER:
                self._ready.append(Missed(stream, life.epoch, "final", first, last))
                life.next["final"] = last + 1
            return
        if history.gap is not None:
            self._ready.append(Missed(stream, life.epoch, "final", *history.gap))
        self._ready.extend(history.finals)
        life.next["final"] = max(first, min(history.next, last + 1))

    def _check_access(self) -> Task[None]:
        """A subscription that is not allowed stays silent, so what is allowed is asked for."""
        if self._access_control is None:
            return
        topics = self._topics()
        for begin in range(0, len(topics), TOPICS_AT_ONCE):
            access = yield from self._access_control._access(topics[begin : begin + TOPICS_AT_ONCE])
            for refused in access.refused:
                raise Refused(refused.reason, refused.message)

    def _note_past(self) -> Task[None]:
        """What went before the first connection is nothing missed."""
        for stream in self._streams or ():
            history = yield from self._latest(stream)
            self._past[stream] = history.epoch if history is not None else 0

    def _catch_up(self) -> Task[None]:
        """After a lost connection: the finals since, and the streams that ended or began."""
        if self._control is None:
            return
        try:
            there = {(info.stream, info.epoch) for info in (yield from self._control._list())}
        except (RequestError, Timeout):
            return
        for stream, life in list(self._lives.items()):
            yield from self._recover(stream, life, FOR_EVER)
            if life.told:
                del self._lives[stream]
        for stream in self._streams or ():
            history = yield from self._latest(stream)
            known = self._lives.get(stream)
            if history is None or history.epoch <= (known.epoch if known else self._past.get(stream, FOR_EVER)):
                continue
            if known is not None:
                self._end(stream, known)
            self._lives[stream] = _Life(history.epoch, whole=True)
            yield from self._recover(stream, self._lives[stream], FOR_EVER)
        for stream, life in self._lives.items():
            life.ended = (stream, life.epoch) not in there

    def _latest(self, stream: str) -> Task[Optional[messages.History]]:
        """Of the latest life of that name: its epoch, and how many finals it has."""
        if self._control is None:
            return None
        try:
            return (yield from self._control._history(stream, FOR_EVER, FOR_EVER, None))
        except (RequestError, Timeout):
            return None

    def _tell_ended(self) -> None:
        """Everything that came is taken: no `closed` among it."""
        for stream, life in self._lives.items():
            if life.ended and not life.told:
                self._end(stream, life)

    def _end(self, stream: str, life: _Life) -> None:
        life.told = True
        if "closed" in self._kinds:
            self._ready.append(Missed(stream, life.epoch, "closed", 0, 0))
