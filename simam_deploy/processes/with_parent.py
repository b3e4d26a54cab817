"""End this process when its parent ends, for any reason."""

from __future__ import annotations

import os
import signal
import sys

_KILL_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


def end_with(parent: int) -> None:
    """Let the kernel kill this process when `parent`, its process number, ends. Linux alone; no effect elsewhere."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
