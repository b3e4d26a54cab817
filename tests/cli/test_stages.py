"""A stage that lasts is named, one that passes is not."""

import threading
import time

import pytest

from simam_deploy.cli.stages import lasting


def test_what_lasts_is_shown_and_shown_again() -> None:
    shown: list[str] = []
    again = threading.Event()

    def show(line: str) -> None:
        shown.append(line)
        if len(shown) == 3:
            again.set()

    with lasting(show, after=0.2, again=0.3) as say:
        for i in range(20):
            say(f"short {i}")
        say("long")
        assert again.wait(10)
    assert shown[0] == "long"
    assert shown[1].startswith("long (")
    assert not any("short" in line for line in shown)


def test_the_stage_after_is_shown_by_itself() -> None:
    shown: list[str] = []
    with lasting(shown.append, after=0.1, again=60) as say:
        for stage in ("one", "two"):
            say(stage)
            end = time.monotonic() + 10
            while stage not in shown and time.monotonic() < end:
                time.sleep(0.01)
    assert shown == ["one", "two"]


def test_nothing_is_shown_after_the_end_and_errors_pass() -> None:
    shown: list[str] = []

    def fails() -> None:
        with lasting(shown.append, after=0.05) as say:
            say("fails")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    count = threading.active_count()
    time.sleep(0.2)
    assert not shown
    assert threading.active_count() == count
