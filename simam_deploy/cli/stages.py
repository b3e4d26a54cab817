"""Progress of a long job for a log: a line for each stage that lasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def lasting(show: Callable[[str], None], after: float = 2.0, again: float = 30.0) -> Iterator[Callable[[str], None]]:
    """Yield a function that announces the next stage.

    `show` receives its name after `after` seconds, and then its duration every `again` seconds, in a separate thread.
    """
    ended = threading.Event()
    current: list[tuple[str, float]] = []

    def watch() -> None:
        begun, shown = 0.0, 0
        while not ended.wait(after / 8):
            if not current:
                continue
            what, since = current[0]
            begun, shown = since, (shown if since == begun else 0)
            lasted = time.monotonic() - since
            if lasted >= after + shown * again:
                show(f"{what} ({lasted:.0f} s)" if shown else what)
                shown += 1

    def say(what: str) -> None:
        current[:] = [(what, time.monotonic())]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield say
    finally:
        ended.set()
        thread.join()
