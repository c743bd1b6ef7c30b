"""Audio in: sequence numbers, credit, and resuming after a lost connection."""

from __future__ import annotations

import enum
import functools
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, List, Mapping, Optional, Set, Tuple, Union

import zmq

from . import messages
from ._wire import INGEST, Connection, Deadline, Task, pack, unpack
from .errors import Refused, RequestError, SidewinderError, StreamClosed
from .keys import Keys

SAMPLE_BYTES = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8}
PIECE_BYTES = 32768  # far below any sensible limit of the daemon's on one message
PING_S = 5.0  # a stream that waits for credit or an answer must not be closed as idle
GONE_S = 15.0  # for `closed` to come after the daemon disowned the stream

Answer = Union[messages.Flushed, messages.SenderClosed, RequestError, bool, int]
Hotwords = Union[Iterable[str], Mapping[str, float]]


def _phrases(hotwords: Hotwords) -> bytes:
    """As the second frame of `open` and `hotwords` has them: a phrase a line, behind a tab its boost."""
    boosts = hotwords if isinstance(hotwords, Mapping) else {phrase: 1.0 for phrase in hotwords}
    for phrase in boosts:
        if "\t" in phrase or "\n" in phrase:
            raise ValueError(f"a phrase has neither tab nor line break: {phrase!r}")
    return "".join(f"{phrase}\t{boost:g}\n" for phrase, boost in boosts.items()).encode()


class _State(enum.Enum):
    OPENING = enum.auto()  # `open` is not answered yet on this connection, or was refused
    OPEN = enum.auto()
    GONE = enum.auto()  # the daemon ended the stream, or gave it to another client


class _Piece:
    """An `audio` or `gap` message that may have to be sent again."""

    def __init__(self, pcm: Optional[bytes], frames: int, end: int) -> None:
        self.pcm = pcm  # None: a gap
        self.frames = frames
        self.end = end  # frames of the epoch up to its end


