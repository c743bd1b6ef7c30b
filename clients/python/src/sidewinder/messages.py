"""Every message that a client receives, as a dataclass; clients/PROTOCOL.md says what the fields mean.

Positions are samples of one channel from the stream's start; `start_sample` to `end_sample` (exclusive) at `rate`,
those with `model_` at `model_rate`.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple, Type, TypeVar, Union

from .errors import ProtocolError

T = TypeVar("T")


@dataclass(frozen=True)
class Word:
    word: str
    start_sample: int
    end_sample: int
    start: float
    """Seconds; so is `end`."""
    end: float
    confidence: float
    """0 to 1."""
    display: Optional[str] = None
    """What is written for it, once that is decided (`readable`); empty: it is part of the word before."""


@dataclass(frozen=True)
class Readable:
    """Text with casing, marks, and numbers in digits: `committed` only grows, `tentative` may change."""

    committed: str
    tentative: str


@dataclass(frozen=True)
class Result:
    """What all results have."""

    stream: str
    epoch: int
    seq: int
    segment: int
    rate: int
    model_rate: int
    start_sample: int
    end_sample: int
    model_start_sample: int
    model_end_sample: int
    model: str
    """SHA-256 of the model."""
    lag_ms: float
    replay: bool
    """A copy for a late subscriber."""


@dataclass(frozen=True)
class Opened(Result):
    source: str
    format: str
    channels: int
    file: Optional[str] = None
    restored: bool = False
    """It goes on from a saved state, with the numbers and positions that it had."""


@dataclass(frozen=True)
class _Text(Result):
    committed: str
    tentative: str
    continues: bool
    """The first word goes on with the last word of the segment before."""
    words: Tuple[Word, ...]
    """Those of `committed`."""
    readable: Optional[Readable]
    """The same text to be read, if the daemon makes it (`text.style`)."""

    @property
    def text(self) -> str:
        """Committed and tentative text, as it is shown."""
        shown = self.readable or self
        return " ".join(part for part in (shown.committed, shown.tentative) if part)


@dataclass(frozen=True)
class Partial(_Text):
    """The open segment so far: `committed` only grows, `tentative` may change."""


@dataclass(frozen=True)
class Final(_Text):
    """A finished segment."""

    reason: str
    recovered: bool = False
    """The message was missed and this is the daemon's copy from its history."""


@dataclass(frozen=True)
class Gap(Result):
    """Audio that the daemon never got; silence stands in its place."""

    reason: str


@dataclass(frozen=True)
class Level(Result):
    rms_dbfs: float
    peak_dbfs: float


@dataclass(frozen=True)
class Behind(Result):
    """The engine cannot keep up with this stream, or can again."""

    behind: bool


@dataclass(frozen=True)
class Closed(Result):
    """The last result of its epoch."""

    reason: str
    message: str
    finals: int


@dataclass(frozen=True)
class Encodings(Result):
    """Output of the encoder: `numpy.frombuffer(e.data, e.dtype).reshape(e.frames, e.d_model)`; little-endian."""

    first_frame: int
    frames: int
    d_model: int
    hop: int
    dtype: str
    data: bytes


@dataclass(frozen=True)
class Missed:
    """Not sent by the daemon: a `Listener` says so where results of one kind are missing for good.

    `first` and `last` are sequence numbers. Finals are named here only where the daemon's history does not have
    them any more; `closed` where the stream ended while the connection was lost.
    """

    stream: str
    epoch: int
    kind: str
    first: int
    last: int


Event = Union[Result, Missed]


@dataclass(frozen=True)
class Flushed:
    """All results of what was sent before are published: `finals` and `partials` of this epoch so far."""

    stream: str
    epoch: int
    seq: int
    samples: int
    finals: int
    partials: int


@dataclass(frozen=True)
class SenderClosed:
    """How a stream that was sent ended."""

    stream: str
    epoch: int
    reason: str
    message: str
    seq: int
    samples: int
    finals: int
    partials: int


@dataclass(frozen=True)
class StreamInfo:
    stream: str
    epoch: int
    state: str
    source: str
    rate: int
    channels: int
    samples: int
    model_samples: int
    backlog_ms: float
    segment: int
    finals: int
    file: Optional[str] = None


