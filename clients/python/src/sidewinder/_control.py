"""Requests to the daemon, one by one."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

import zmq

from . import messages
from ._wire import CONTROL, Connection, Deadline, Task, pack, unpack
from .errors import ProtocolError, Refused, RequestError
from .keys import Keys


def exchange(
    address: str,
    keys: Optional[Keys],
    timeout: Optional[float],
    message: Dict[str, Any],
    answer: str,
    body: Optional[bytes] = None,
) -> Task[Tuple[Dict[str, Any], bytes]]:
    """The answer, and its second frame if it has one; `body` is the request's."""
    # A connection a request: there is none to be lost between two of them, and no late answer to be mistaken.
    connection = Connection(zmq.REQ, address, keys)
    try:
        deadline = Deadline(timeout, f"no answer from {address}")
        header_frame = pack({key: value for key, value in message.items() if value is not None})
        connection.send([header_frame] if body is None else [header_frame, body])
        while True:
            frames = connection.receive()
            if frames is not None:
                break
            yield connection.wait(deadline.left())
    finally:
        connection.close()
    header = unpack(frames[0])
    kind = header.get("type")
    if kind == "refused":
        raise Refused(header.get("reason", ""), header.get("message", ""))
    if kind == "error":
        raise RequestError(header.get("reason", ""), header.get("message", ""))
    if kind != answer:
        raise ProtocolError(f"asked {message['type']}, got {kind}")
    return header, frames[1] if len(frames) > 1 else b""


class ControlCore:
    def __init__(
        self, address: str = CONTROL, timeout: Optional[float] = 10.0, *, keys: Optional[Keys] = None
    ) -> None:
        self._address = address
        self._keys = keys
        self._timeout = timeout

    def _ask(self, message: Dict[str, Any], answer: str) -> Task[Dict[str, Any]]:
        header, _ = yield from exchange(self._address, self._keys, self._timeout, message, answer)
        return header

    def _list(self) -> Task[List[messages.StreamInfo]]:
        answer = yield from self._ask({"type": "list"}, "list")
        return [messages.build(messages.StreamInfo, stream) for stream in answer["streams"]]

    def _open(
        self, file: "str | os.PathLike[str]", stream: Optional[str], pace: str, channel: Optional[int]
    ) -> Task[messages.FileOpened]:
        message = {"type": "open", "file": os.fspath(file), "stream": stream, "pace": pace, "channel": channel}
        return messages.build(messages.FileOpened, (yield from self._ask(message, "opened")))

    def _close(self, stream: str) -> Task[messages.Closing]:
        answer = yield from self._ask({"type": "close", "stream": stream}, "closing")
        return messages.build(messages.Closing, answer)

    def _drain(self, on: bool) -> Task[messages.Draining]:
        return messages.build(messages.Draining, (yield from self._ask({"type": "drain", "on": on}, "draining")))

    def _stats(self) -> Task[messages.Stats]:
        answer = yield from self._ask({"type": "stats"}, "stats")
        return messages.build(
            messages.Stats,
            answer,
            results=messages.build(messages.QueueStats, answer["results"]),
            step_ms=messages.build(messages.MeanMax, answer["step_ms"]),
            lag_ms=messages.build(messages.MeanMax, answer["lag_ms"]),
        )

    def _access(self, topics: List[str]) -> Task[messages.Access]:
        answer = yield from self._ask({"type": "access", "topics": topics}, "access")
        refused = tuple(messages.build(messages.RefusedTopic, topic) for topic in answer["refused"])
        lists = {name: tuple(answer[name]) for name in ("publish", "subscribe", "control")}
        return messages.build(messages.Access, {"key": None, **answer}, refused=refused, **lists)

    def _save(self, stream: str, end: bool) -> Task[messages.Saved]:
        message = {"type": "save", "stream": stream, "end": end}
        header, capsule = yield from exchange(self._address, self._keys, self._timeout, message, "saved")
        return messages.build(messages.Saved, header, capsule=capsule)

    def _restore(self, capsule: bytes, stream: Optional[str]) -> Task[messages.Restored]:
        message = {"type": "restore", "stream": stream}
        header, _ = yield from exchange(self._address, self._keys, self._timeout, message, "opened", capsule)
        return messages.build(messages.Restored, header)

    def _swap_model(
        self, folder: "str | os.PathLike[str]", within: float, timeout: Optional[float]
    ) -> Task[messages.Swapping]:
        message = {"type": "swap_model", "folder": os.fspath(folder), "within_ms": round(within * 1000)}
        header, _ = yield from exchange(self._address, self._keys, timeout, message, "swapping")
        return messages.build(messages.Swapping, header)

    def _history(self, stream: str, first: int, last: int, epoch: Optional[int]) -> Task[messages.History]:
        message = {"type": "history", "stream": stream, "epoch": epoch, "from": first, "to": last}
        answer = yield from self._ask(message, "history")
        gap = answer.get("gap")
        return messages.build(
            messages.History,
            answer,
            finals=tuple(messages.result(header, recovered=True) for header in answer["finals"]),
            gap=None if gap is None else (gap["from"], gap["to"]),
        )
