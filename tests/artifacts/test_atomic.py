"""Whatever happens while a file is written, what was there before stays whole."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.errors import OutputError


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


def test_a_link_in_a_circle(tmp_path: Path) -> None:
    link = tmp_path / "latest.onnx"
    link.symlink_to(link.name)
    with pytest.raises(OutputError, match="a symbolic link that leads in a circle"), staging(link):
        pytest.fail("the block ran")
    assert link.is_symlink()


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"name": "m", "version": "1", "source": "x"}', "[" * 10**5])
def test_a_file_of_somebody_else_is_not_overwritten(target: Path, text: str) -> None:
    beside = target.with_name("model.onnx.json")
    beside.write_text(text)
    words = r"model\.onnx\.json \(written next to model\.onnx\): it is there, and no manifest of ours; move it away"
    with pytest.raises(OutputError, match=words), staging(target):
        pytest.fail("the block ran")
    assert beside.read_text() == text


def test_nor_one_that_came_while_the_block_ran(target: Path) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"new")
        manifest.write({}, path)
        target.with_name("model.onnx.json").write_text("of somebody else")

    with pytest.raises(OutputError, match="no manifest of ours"), staging(target) as path:
        write(path)
    assert target.read_bytes() == b"old"
    assert target.with_name("model.onnx.json").read_text() == "of somebody else"


def test_nor_a_link(target: Path) -> None:
    beside, other = target.with_name("model.onnx.json"), target.with_name("other.json")
    beside.symlink_to(other.name)
    with (
        pytest.raises(OutputError, match=r"model\.onnx\.json .*: it is a symbolic link; move it away"),
        staging(target),
    ):
        pytest.fail("the block ran")
    assert not other.exists()
    assert beside.is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_nor_a_pipe(target: Path) -> None:
    os.mkfifo(target.with_name("model.onnx.json"))
    with pytest.raises(OutputError, match=r"model\.onnx\.json: it is a device or a pipe"), staging(target):
        pytest.fail("the block ran")


def test_a_manifest_of_ours_is_overwritten_also_one_of_before_the_mark(target: Path) -> None:
    old = {"version": "0.1", "form": "function", "source": {"file": "a"}, "blocks": [], "parity": None}
    old["versions"] = {"python": "3.10", "onnx": "1.16"}
    target.with_name("model.onnx.json").write_text(json.dumps(old))
    for content in (b"new", b"newer"):
        with staging(target) as path:
            path.write_bytes(content)
            manifest.write({"form": "primitive"}, path)
        assert manifest.disagreements(target) == []
    target.write_bytes(b"of somebody else")
    assert manifest.disagreements(target) == ["model.onnx.json is of another model.onnx"]


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
    with pytest.raises(OutputError, match=r"model\.onnx\.json: it is a folder"), staging(target):
        pytest.fail("the block ran")
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


def test_the_manifest_is_no_input_either(target: Path) -> None:
    given = target.with_name("new.onnx.json")
    given.write_bytes(b"weights")
    with pytest.raises(OutputError, match=r"written next to new\.onnx.*same file as the input"):
        refuse_overwriting_inputs(target.with_name("new.onnx"), [target, given])


def test_the_manifest_of_an_input_is_safe(target: Path) -> None:
    manifest = target.with_name("model.onnx.json")
    refuse_overwriting_inputs(manifest, [target])  # there is none
    manifest.write_text("{}")
    with pytest.raises(OutputError, match=r"same file as the input .*model\.onnx\.json, and inputs"):
        refuse_overwriting_inputs(manifest, [target])
