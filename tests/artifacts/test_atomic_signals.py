"""Signals and other writers that come while the files of a target arrive."""

import json
import signal
import sys
import threading
from pathlib import Path

import pytest

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import staging

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_between_two_renames_waits_for_the_second(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new manifest beside an old engine would tell of another file."""

    class Came(Exception):
        pass

    def come(*_: object) -> None:
        raise Came

    replace = Path.replace

    def interrupted(self: Path, to: Path) -> Path:
        done = replace(self, to)
        signal.raise_signal(number)
        return done

    def write() -> None:
        with staging(out) as path:
            path.write_bytes(b"new")
            manifest.write({"a": 1}, path)
            monkeypatch.setattr(Path, "replace", interrupted)

    out = tmp_path / "net.engine"
    before = signal.signal(number, come)
    try:
        with pytest.raises(Came):
            write()
        assert signal.getsignal(number) is come
    finally:
        signal.signal(number, before)
    assert names(tmp_path) == ["net.engine", "net.engine.json"]
    assert out.read_bytes() == b"new"
    assert json.loads(out.with_name("net.engine.json").read_text())["a"] == 1
    assert manifest.disagreements(out) == []


def test_another_writer_between_two_renames_waits_for_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, between, done = tmp_path / "net.engine", threading.Event(), threading.Event()
    replace = Path.replace

    def slow(self: Path, to: Path) -> Path:
        moved = replace(self, to)
        if threading.current_thread() is first and self.name.endswith(".json"):
            between.set()
            done.wait(0.5)
        return moved

    def write(content: bytes) -> None:
        with staging(out) as path:
            path.write_bytes(content)
            manifest.write({}, path)

    monkeypatch.setattr(Path, "replace", slow)
    first = threading.Thread(target=write, args=(b"first",))
    first.start()
    assert between.wait(10)
    write(b"second")
    done.set()
    first.join()
    assert manifest.disagreements(out) == []
    assert out.read_bytes() == b"second"
