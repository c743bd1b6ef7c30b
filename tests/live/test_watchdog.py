"""A thread that is stuck: systemd's watchdog must hear of it, by hearing nothing."""

import pytest
from harness import Feeder, Subscriber, eventually, held

LOOKS = 3  # that find it stuck


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
