"""Targets that are refused: files of others, folders, devices, places without permission, the inputs."""

import errno
import json
import os
from pathlib import Path

import pytest

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("path", ["", ".", "/", "a\0b"])
def test_a_path_that_names_no_file(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = "it names no file; give the name of a file in a folder"
    with pytest.raises(OutputError, match=words), staging(path):
        pass
    with pytest.raises(OutputError, match=words):
        refuse_overwriting_inputs(path, [])
    assert list(tmp_path.iterdir()) == []


def test_an_input_whose_manifest_would_have_too_long_a_name(target: Path) -> None:
    refuse_overwriting_inputs(target, [target.with_name("n" * 252)])


def test_no_room_for_one_of_two_targets_names_that_one(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot write \S+engine: the disk is full"),
        staging(tmp_path / "engine") as engine,
        staging(tmp_path / "cache"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(engine))
    assert list(tmp_path.iterdir()) == []
