"""The program under test, $SIDEWINDER_BIN or the one in build/bin, run from outside."""

import os
import subprocess
import threading
from dataclasses import dataclass

import media

BINARY = os.path.abspath(os.environ.get("SIDEWINDER_BIN", media.REPOSITORY / "build" / "bin" / "sidewinder"))
MODEL = media.REPOSITORY / "model" / "pretrained"
CLIP = media.DATA / "quilter.flac"  # 16 kHz mono
PATIENCE = float(os.environ.get("SIDEWINDER_PATIENCE", 300))  # seconds for one run
STEREO = media.DATA / "stereo-44k.flac"


def environment():
    return dict(os.environ, SIDEWINDER_MODEL=str(MODEL), LC_ALL="C.UTF-8")


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def messages(self):
        return self.err.splitlines()

    def fails(self, code, *fragments):
        """One line on standard error with the fragments, and the exit code."""
        assert self.code == code, (self.code, self.err)
        assert self.err.endswith("\n") and len(self.messages) == 1, self.err
        assert self.err.startswith("sidewinder: "), self.err
        for fragment in fragments:
            assert str(fragment) in self.err, (fragment, self.err)
        return self

    def succeeds(self):
        assert (self.code, self.err) == (0, ""), (self.code, self.err)
        return self


def run(*arguments, **options):
    """Runs `sidewinder ARGUMENTS` to its end; options are subprocess.run's."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("env", environment())
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([BINARY, *map(str, arguments)], stderr=subprocess.PIPE, timeout=PATIENCE, **options)
    out = (done.stdout or b"").decode(errors="surrogateescape")
    return Result(done.returncode, out, done.stderr.decode(errors="surrogateescape"))


def transcribe(*arguments, **options):
    return run("transcribe", *arguments, **options)


def start(*arguments, **options):
    """Starts `sidewinder transcribe ARGUMENTS` with pipes; options are subprocess.Popen's. One that hangs is killed
    after PATIENCE, so that its test fails instead of hanging with it."""
    for stream in ("stdin", "stdout", "stderr"):
        options.setdefault(stream, subprocess.PIPE)
    process = subprocess.Popen([BINARY, "transcribe", *map(str, arguments)], env=environment(), **options)
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.daemon = True
    watchdog.start()
    return process
