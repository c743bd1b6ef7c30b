"""The classes of `sidewinder` for asyncio: the same names, arguments and exceptions; what waits is awaited."""

from __future__ import annotations

import os
from types import TracebackType
from typing import AsyncIterator, Iterable, List, Optional, Type

from . import messages
from ._control import ControlCore
from ._listener import ListenerCore
from ._sender import Hotwords, SenderCore
from ._wire import run_async


class Listener(ListenerCore):
    """See `sidewinder.Listener`. `receive` may be cancelled: nothing is lost by it."""

    async def receive(self, timeout: Optional[float] = None) -> messages.Event:
        return await run_async(self._receive(timeout))

    async def __aiter__(self) -> AsyncIterator[messages.Event]:
        while True:
            yield await self.receive()

    def close(self) -> None:
        self._close()

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Sender(SenderCore):
    """See `sidewinder.Sender`. One task at a time; a cancelled `send` has sent an unknown part."""

    async def open(self, timeout: Optional[float] = 10.0) -> Sender:
        await run_async(self._open(timeout))
        return self

    async def send(self, pcm: "bytes | bytearray | memoryview", timeout: Optional[float] = None) -> None:
        await run_async(self._send(pcm, timeout))

    async def gap(self, frames: int, timeout: Optional[float] = None) -> None:
        await run_async(self._send_gap(frames, timeout))

    async def flush(self, timeout: Optional[float] = None) -> messages.Flushed:
        return await run_async(self._flush(timeout))

    async def set_hotwords(self, hotwords: Hotwords, timeout: Optional[float] = 10.0) -> int:
        return await run_async(self._set_hotwords(hotwords, timeout))

    async def ping(self, timeout: Optional[float] = 10.0) -> None:
        await run_async(self._ping(timeout))

    async def close(self, timeout: Optional[float] = None) -> messages.SenderClosed:
        return await run_async(self._close(timeout))

    def abandon(self) -> None:
        self._abandon()

    async def __aenter__(self) -> Sender:
        return await self.open()

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._connection is None:
            return
        if error is None:
            await self.close()
        else:
            self.abandon()


class Control(ControlCore):
    """See `sidewinder.Control`."""

    async def list(self) -> List[messages.StreamInfo]:
        return await run_async(self._list())

    async def open(
        self,
        file: "str | os.PathLike[str]",
        stream: Optional[str] = None,
        pace: str = "real_time",
        channel: Optional[int] = None,
    ) -> messages.FileOpened:
        return await run_async(self._open(file, stream, pace, channel))

    async def close(self, stream: str) -> messages.Closing:
        return await run_async(self._close(stream))

    async def drain(self, on: bool = True) -> messages.Draining:
        return await run_async(self._drain(on))

    async def stats(self) -> messages.Stats:
        return await run_async(self._stats())

    async def save(self, stream: str, end: bool = False) -> messages.Saved:
        return await run_async(self._save(stream, end))

    async def restore(self, capsule: bytes, stream: Optional[str] = None) -> messages.Restored:
        return await run_async(self._restore(capsule, stream))

    async def swap_model(
        self, folder: "str | os.PathLike[str]", within: float = 10.0, timeout: Optional[float] = 600.0
    ) -> messages.Swapping:
        return await run_async(self._swap_model(folder, within, timeout))

    async def access(self, topics: Iterable[str] = ()) -> messages.Access:
        return await run_async(self._access([*topics]))

    async def history(self, stream: str, first: int, last: int, epoch: Optional[int] = None) -> messages.History:
        return await run_async(self._history(stream, first, last, epoch))
