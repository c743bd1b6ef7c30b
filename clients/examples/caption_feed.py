#!/usr/bin/env python3
"""Live captions of every stream: finals stay, the open segment is redrawn. usage: caption_feed.py [STREAM...]"""

import shutil
import sys

import sidewinder


def main() -> None:
    with sidewinder.Listener(sys.argv[1:] or None, ["partial", "final"]) as listener:
        for event in listener:
            if isinstance(event, sidewinder.Final):
                print(f"\r\033[K{event.stream}: {event.committed}", flush=True)
            elif isinstance(event, sidewinder.Partial):
                room = shutil.get_terminal_size().columns - len(event.stream) - 3
                print(f"\r\033[K{event.stream}: {event.text[-room:]}", end="", flush=True)
            elif isinstance(event, sidewinder.Missed) and event.kind == "final":  # gone even from the history
                print(f"\r\033[K{event.stream}: [{event.last - event.first + 1} segments missed]", flush=True)


try:
    main()
except KeyboardInterrupt:
    print()
