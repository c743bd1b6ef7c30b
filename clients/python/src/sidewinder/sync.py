"""The classes for ordinary code. Thread rule: each object belongs to one thread at a time."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Iterable, Iterator, List, Optional, Type

from . import messages
from ._control import ControlCore
from ._listener import ListenerCore
from ._sender import Hotwords, SenderCore
from ._wire import run


class Listener(ListenerCore):
    """Results of the daemon, in order.

    streams: names, or none for all. kinds: those wanted (`"final"`, `"partial"`, ...), or none for all.
    keys: for a daemon that encrypts; then what may not be subscribed to raises `Refused`, and a key that the daemon
    does not know `NotAuthorised`, from the first `receive`.
    address, control: the daemon's sockets; control is where missed finals are asked for (None: nowhere).
    from_start: of streams that are already running, get the finals so far too.
    high_water_mark: messages that wait here for a slow reader; more are lost, and finals then asked for again.

    Finals that were missed come in their place, with `recovered` set. Whatever cannot be had again is told as
    `Missed`. A lost connection is taken up again, for as long as it takes; replays of what was seen are dropped.
    """

    def receive(self, timeout: Optional[float] = None) -> messages.Event:
        """The next result. Raises `Timeout` after so many seconds without one."""
        return run(self._receive(timeout))

    def __iter__(self) -> Iterator[messages.Event]:
        """Never ends by itself."""
        while True:
            yield self.receive()

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Sender(SenderCore):
    """One stream of audio into the daemon.

    stream: its name (None: the daemon chooses one; `self.stream`). rate: Hz. format: `u8`, `s16le`, `s24le`, `s32le`,
    `f32le` or `f64le`, interleaved. channel: take this one (from 1) instead of a mix. encodings: publish the encoder's
    output too (True or "float32", or "float16"). hotwords: phrases to favour instead of the daemon's own, or a mapping of
    phrases to boosts (1 is usual, at most 10). reopen: when a restarted daemon does not know the stream any more, begin a
    new epoch with what it had
    not accepted; otherwise that raises `StreamClosed`. resume: a stream that `Control.restore` opened, to send on from its
    `samples`.

    Takes audio as fast as the daemon lets it: pace it yourself if it is not live. After a lost connection the stream is
    resumed where it was, and nothing is heard twice. Timeouts are seconds, None waits for ever.
    """

    def open(self, timeout: Optional[float] = 10.0) -> Sender:
        """Raises `Refused`. `with Sender(...) as sender:` calls it."""
        run(self._open(timeout))
        return self

    def send(self, pcm: "bytes | bytearray | memoryview", timeout: Optional[float] = None) -> None:
        """Any number of bytes; waits while the daemon has enough. Raises `StreamClosed`, `RequestError`, `Timeout`."""
        run(self._send(pcm, timeout))

    def gap(self, frames: int, timeout: Optional[float] = None) -> None:
        """So many frames were lost here: silence takes their place."""
        run(self._send_gap(frames, timeout))

    def flush(self, timeout: Optional[float] = None) -> messages.Flushed:
        """Waits until everything sent was heard and its results are published."""
        return run(self._flush(timeout))

    def set_hotwords(self, hotwords: Hotwords, timeout: Optional[float] = 10.0) -> int:
        """From what is sent next on, favour these phrases instead of those before; none: an empty list. Returns how
        many there are. Raises `RequestError`: `bad_hotwords`, `unsupported`, `too_many`."""
        return run(self._set_hotwords(hotwords, timeout))

    def ping(self, timeout: Optional[float] = 10.0) -> None:
        """Keeps a silent stream from being closed as idle."""
        run(self._ping(timeout))

    def close(self, timeout: Optional[float] = None) -> messages.SenderClosed:
        """Ends the stream and waits for its last result to be published. The `with` block's end calls it."""
        return run(self._close(timeout))

    def abandon(self) -> None:
        """Lets the connection go and leaves the stream to the daemon's idle timeout."""
        self._abandon()

    def __enter__(self) -> Sender:
        return self.open()

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._connection is None:
            return
        if error is None:
            self.close()
        else:
            self.abandon()


class Control(ControlCore):
    """Requests to the daemon. timeout: seconds for each. They raise `Refused`, `RequestError` and `Timeout`."""

    def list(self) -> List[messages.StreamInfo]:
        return run(self._list())

    def open(
        self,
        file: "str | os.PathLike[str]",
        stream: Optional[str] = None,
        pace: str = "real_time",
        channel: Optional[int] = None,
    ) -> messages.FileOpened:
        """A file on the daemon's machine as a stream. pace: `real_time` or `fast`."""
        return run(self._open(file, stream, pace, channel))

    def close(self, stream: str) -> messages.Closing:
        """Ends a stream once what it has is transcribed."""
        return run(self._close(stream))

    def drain(self, on: bool = True) -> messages.Draining:
        """While on, new streams are refused."""
        return run(self._drain(on))

    def stats(self) -> messages.Stats:
        return run(self._stats())

    def save(self, stream: str, end: bool = False) -> messages.Saved:
        """The state of a stream that a client feeds, once all that was accepted is heard.

        end: it ends there, its text unfinished, and the capsule is all that is left of it.
        """
        return run(self._save(stream, end))

    def restore(self, capsule: bytes, stream: Optional[str] = None) -> messages.Restored:
        """Opens a stream as it was saved. stream: another name, for a copy with an epoch of its own."""
        return run(self._restore(capsule, stream))

    def swap_model(
        self, folder: "str | os.PathLike[str]", within: float = 10.0, timeout: Optional[float] = 600.0
    ) -> messages.Swapping:
        """Loads another model beside the one that serves, from a folder on the daemon's machine; answers once it is loaded.

        Streams that are open move to it at their next pause, or after `within` seconds, where their open segment then ends
        as a final with the reason `model`. timeout: seconds for this request, in place of the others'.
        """
        return run(self._swap_model(folder, within, timeout))

    def access(self, topics: Iterable[str] = ()) -> messages.Access:
        """What this client may do; `refused` are those of the topics that it may not subscribe to."""
        return run(self._access([*topics]))

    def history(self, stream: str, first: int, last: int, epoch: Optional[int] = None) -> messages.History:
        """Finals by sequence number, both ends inclusive. epoch: default the latest life of that name."""
        return run(self._history(stream, first, last, epoch))
