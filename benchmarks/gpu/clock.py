"""The time there is for all of it, and what is being done, on stderr."""

from __future__ import annotations

import sys
import time


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
        """Seconds; below 0 where they are used up."""
        return self._seconds - self.spent()

    def until(self, seconds: float) -> Clock:
        """The same, but at its end when so many are spent."""
        other = Clock(seconds)
        other._begin = self._begin
        return other

    def say(self, what: str) -> None:
        """What is done from now on."""
        self._said = time.monotonic()
        print(f"[{self.spent():4.0f} s] {what}", file=sys.stderr, flush=True)

    def still(self, what: str) -> None:
        """The same for what goes on: at most once in two seconds."""
        if time.monotonic() - self._said > 2:
            self.say(what)
