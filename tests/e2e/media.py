"""Sound for the tests: WAV files byte by byte, speech as samples, and other formats through sox."""

import array
import struct
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "tests" / "data"

PCM, FLOAT = 1, 3


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(samples, rate=16000, channels=1, bits=16, tag=PCM, data_size=None, before_data=b""):
    """A WAV file of the bytes; data_size is what its header promises, the truth by default."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, (rate * block) % 2**32, block, bits)
    size = len(samples) if data_size is None else data_size
    body = b"WAVE" + chunk(b"fmt ", form) + before_data + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(len(body) + size, 2**32 - 1)) + body + samples


def sox(*arguments, input=None):
    """Runs sox and returns its standard output. Without dither: the same bytes every time."""
    return subprocess.run(["sox", "-D", *map(str, arguments)], input=input, check=True, capture_output=True).stdout


def pcm(file, *effects):
    """A sound file's samples as s16le, all channels interleaved."""
    return sox(file, "-t", "raw", "-e", "signed-integer", "-b", "16", "-", *effects)


def as_float(s16):
    """s16le to f32le, full scale at 1."""
    return array.array("f", [x / 32768 for x in array.array("h", s16)]).tobytes()


def widen(s16, to_bytes):
    """s16le to integers of 3 or 4 bytes with the same values."""
    zeros = b"\0" * (to_bytes - 2)
    return b"".join(zeros + s16[i:i + 2] for i in range(0, len(s16), 2))
