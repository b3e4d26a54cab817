"""Safe stdout and stderr: for ASCII, a full disk, a closed stream, a pipe without a reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

CANNOT_PRINT, NOBODY_READS = 74, 141
"""Exit status if only printing failed: EX_IOERR of sysexits.h, and that of shells for SIGPIPE."""


class Stream:
    """Text stream that never raises: escapes characters that it cannot encode, records its first failure."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: OSError | None = None if stream is not None else OSError(0, "it is closed")

    def write(self, text: str) -> int:
        """Write, if possible."""
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
        """Flush, if possible."""
        if self._stream is not None and self.failure is None:
            with self._kept():
                self._stream.flush()

    @property
    def encoding(self) -> str:
        """Encoding of the underlying stream; UTF-8 without one."""
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
        """Record the failure and discard buffered output: Python would try again at exit."""
        self.failure = error
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)


@contextmanager
def standing_in() -> Iterator[Stream]:
    """Replace stdout and stderr by streams that never raise; yields stdout.

    Opens a closed descriptor 0, 1 or 2 to the null device. Otherwise the next file would get that number, and the
    output of C libraries with it.
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
    """Final exit status: a printing failure replaces a `status` of 0. Reports it on stderr."""
    out.flush()
    if out.failure is None:
        return status
    if isinstance(out.failure, BrokenPipeError):
        return status or NOBODY_READS
    sys.stderr.write(f"error: all is done, and it could not be printed on stdout: {out.failure.strerror}\n")
    return status or CANNOT_PRINT
