"""Client of sidewinderd: `Sender` sends audio, `Listener` receives transcripts, `Control` asks and orders.

`sidewinder.aio` has the same classes for asyncio.
"""

from .errors import ProtocolError, Refused, RequestError, SidewinderError, StreamClosed, Timeout
from .messages import (
    Behind,
    Closed,
    Closing,
    Draining,
    Encodings,
    Event,
    FileOpened,
    Final,
    Flushed,
    Gap,
    History,
    Level,
    MeanMax,
    Missed,
    Opened,
    Partial,
    QueueStats,
    Result,
    SenderClosed,
    Stats,
    StreamInfo,
    Word,
    transcript,
)
from .sync import Control, Listener, Sender

__version__ = "0.1.0"
__all__ = [
    "Behind",
    "Closed",
    "Closing",
    "Control",
    "Draining",
    "Encodings",
    "Event",
    "FileOpened",
    "Final",
    "Flushed",
    "Gap",
    "History",
    "Level",
    "Listener",
    "MeanMax",
    "Missed",
    "Opened",
    "Partial",
    "ProtocolError",
    "QueueStats",
    "Refused",
    "RequestError",
    "Result",
    "Sender",
    "SenderClosed",
    "SidewinderError",
    "Stats",
    "StreamClosed",
    "StreamInfo",
    "Timeout",
    "Word",
    "transcript",
]
