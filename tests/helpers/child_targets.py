"""What test_limited.py runs in processes with limits."""

import os
import sys
import tempfile
import time


def echo(*arguments: object) -> object:
    return [*arguments, os.getcwd()]  # noqa: PTH109


def spin() -> None:
    while True:
        pass


def sleep(path: str) -> None:
    with open(path, "w") as stream:  # noqa: PTH123
        stream.write(str(os.getpid()))
    time.sleep(60)


def grow() -> int:
    return len([bytearray(2**20) for _ in range(2**20)])


def fail() -> None:
    raise ValueError("the first line\nthe second")


def die() -> None:
    sys.stderr.write("a last word\n")
    sys.stderr.flush()
    os.abort()


def litter() -> str:
    tempfile.mkdtemp()
    with open("made_here", "w"):  # noqa: PTH123
        return os.environ["TMPDIR"]


def imported() -> str:
    import colorsys

    return str(colorsys.__file__)
