"""The time there is for all of it, and what is being done, on stderr."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType


class Clock:
    """Counts down from `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._begin = time.monotonic()
        self._seconds = seconds
        self._said = 0.0

    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def left(self) -> float:
        """Remaining seconds; negative after the end."""
        return self._seconds - self.spent()

    def until(self, seconds: float) -> Clock:
        """The same, but at its end when so many are spent."""
        other = Clock(seconds)
        other._begin = self._begin
        return other

    def say(self, what: str) -> None:
        """Print the next step."""
        self._said = time.monotonic()
        print(f"[{self.spent():4.0f} s] {what}", file=sys.stderr, flush=True)

    def still(self, what: str) -> None:
        """The same for what goes on: at most once in two seconds."""
        if time.monotonic() - self._said > 2:
            self.say(what)


class Watchdog:
    """End the process with status 1 if the block exceeds `seconds`.

    A kernel that does not end blocks its thread forever, and no signal reaches it. Calls `last_words` first, in
    another thread.
    """

    def __init__(self, seconds: float, last_words: Callable[[], None]) -> None:
        self._last_words = last_words
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Watchdog:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        try:
            print("it does not end, and is ended; this is where it was:", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            self._last_words()
            sys.stdout.flush()
        finally:
            os._exit(1)