@dataclass(frozen=True)
class FileOpened:
    stream: str
    epoch: int
    rate: int
    channels: int


@dataclass(frozen=True)
class Saved:
    """A stream's state at one position: `samples` frames were accepted, `seq` is the number of the next audio."""

    stream: str
    epoch: int
    samples: int
    seq: int
    finals: int
    """Published so far."""
    end: bool
    """The stream ended there."""
    model: str
    capsule: bytes
    """What `restore` wants, as it is."""


@dataclass(frozen=True)
class Restored:
    """A stream that goes on: its client opens it with its epoch, and sends from `samples` on, numbered from `seq`."""

    stream: str
    epoch: int
    rate: int
    format: str
    channels: int
    seq: int
    samples: int
    finals: int


@dataclass(frozen=True)
class Closing:
    stream: str
    epoch: int


@dataclass(frozen=True)
class Draining:
    on: bool
    streams: int


@dataclass(frozen=True)
class Swapping:
    """A model that serves from now on."""

    model: str
    before: str
    """The one that served until now."""
    streams: int
    """That are to move."""


@dataclass(frozen=True)
class RefusedTopic:
    """A topic that the key may not subscribe to, and why."""

    topic: str
    reason: str
    message: str


@dataclass(frozen=True)
class Access:
    """What a key may do. A limit of 0 is none."""

    key: Optional[str]
    """Its name; None where nothing is encrypted."""
    publish: Tuple[str, ...]
    subscribe: Tuple[str, ...]
    control: Tuple[str, ...]
    streams: int
    bytes_per_second: int
    requests_per_second: int
    refused: Tuple[RefusedTopic, ...]


@dataclass(frozen=True)
class QueueStats:
    queued: int
    capacity: int
    published: int
    partials_skipped: int


@dataclass(frozen=True)
class MeanMax:
    mean: float
    max: float


@dataclass(frozen=True)
class Stats:
    version: str
    engine: str
    model: str
    uptime_s: float
    streams: int
    slots: int
    draining: bool
    swapping: bool
    """Another model is being loaded, or streams move to it."""
    moving: int
    """Streams that are still on the model before."""
    chunk_ms: int
    opened: int
    closed: int
    refused: int
    steps: int
    audio_s: float
    results: QueueStats
    step_ms: MeanMax
    lag_ms: MeanMax


@dataclass(frozen=True)
class History:
    """Finals asked for again; `gap` is the range of those that the daemon no longer has."""

    stream: str
    epoch: int
    finals: Tuple[Final, ...]
    next: int
    """The number of the stream's next final."""
    gap: Optional[Tuple[int, int]]


RESULTS: Dict[str, Type[Result]] = {
    "opened": Opened,
    "partial": Partial,
    "final": Final,
    "gap": Gap,
    "level": Level,
    "behind": Behind,
    "closed": Closed,
    "encodings": Encodings,
}


def build(kind: Type[T], header: Mapping[str, Any], **extra: Any) -> T:
    """Fields that `kind` does not have are ignored: a newer daemon may send more."""
    values = dict(extra)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in values:
            continue
        if field.name in header:
            values[field.name] = header[field.name]
        elif field.default is MISSING:
            raise ProtocolError(f"a message without {field.name}: {header!r}")
    return kind(**values)


def result(header: Mapping[str, Any], body: bytes = b"", recovered: bool = False) -> Optional[Result]:
    """The dataclass of a result's header; nothing for a kind that this version does not know."""
    kind = RESULTS.get(header.get("type", ""))
    if kind is None:
        return None
    extra: Dict[str, Any] = {"replay": bool(header.get("replay", False))}
    if issubclass(kind, _Text):
        extra["words"] = tuple(build(Word, word) for word in header.get("words", ()))
        extra["readable"] = build(Readable, header["readable"]) if "readable" in header else None
    if kind is Final:
        extra["recovered"] = recovered
    if kind is Encodings:
        extra["data"] = body
    return build(kind, header, **extra)


def transcript(finals: Iterable[Final]) -> str:
    """The text of consecutive finals: what `sidewinder transcribe` gives for the same samples."""
    text = ""
    for final in finals:
        text += ("" if not text or final.continues else " ") + final.committed
    return text
