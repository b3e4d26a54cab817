"""stdout and stderr that a command can print to whatever they are: ASCII, full, closed, a pipe that nobody reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

CANNOT_PRINT, NOBODY_READS = 74, 141
"""Exit status where all was done but the printing: EX_IOERR of sysexits.h, and the shell's for SIGPIPE."""


class Stream:
    """A text stream that never raises: what cannot be encoded is escaped, what cannot be written is dropped, and the
    first failure is kept."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: OSError | None = None if stream is not None else OSError(0, "it is closed")

    def write(self, text: str) -> int:
        """Write, as far as that can be done."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                with self._kept():
                    held = self.encoding
                    self._stream.write(text.encode(held, "backslashreplace").decode(held))
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flush, as far as that can be done."""
        if self._stream is not None and self.failure is None:
            with self._kept():
                self._stream.flush()

    @property
    def encoding(self) -> str:
        """As the stream beneath has it; UTF-8 if there is none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Keep the failure. What the stream still holds goes nowhere: Python would try again at its end."""
        self.failure = error
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)


@contextmanager
def standing_in() -> Iterator[Stream]:
    """Streams that never raise in the place of stdout and stderr; yields the former.

    Where 0, 1 or 2 is closed it is opened to nowhere: the next file would get that number, and with it all that a
    library in C prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    out = Stream(before[0])
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, Stream(before[1]))
    try:
        yield out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def status_after(out: Stream, status: int) -> int:
    """The exit status where `status` is that of the work: a failure to print changes 0 alone. Says so on stderr."""
    out.flush()
    if out.failure is None:
        return status
    if isinstance(out.failure, BrokenPipeError):
        return status or NOBODY_READS
    sys.stderr.write(f"error: all is done, and it could not be printed on stdout: {out.failure.strerror}\n")
    return status or CANNOT_PRINT