class SenderCore:
    def __init__(
        self,
        stream: Optional[str] = None,
        *,
        rate: int,
        format: str = "s16le",
        channels: int = 1,
        channel: Optional[int] = None,
        encodings: Union[bool, str] = False,
        hotwords: Optional[Hotwords] = None,
        reopen: bool = True,
        resume: Optional[messages.Restored] = None,
        address: str = INGEST,
        keys: Optional[Keys] = None,
    ) -> None:
        if format not in SAMPLE_BYTES:
            raise ValueError(f"no such format: {format}; there are {', '.join(SAMPLE_BYTES)}")
        self.stream = stream
        """The stream's name: what was asked for, or what the daemon chose."""
        self.epoch: Optional[int] = None
        self.model = ""
        """SHA-256 of the model that listens."""
        self._format: Dict[str, Any] = {"rate": rate, "format": format, "channels": channels}
        if channel is not None:
            self._format["channel"] = channel
        if encodings:
            self._format["encodings"] = "float32" if encodings is True else encodings
        self._hotwords = None if hotwords is None else _phrases(hotwords)
        self._frame_bytes = SAMPLE_BYTES[format] * channels
        self._reopen = reopen
        self._address = address
        self._keys = keys
        self._held_until = 0.0  # monotonic seconds: the key's quota takes no audio before
        self._connection: Optional[Connection] = None
        self._busy = 0.0  # when something was last sent, monotonic seconds
        self._state = _State.OPENING
        self._half = b""  # of a frame
        self._kept: Deque[_Piece] = deque()  # not acknowledged; at most the credit
        self._first = 0  # sequence number of _kept[0]
        self._sent = 0  # sequence number of what is sent next
        self._rewound: Optional[int] = None  # where to, until something sent since was acknowledged
        self._frames = 0  # put in, this epoch
        self._credit = 0
        self._requests: Deque[Dict[str, Any]] = deque()  # sent ahead of audio
        self._markers: Dict[str, Dict[str, Any]] = {}  # waiting for an answer, which comes after all audio
        self._bodies: Dict[str, List[bytes]] = {}  # second frames of those that have one
        self._marked: Set[str] = set()  # of those: sent
        self._close_sent = False  # ever: whether the daemon had it is not known if the connection is lost
        self._answers: Dict[str, Answer] = {}
        self._ended: Optional[messages.SenderClosed] = None
        self._failure: Optional[SidewinderError] = None
        self._gone: Optional[Tuple[float, RequestError]] = None  # since when, monotonic seconds
        self._ids = 0
        if resume is not None:
            self.stream, self.epoch = resume.stream, resume.epoch
            self._first = self._sent = resume.seq
            self._frames = resume.samples

    # What the public classes call.

    def _open(self, timeout: Optional[float]) -> Task[None]:
        self._connect()
        try:
            deadline = Deadline(timeout, f"no answer from {self._address}")
            yield from self._until(lambda: self._state is _State.OPEN, deadline)
        except BaseException:
            self._abandon()
            raise

    def _send(self, pcm: "bytes | bytearray | memoryview", timeout: Optional[float]) -> Task[None]:
        # A copy: it may have to be sent again.
        data = self._half + bytes(pcm)
        self._half = b""
        deadline = Deadline(timeout, "the daemon took no audio")
        while len(data) >= self._frame_bytes:
            yield from self._until(lambda: self._room() > 0, deadline)
            frames = min(self._room(), len(data) // self._frame_bytes, max(1, PIECE_BYTES // self._frame_bytes))
            self._put(data[: frames * self._frame_bytes], frames)
            data = data[frames * self._frame_bytes :]
        self._half = data
        yield from self._until(lambda: self._ended is None, deadline)

    def _send_gap(self, frames: int, timeout: Optional[float]) -> Task[None]:
        deadline = Deadline(timeout, "the daemon took no audio")
        while frames > 0:
            yield from self._until(lambda: self._room() > 0, deadline)
            piece = min(self._room(), frames)
            self._put(None, piece)
            frames -= piece
        yield from self._until(lambda: self._ended is None, deadline)

    def _flush(self, timeout: Optional[float]) -> Task[messages.Flushed]:
        answer = yield from self._mark({"type": "flush"}, Deadline(timeout, "the flush was not answered"))
        if isinstance(answer, RequestError):
            raise answer
        assert isinstance(answer, messages.Flushed)
        return answer

    def _set_hotwords(self, hotwords: Hotwords, timeout: Optional[float]) -> Task[int]:
        body = _phrases(hotwords)
        answer = yield from self._mark(
            {"type": "hotwords"}, Deadline(timeout, "the hotwords were not answered"), body)
        if isinstance(answer, RequestError):
            raise answer
        assert type(answer) is int
        self._hotwords = body  # for a daemon that is started anew
        return answer

    def _ping(self, timeout: Optional[float]) -> Task[None]:
        identity = self._new_id()
        self._requests.append({"type": "ping", "id": identity, "stream": self.stream})
        yield from self._until(lambda: identity in self._answers, Deadline(timeout, "the ping was not answered"))
        del self._answers[identity]

    def _close(self, timeout: Optional[float]) -> Task[messages.SenderClosed]:
        try:
            # What failed cannot be mended by the audio that is left, but the stream may still be there to close.
            self._failure = None
            if self._ended is None:
                yield from self._mark({"type": "close"}, Deadline(timeout, "the close was not answered"))
            assert self._ended is not None
            return self._ended
        finally:
            self._abandon()

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Messages in and out.

    def _until(self, done: Callable[[], bool], deadline: Deadline) -> Task[None]:
        while True:
            writable = self._exchange()
            if self._failure is not None:
                raise self._failure
            if self._ended is not None and not done():
                raise StreamClosed(self._ended.reason, self._ended.message)
            if done():
                return
            assert self._connection is not None
            left = deadline.left()
            longest = PING_S if left is None else min(left, PING_S)
            if self._held():
                longest = min(longest, self._held_until - time.monotonic())
            yield self._connection.wait(max(longest, 0.0), writable)
            if self._gone is not None and time.monotonic() > self._gone[0] + GONE_S:
                self._failure = self._gone[1]
            if self._state is _State.OPEN and not self._requests and time.monotonic() > self._busy + PING_S:
                self._requests.append({"type": "ping", "stream": self.stream})

    def _exchange(self) -> bool:
        """Takes what came and sends what may go; True: more could be sent, but the socket is full."""
        if self._connection is None:
            raise SidewinderError("the sender is closed")
        while True:
            frames = self._connection.receive()
            if frames is None:
                break
            self._take(unpack(frames[-1]))
        if self._connection.lost:
            # A new socket: what still stands in the old one's queue would come before `open`.
            self._connection.close()
            self._connect()
        while True:
            message = self._next()
            if message is None:
                return False
            frames, done = message
            if not self._connection.send(frames):
                return True
            self._busy = time.monotonic()
            done()

    def _connect(self) -> None:
        self._connection = Connection(zmq.DEALER, self._address, self._keys)
        self._ask_open()

    def _ask_open(self) -> None:
        self._state = _State.OPENING
        self._gone = None
        message = {"type": "open", **self._format}
        if self.stream is not None:
            message["stream"] = self.stream
        if self.epoch is not None:
            message["epoch"] = self.epoch
        self._requests = deque([message] + [request for request in self._requests if request["type"] == "ping"])
        self._marked.clear()

    def _next(self) -> Optional[Tuple[List[bytes], Callable[[], None]]]:
        if self._requests and (self._state is _State.OPEN or self._requests[0]["type"] == "open"):
            frames = [pack(self._requests[0])]
            if self._requests[0]["type"] == "open" and self._hotwords is not None:
                frames.append(self._hotwords)
            return frames, self._count_request
        if self._state is not _State.OPEN:
            return None
        if self._sent < self._first + len(self._kept):
            piece = self._kept[self._sent - self._first]
            if piece.end > self._credit or self._held():
                return None
            return self._audio(piece), self._count_sent
        for identity, message in self._markers.items():
            if identity not in self._marked:
                frames = [pack({**message, "seq": self._sent}), *self._bodies.get(identity, [])]
                return frames, functools.partial(self._count_marker, identity)
        return None

    def _count_request(self) -> None:
        self._requests.popleft()

    def _count_marker(self, identity: str) -> None:
        self._marked.add(identity)
        self._close_sent |= self._markers[identity]["type"] == "close"

    def _count_sent(self) -> None:
        self._sent += 1

    def _audio(self, piece: _Piece) -> List[bytes]:
        header = {"stream": self.stream, "seq": self._sent}
        if piece.pcm is None:
            return [pack({"type": "gap", **header, "frames": piece.frames})]
        return [pack({"type": "audio", **header}), piece.pcm]

    def _held(self) -> bool:
        return time.monotonic() < self._held_until

    def _room(self) -> int:
        """Frames that the credit still covers."""
        return self._credit - self._frames if self._state is _State.OPEN else 0

    def _put(self, pcm: Optional[bytes], frames: int) -> None:
        self._frames += frames
        self._kept.append(_Piece(pcm, frames, self._frames))

    def _new_id(self) -> str:
        self._ids += 1
        return str(self._ids)

    def _mark(self, message: Dict[str, Any], deadline: Deadline, body: Optional[bytes] = None) -> Task[Answer]:
        identity = self._new_id()
        if body is not None:
            self._bodies[identity] = [body]
        self._markers[identity] = {**message, "id": identity, "stream": self.stream}
        try:
            yield from self._until(lambda: identity in self._answers, deadline)
            return self._answers.pop(identity)
        finally:
            self._markers.pop(identity, None)
            self._bodies.pop(identity, None)
            self._marked.discard(identity)

    # What the daemon says.

    def _take(self, header: Dict[str, Any]) -> None:
        kind = header.get("type")
        if kind == "opened":
            self._take_opened(header)
        elif kind == "refused":
            self._take_refused(header)
        elif kind == "error":
            self._take_error(header)
        elif self._state is _State.OPENING or header.get("epoch") != self.epoch:
            return
        elif kind == "credit":
            self._acknowledge(header)
        elif kind == "flushed":
            self._acknowledge(header)
            self._answer(header, messages.build(messages.Flushed, header))
        elif kind == "hotwords_set":
            self._answer(header, header["phrases"])
        elif kind == "pong":
            self._acknowledge(header)
            if "id" in header:
                self._answers[header["id"]] = True
        elif kind == "closed":
            self._take_closed(header)

    def _take_opened(self, header: Dict[str, Any]) -> None:
        if header["epoch"] != self.epoch:
            # A new life: what was not acknowledged begins it.
            self.stream, self.epoch = header["stream"], header["epoch"]
            for message in self._markers.values():
                message["stream"] = self.stream
            self._first = self._sent = self._frames = self._credit = 0
            for piece in self._kept:
                self._frames += piece.frames
                piece.end = self._frames
        elif not self._first <= header["seq"] <= self._first + len(self._kept):
            self._failure = StreamClosed("lost", "another client sent to this stream")
            return
        self._state = _State.OPEN
        self.model = header["model"]
        self._acknowledge(header)
        self._sent = header["seq"]
        self._rewound = None

    def _take_refused(self, header: Dict[str, Any]) -> None:
        reason = header.get("reason", "")
        if reason != "unknown_stream" or self.epoch is None:
            self._failure = Refused(reason, header.get("message", ""))
        elif self._reopen and not self._close_sent:
            self.epoch = None
            self._ask_open()
        else:
            self._failure = StreamClosed("lost", "the daemon does not know the stream any more")

    def _take_error(self, header: Dict[str, Any]) -> None:
        if self._state is _State.GONE:
            return  # about what was sent before the end was known
        reason = header.get("reason", "")
        error = RequestError(reason, header.get("message", ""))
        if reason == "unknown_stream" and self._state is _State.OPEN:
            # Normally `closed` follows, once what was accepted is transcribed.
            self._state = _State.GONE
            self._gone = time.monotonic(), error
        elif reason == "wrong_sequence":
            # Each message under way brings this error; going back once is enough.
            if header["expected"] != self._rewound:
                self._rewind(header["expected"])
        elif header.get("id") in self._markers:
            self._answer(header, error)
        elif reason in ("over_credit", "too_many") and "seq" in header:
            self._credit = max(self._credit, header.get("credit", 0))
            self._rewind(header["seq"])
        elif reason == "over_quota" and "seq" in header:
            self._held_until = time.monotonic() + header["retry_ms"] / 1000
            self._rewind(header["seq"])
        else:
            if "seq" in header:
                self._give_up(header["seq"])
            self._failure = error

    def _give_up(self, seq: int) -> None:
        """The audio from there on is not sent again: it would be refused again."""
        while self._first + len(self._kept) > max(seq, self._first):
            self._frames -= self._kept.pop().frames
        self._sent = min(self._sent, self._first + len(self._kept))

    def _rewind(self, seq: int) -> None:
        if self._first <= seq < self._sent:
            self._rewound = self._sent = seq
            # They were refused as well, for what they come after was not taken.
            self._marked.clear()

    def _take_closed(self, header: Dict[str, Any]) -> None:
        self._acknowledge(header)
        self._state = _State.GONE
        self._gone = None
        if header["reason"] == "shutdown" and self._reopen and not self._close_sent:
            # The rest goes to the daemon that comes after it, once the connection broke off.
            self.epoch = None
            return
        self._ended = messages.build(messages.SenderClosed, header)
        for identity, message in self._markers.items():
            if message["type"] == "close":
                self._answers[identity] = self._ended

    def _answer(self, header: Dict[str, Any], answer: Answer) -> None:
        if header.get("id") in self._markers:
            self._answers[header["id"]] = answer

    def _acknowledge(self, header: Dict[str, Any]) -> None:
        self._credit = max(self._credit, header.get("credit", 0))
        seq = min(header["seq"], self._first + len(self._kept))
        while self._first < seq:
            self._kept.popleft()
            self._first += 1
        self._sent = max(self._sent, self._first)
        if self._rewound is not None and seq > self._rewound:
            self._rewound = None
