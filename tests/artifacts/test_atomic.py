"""Whatever happens while a file is written, what was there before stays whole."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_target_and_side_files_arrive_and_nothing_else(target: Path) -> None:
    with staging(target) as path:
        assert path.name == target.name
        assert path.parent.parent == target.parent
        path.write_bytes(b"new")
        path.with_name("model.onnx.json").write_text("{}")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["model.onnx", "model.onnx.json"]


def test_a_relative_target_and_a_block_that_changes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with staging("model.onnx") as path:
        path.write_bytes(b"new")
        monkeypatch.chdir("elsewhere")
    assert names(tmp_path) == ["elsewhere", "model.onnx"]


def test_the_target_comes_last(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    replace = Path.replace

    def spy(self: Path, to: Path) -> Path:
        moved.append(self.name)
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", spy)
    with staging(target) as path:
        for name in ("model.onnx", "model.onnx.0123456789abcdef.data", "model.onnx.json"):
            path.with_name(name).write_bytes(b"new")
    assert moved == ["model.onnx.0123456789abcdef.data", "model.onnx.json", "model.onnx"]


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), OSError("of something else")])
def test_any_exception_leaves_what_was_there(target: Path, failure: BaseException) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise failure

    with pytest.raises(type(failure)) as caught, staging(target) as path:
        fail(path)
    assert caught.value is failure
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["model.onnx"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_while_writing(target: Path, code: int) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    with (
        pytest.raises(OutputError, match=r"cannot write .*model\.onnx: the disk .*make room"),
        staging(target) as path,
    ):
        fail(path)
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["model.onnx"]


def test_no_room_while_flushing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"), staging(target) as path:
        path.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["model.onnx"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_two_writers_take_turns(target: Path) -> None:
    import fcntl

    def write() -> None:
        with staging(target) as path:
            path.write_text("second")

    before = target.read_bytes()
    handle = os.open(target.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.2)
    assert writer.is_alive()
    assert target.read_bytes() == before
    os.close(handle)
    writer.join(10)
    assert target.read_text() == "second"


def test_a_killed_process_leaves_the_old_file_whole(target: Path) -> None:
    script = """
import os, signal, sys
from simam_deploy.artifacts.atomic import staging
with staging(sys.argv[1]) as path:
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    leftover, kept = names(target.parent)
    assert kept == "model.onnx"
    assert leftover.startswith(".simam-deploy-")


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_who_may_read_a_file_stays(target: Path) -> None:
    target.chmod(0o600)
    with staging(target) as path:
        path.write_bytes(b"new")
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_bytes() == b"new"


def test_a_folder_that_may_not_be_looked_into(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_symlink", deny)
    with pytest.raises(OutputError, match="no permission to write in"), staging(target):
        pytest.fail("the block ran")


# links, and files of others


@pytest.mark.parametrize("where", ["", "elsewhere", "elsewhere/deep"])
def test_a_link_is_written_through(tmp_path: Path, where: str) -> None:
    """As `cp` does: the link stays, the file is where it leads, and what is beside the file is there too."""
    real = tmp_path / where / "v2.onnx"
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_bytes(b"old")
    link = tmp_path / "latest.onnx"
    link.symlink_to(real.relative_to(tmp_path))
    with staging(link) as path:
        assert path.parent.parent == real.parent
        path.write_bytes(b"new")
        manifest.write({}, path)
        assert real.read_bytes() == b"old"
    assert link.is_symlink()
    assert link.read_bytes() == real.read_bytes() == b"new"
    assert names(real.parent)[-2:] == ["v2.onnx", "v2.onnx.json"]
    assert manifest.disagreements(link) == []


def test_a_link_to_a_link(target: Path) -> None:
    first, second = target.with_name("first"), target.with_name("second")
    first.symlink_to("second")
    second.symlink_to(target)
    with staging(first) as path:
        path.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert first.is_symlink()
    assert second.is_symlink()


def test_a_link_to_nothing_yet(tmp_path: Path) -> None:
    link = tmp_path / "latest.onnx"
    link.symlink_to("v1.onnx")
    with staging(link) as path:
        path.write_bytes(b"new")
    assert names(tmp_path) == ["latest.onnx", "v1.onnx"]
    assert link.is_symlink()
    link.unlink()
    link.symlink_to("nowhere/v1.onnx")
    with pytest.raises(OutputError, match=r"folder does not exist; create it with mkdir -p .*nowhere"), staging(link):
        pytest.fail("the block ran")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300)
    for use in (lambda: refuse_overwriting_inputs(path, [tmp_path / "in"]), lambda: staging(path).__enter__()):
        with pytest.raises(OutputError, match="File name too long"):
            use()
