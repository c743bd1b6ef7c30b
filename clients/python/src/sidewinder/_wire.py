"""JSON frames, sockets, and the two ways of waiting for them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Dict, Generator, List, Mapping, Optional, Tuple, TypeVar

import zmq

from .errors import NotAuthorised, ProtocolError, Timeout
from .keys import Keys

VERSION = 1
RESULTS = "tcp://127.0.0.1:7600"
INGEST = "tcp://127.0.0.1:7601"
CONTROL = "tcp://127.0.0.1:7602"
MOST_FAILURES = 4  # handshakes, before the first that succeeded

T = TypeVar("T")
Wait = Tuple[List[Tuple["zmq.Socket[bytes]", int]], Optional[float]]
"""Sockets with the events waited for, and the most seconds (None: for ever)."""
Task = Generator[Wait, None, T]
"""Everything that waits is written once, as a generator of what it waits for; `run` and `run_async` drive it."""


def run(task: Task[T]) -> T:
    try:
        while True:
            sockets, seconds = next(task)
            poller = zmq.Poller()
            for socket, events in sockets:
                poller.register(socket, events)
            poller.poll(None if seconds is None else int(seconds * 1000) + 1)
    except StopIteration as end:
        value: T = end.value
        return value


async def run_async(task: Task[T]) -> T:
    try:
        while True:
            await _wait(*next(task))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        task.close()


async def _wait(sockets: List[Tuple["zmq.Socket[bytes]", int]], seconds: Optional[float]) -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    descriptors = [int(socket.getsockopt(zmq.FD)) for socket, _ in sockets]
    for descriptor in descriptors:
        loop.add_reader(descriptor, woken.set)
    try:
        # A ZeroMQ descriptor tells of changes only: what is there already is looked for after it is watched.
        if not any(int(socket.getsockopt(zmq.EVENTS)) & events for socket, events in sockets):
            await asyncio.wait_for(woken.wait(), seconds)
    except asyncio.TimeoutError:
        pass
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


class Deadline:
    def __init__(self, seconds: Optional[float], what: str) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._message = f"{what} within {seconds} s"

    def left(self) -> Optional[float]:
        """Seconds; raises Timeout once there are none."""
        if self._end is None:
            return None
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise Timeout(self._message)
        return seconds


def pack(header: Mapping[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, **header}, separators=(",", ":")).encode()


def unpack(frame: bytes) -> Dict[str, Any]:
    try:
        header = json.loads(frame)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {frame[:80]!r}") from error
    if not isinstance(header, dict) or header.get("v") != VERSION:
        raise ProtocolError(f"not version {VERSION} of the protocol: {frame[:80]!r}")
    return header


class Connection:
    """A socket that reconnects by itself, and says when it did."""

    def __init__(self, kind: int, address: str, keys: Optional[Keys] = None, high_water_mark: int = 1000) -> None:
        self.address = address
        self._encrypted = keys is not None
        self._failures = 0  # handshakes, before the first that succeeded
        self.connections = 0
        """How often the daemon was reached."""
        self.lost = False
        """Whether a connection broke off."""
        self.socket: "zmq.Socket[bytes]" = zmq.Context.instance().socket(kind)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.RCVHWM, high_water_mark),
            (zmq.SNDHWM, high_water_mark),
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 2000),
            (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, 10000),
        ):
            self.socket.setsockopt(option, value)
        if keys is not None:
            self.socket.curve_serverkey = keys.server.encode()
            self.socket.curve_publickey = keys.public.encode()
            self.socket.curve_secretkey = keys.secret.encode()
        events = (
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_DISCONNECTED
        )
        self._monitor: "zmq.Socket[bytes]" = self.socket.get_monitor_socket(events)
        try:
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(f"{address}: {error}; give an address such as {RESULTS}") from error

    def close(self) -> None:
        self.socket.disable_monitor()
        self.socket.close(linger=0)

    def receive(self) -> Optional[List[bytes]]:
        """A message, or nothing if none is there."""
        self._watch()
        try:
            frames: List[bytes] = self.socket.recv_multipart(zmq.NOBLOCK)
            return frames
        except zmq.Again:
            return None

    def send(self, frames: List[bytes]) -> bool:
        """False: the socket is full; wait for POLLOUT."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
            return True
        except zmq.Again:
            return False

    def wait(self, seconds: Optional[float], writable: bool = False) -> Wait:
        events = zmq.POLLIN | (zmq.POLLOUT if writable else 0)
        return [(self.socket, events), (self._monitor, zmq.POLLIN)], seconds

    def _watch(self) -> None:
        while True:
            try:
                event = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            kind = int.from_bytes(event[0][:2], "little")
            if kind == zmq.EVENT_DISCONNECTED:
                self.lost = self.lost or self.connections > 0
            elif kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.connections += 1
                # Subscriptions are sent again only once libzmq looks after the socket, and taking a message that waits is not that.
                self.socket.getsockopt(zmq.EVENTS)
            else:
                self._refuse(kind)

    def _refuse(self, kind: int) -> None:
        if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            raise NotAuthorised(f"the daemon on {self.address} does not know this key")
        if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            wants = "does not encrypt: give no keys" if self._encrypted else "wants keys"
            raise NotAuthorised(f"the daemon on {self.address} {wants}")
        # A daemon hangs up on who does not have its key; but so does a proxy that has lost its daemon.
        self._failures += 1
        if self._encrypted and self.connections == 0 and self._failures >= MOST_FAILURES:
            question = "is keys.server its key, and does it encrypt?"
            raise NotAuthorised(f"what answers on {self.address} breaks the handshake off; {question}")
