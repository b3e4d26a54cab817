"""Whatever happens while a file is written, what was there before stays whole."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simam_deploy.errors import OutputError
from simam_deploy.files import refuse_overwriting_inputs, staging


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    return path


def test_target_and_side_files_arrive_and_nothing_else(target: Path) -> None:
    with staging(target) as path:
        assert path.name == target.name
        assert path.parent.parent == target.parent
        path.write_bytes(b"new")
        path.with_name("model.onnx.json").write_text("{}")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["model.onnx", "model.onnx.json"]


def test_a_relative_target_and_a_body_that_changes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        for suffix in ("", ".data", ".json"):
            path.with_name(path.name + suffix).write_bytes(b"new")
    assert moved == ["model.onnx.data", "model.onnx.json", "model.onnx"]


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
def test_a_killed_process_leaves_the_old_file_whole(target: Path) -> None:
    script = """
import os, signal, sys
from simam_deploy.files import staging
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


def test_a_linked_target_becomes_a_file_and_what_it_led_to_stays(target: Path) -> None:
    link = target.with_name("latest.onnx")
    link.symlink_to(target.name)
    with staging(link) as path:
        path.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    assert link.read_bytes() == b"new"
    assert not link.is_symlink()


def test_a_dangling_link_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "latest.onnx"
    link.symlink_to("gone.onnx")
    with staging(link) as path:
        path.write_bytes(b"new")
    assert names(tmp_path) == ["latest.onnx"]


def test_folder_missing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"folder does not exist; create it with mkdir -p .*out"):  # noqa: SIM117
        with staging(tmp_path / "out" / "model.onnx"):
            pytest.fail("the block ran")


def test_folder_is_a_file(target: Path) -> None:
    with pytest.raises(OutputError, match=r"model\.onnx is not a folder"), staging(target / "x.onnx"):
        pytest.fail("the block ran")


def test_target_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; give the name of a file in it"), staging(tmp_path):
        pytest.fail("the block ran")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null")
def test_target_is_a_device(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    with pytest.raises(OutputError, match="is a device or a pipe"), staging(link):
        pytest.fail("the block ran")


def test_no_permission(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OutputError, match="no permission to write in"), staging(folder / "model.onnx"):
        pytest.fail("the block ran")


def test_no_permission_in_words_for_every_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(prefix: str, dir: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir / prefix))

    monkeypatch.setattr("tempfile.mkdtemp", deny)
    with pytest.raises(OutputError, match="no permission to write in"), staging(tmp_path / "model.onnx"):
        pytest.fail("the block ran")


def test_a_side_file_that_is_a_folder_stops_everything(target: Path) -> None:
    target.with_name("model.onnx.json").mkdir()

    def write(path: Path) -> None:
        path.write_bytes(b"new")
        path.with_name("model.onnx.data").write_bytes(b"new")
        path.with_name("model.onnx.json").write_text("{}")

    with pytest.raises(OutputError, match=r"model\.onnx\.json: it is a folder"), staging(target) as path:
        write(path)
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["model.onnx", "model.onnx.json"]


def test_a_block_that_writes_nothing(target: Path) -> None:
    with pytest.raises(OutputError, match="nothing was written"), staging(target):
        pass
    assert target.read_bytes() == b"old"


def test_inputs_are_safe(target: Path) -> None:
    refuse_overwriting_inputs(target.with_name("other.onnx"), [target])
    for spelled in (target, target.parent / "." / target.name, str(target)):
        with pytest.raises(OutputError, match=r"same file as the input .* choose another output name"):
            refuse_overwriting_inputs(spelled, [target])


def test_inputs_are_safe_behind_links(target: Path) -> None:
    soft, hard = target.with_name("soft.onnx"), target.with_name("hard.onnx")
    soft.symlink_to(target.name)
    hard.hardlink_to(target)
    for out, given in [(soft, target), (target, soft), (hard, target)]:
        with pytest.raises(OutputError, match="same file as the input"):
            refuse_overwriting_inputs(out, [given])


@pytest.mark.parametrize("suffix", [".data", ".json"])
def test_side_files_are_no_inputs_either(target: Path, suffix: str) -> None:
    given = target.with_name("new.onnx" + suffix)
    given.write_bytes(b"weights")
    with pytest.raises(OutputError, match=r"written next to new\.onnx.*same file as the input"):
        refuse_overwriting_inputs(target.with_name("new.onnx"), [target, given])


def test_the_manifest_of_an_input_is_safe(target: Path) -> None:
    manifest = target.with_name("model.onnx.json")
    refuse_overwriting_inputs(manifest, [target])  # there is none
    manifest.write_text("{}")
    with pytest.raises(OutputError, match=r"same file as the input .*model\.onnx\.json, and inputs"):
        refuse_overwriting_inputs(manifest, [target])
