"""A thread that is stuck: systemd's watchdog must hear of it, by hearing nothing."""

import contextlib
import ctypes
import os
import pathlib

import pytest
from harness import Feeder, Subscriber, eventually

# ptrace(2)
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x4000_0000  # __WALL of waitpid(2): threads too
LOOKS = 3  # that find it stuck


def ptrace(request, thread):
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    call.restype = ctypes.c_long
    if call(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def held(daemon, name):
    """One thread of the daemon is stopped where it is; the others run on."""
    [thread] = [int(task.name) for task in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir()
                if (task / "comm").read_text().strip() == name]
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    assert os.WIFSTOPPED(os.waitpid(thread, WALL)[1])
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, thread)


@pytest.mark.parametrize("thread", ["scheduler", "publisher", "ingest"])
def test_the_watchdog_hears_nothing_while_a_thread_is_stuck(start, manager, thread, quilter, quilter_offline):
    daemon = start()
    subscriber = Subscriber(daemon)
    feeder = Feeder(daemon)

    def stuck():
        return [line for line in daemon.log().splitlines() if "stuck: " in line]

    def hold():
        told = len(stuck())
        with held(daemon, thread):
            eventually(lambda: len(stuck()) > told)
            manager.unread()  # from before
            eventually(lambda: len(stuck()) > told + LOOKS)
            assert manager.unread() == []
            assert all(thread in line for line in stuck()[told:])
        manager.until("WATCHDOG=1")

    # Nobody asks for anything, and all is well.
    for _ in range(2):
        manager.until("WATCHDOG=1")
    hold()
    # Work is waiting.
    feeder.open("w")
    while feeder.sent + 1600 <= feeder.credit:
        feeder.audio(quilter[2 * feeder.sent:2 * feeder.sent + 3200])
    hold()
    # Nothing is lost by it.
    feeder.feed(quilter[2 * feeder.sent:])
    feeder.close()
    subscriber.until_closed("w")
    assert subscriber.words("w") == quilter_offline["words"]
