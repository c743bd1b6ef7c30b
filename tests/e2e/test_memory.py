"""An hour costs the memory of a minute."""

import threading
from pathlib import Path

import media
import pytest
from program import CLIP, start

pytestmark = pytest.mark.memory


class Peak:
    """Highest resident memory of a process in KiB, watched until it ends. The kernel keeps the maximum itself,
    so that looking now and then is enough; getrusage would count this interpreter's memory before exec too."""

    def __init__(self, process):
        self.kib = 0
        self._status = Path(f"/proc/{process.pid}/status")
        self._process = process
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self):
        pause = threading.Event()
        while self._look():
            pause.wait(0.002)

    def _look(self):
        try:
            status = self._status.read_text()
        except (FileNotFoundError, ProcessLookupError):  # gone
            return False
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.kib = max(self.kib, int(line.split()[1]))
                return True
        return False  # ended: a zombie has no memory

    def finish(self):
        self._watcher.join()
        assert self._process.wait(timeout=10) == 0
        assert self.kib > 0
        return self.kib


def run(minutes, speech, *arguments):
    """Peak memory and bytes written, for so many minutes of speech through a pipe."""
    process = start("-", "--threads", "1", *arguments)
    peak = Peak(process)
    written = []
    reader = threading.Thread(target=lambda: written.append(len(process.stdout.read())))
    reader.start()
    process.stdin.write(media.wav(b"", data_size=0xFFFFFFFF))
    minute = (speech * 3)[:60 * 32000]
    for _ in range(minutes):
        process.stdin.write(minute)
    process.stdin.close()
    reader.join()
    return peak.finish(), written[0]


@pytest.mark.parametrize("form", ["text", "json", "srt"])
def test_an_hour_of_chatter(tiny, speech, form):
    """The small model says something all the time, and what it says must not pile up either."""
    short, little = run(1, speech, "--model", tiny, "--format", form)
    long, much = run(60, speech, "--model", tiny, "--format", form)
    assert much > 40 * little, "it went through all of it"
    assert abs(long - short) <= 1024


def test_ten_minutes_with_the_default_model(speech):
    short, little = run(1, speech)
    long, much = run(10, speech)
    assert much > 8 * little
    assert abs(long - short) <= 1024
    assert long < 150 * 1024


def test_a_long_file(tiny, tmp_path):
    """As a file of holes, which takes no disk."""
    sizes = []
    for minutes in (1, 60):
        path = tmp_path / f"{minutes}.wav"
        data = minutes * 60 * 32000
        path.write_bytes(media.wav(b"", data_size=data))
        with open(path, "r+b") as file:
            file.truncate(44 + data)
        process = start(path, "--model", tiny, "--threads", "1")
        peak = Peak(process)
        out, err = process.communicate()
        assert b"every sample is zero" in err
        sizes.append(peak.finish())
    assert abs(sizes[1] - sizes[0]) <= 1024
