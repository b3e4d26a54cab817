"""Weights in other files: read where they may lie, refused everywhere else, by every reader and in every place."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile.paths import BIAS, ENTRIES, LOCATIONS, PLACES, SECRET, secret, tensor, used, whole

from simam_deploy import open_session
from simam_deploy.cli import main
from simam_deploy.errors import ModelFileError
from simam_deploy.formula import reference
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import messages
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import installed
from simam_deploy.runtimes.session import Array

RUNTIMES = [name for name in installed() if name not in ("eager", "trt")]
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links as POSIX has them")
WORDS = {
    "above": "from ../secret, outside its own folder",
    "link": r"in w.bin, which is a symbolic link, .*: put the file itself there",
    "link_inside": r"in w.bin, which is a symbolic link",
    "link_to_a_folder": r"in sub/secret, which is a symbolic link, or behind one",
    "fifo": r"in w.bin, which is a device or a pipe and no file",
    "device": "outside its own folder",
    "folder": "which is a folder and no file",
    "itself": "which names no file",
    "an_address": "which names no file",
    "below_a_file": "which cannot be read: Not a directory",
}


def write(folder: Path, model: onnx.ModelProto) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def everything(folder: Path) -> dict[str, bytes | str]:
    """All files, and where links lead."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["above", "link", "link_to_a_folder", "fifo", "device"])
def test_every_place_that_holds_a_tensor_is_checked(place: str, name: str, tmp_path: Path) -> None:
    location, beside = LOCATIONS[name]
    source = write(tmp_path / "a", PLACES[place](tensor(location)))
    beside(source.parent)
    words = {"sparse_initializer": "as sparse tensors", "training": "training information"}.get(place, WORDS[name])
    for reader in (onnx_file.load, onnx_file.read):
        with pytest.raises(ModelFileError, match=words):
            reader(source)


@pytest.mark.parametrize("name", LOCATIONS)
def test_every_location_that_is_no_file_below_the_model(name: str, tmp_path: Path) -> None:
    location, beside = LOCATIONS[name]
    source = write(tmp_path / "a", PLACES["initializer"](tensor(location)))
    beside(source.parent)
    with pytest.raises(ModelFileError, match="(?s)" + WORDS.get(name, "weights")):
        onnx_file.load(source)


@pytest.mark.parametrize("place", ["initializer", "attribute", "default"])
@pytest.mark.parametrize("name", ENTRIES)
def test_every_number_that_is_no_place_in_the_file(name: str, place: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a", PLACES[place](tensor(**ENTRIES[name])))
    whole(source.parent)
    with pytest.raises(ModelFileError, match=r"no number of bytes|is truncated|and it asks for"):
        onnx_file.read(source)


def test_two_locations_are_none(tmp_path: Path) -> None:
    twice = tensor("w.bin")
    twice.external_data.add(key="location", value="../secret")
    source = write(tmp_path / "a", PLACES["initializer"](twice))
    whole(source.parent)
    secret(source.parent)
    with pytest.raises(ModelFileError, match="says twice where its weights 'w' are"):
        onnx_file.load(source)


@pytest.mark.parametrize("place", ["initializer", "default", "attribute_in_a_function"])
@pytest.mark.parametrize("name", ["above", "link", "fifo"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_runtime_is_given_what_is_refused(runtime: str, name: str, place: str, tmp_path: Path) -> None:
    """Nor does anything outside change: OpenVINO was given hard links and copies at the model's own locations."""
    location, beside = LOCATIONS[name]
    model = PLACES[place](tensor(location))
    fused = _in_our_form(tmp_path, model)
    beside(fused.parent)
    before = everything(tmp_path)
    with pytest.raises(ModelFileError, match=WORDS[name]):
        open_session(fused, runtime)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("command", ["inspect", "bench", "verify", "fuse", "build"])
def test_no_command_touches_a_file_outside(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A default of a function that names a file of the user: in /tmp, where our folders are."""
    source = _in_our_form(tmp_path, PLACES["default"](tensor("../secret")))
    held = secret(source.parent)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "a"))
    more = {"fuse": ["-o", str(tmp_path / "out.onnx")], "build": ["-o", str(tmp_path / "out"), "--targets", "sm86"]}
    monkeypatch.setattr(sys, "argv", ["simam-deploy", command, str(source), *more.get(command, [])])
    before = everything(tmp_path)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "outside its own folder" in capsys.readouterr().err
    assert everything(tmp_path) == before
    assert held.read_bytes() == SECRET


def _in_our_form(tmp_path: Path, model: onnx.ModelProto) -> Path:
    """`model` in tmp_path/a with its SimAM as one of our nodes and its function, so that it must be changed to be
    loaded by OpenVINO; without the check: what it names is put there in good order first, and taken away again."""
    plain = write(tmp_path / "made", model)
    changed = [entry for t in _outside(model) for entry in t.external_data if entry.key == "location"]
    locations = [entry.value for entry in changed]
    for entry in changed:
        entry.value = "w.bin"
    plain.write_bytes(model.SerializeToString())
    whole(plain.parent)
    fuse_file(plain, tmp_path / "made/fused.onnx", epilogue=False)
    fused = onnx.load(tmp_path / "made/fused.onnx")
    ours = [f for f in fused.functions if f.domain == "simam"]
    assert ours
    again = onnx.ModelProto.FromString(plain.read_bytes())
    again.functions.extend(ours)
    again.opset_import.add(domain="simam", version=1)
    del again.graph.node[1:12]  # the chain
    again.graph.node.insert(1, next(n for n in fused.graph.node if n.domain == "simam"))
    for entry, location in zip(
        [e for t in _outside(again) for e in t.external_data if e.key == "location"], locations, strict=True
    ):
        entry.value = location
    return write(tmp_path / "a", again)


def _outside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [m for m in messages(model) if isinstance(m, onnx.TensorProto) and m.external_data]


# what is right


def outputs(path: Path, runtime: str, x: Array) -> Array:
    with open_session(path, runtime) as session:
        (y,) = session.run({session.inputs[0].name: x}).values()
        return y


@pytest.mark.parametrize("how", ["plain", "hard", "in_a_folder", "behind_a_linked_folder"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "default"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_below_the_folder_are_read(runtime: str, place: str, how: str, tmp_path: Path) -> None:
    """By each runtime, from the file as it is and from what fuse makes of it."""
    if place == "default" and runtime != "ort":
        pytest.skip("it knows no defaults of functions")
    location = "sub/w.bin" if how == "in_a_folder" else "w.bin"
    source = _in_our_form(tmp_path, used(tensor(location), place))
    (source.parent / "sub").mkdir()
    held = source.parent / location
    if how == "hard":
        (tmp_path / "other").write_bytes(BIAS.tobytes())
        held.hardlink_to(tmp_path / "other")
    else:
        held.write_bytes(BIAS.tobytes())
    if how == "behind_a_linked_folder":
        (tmp_path / "link").symlink_to("a")
        source = tmp_path / "link/m.onnx"
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    want = np.maximum(reference(np.maximum(x, 0)), 0) + BIAS.reshape(1, 3, 1, 1)
    before = everything(tmp_path)
    np.testing.assert_allclose(outputs(source, runtime, x), want, atol=1e-5)
    assert everything(tmp_path) == before
    fuse_file(source, tmp_path / "fused.onnx", "primitive")
    held.unlink()
    np.testing.assert_allclose(outputs(tmp_path / "fused.onnx", runtime, x), want, atol=1e-5)


def test_what_was_checked_is_checked_again_when_it_is_read(tmp_path: Path) -> None:
    source = write(tmp_path / "a", PLACES["initializer"](tensor("w.bin")))
    whole(source.parent)
    first, second = onnx_file.load(source), onnx_file.load(source)
    (source.parent / "w.bin").unlink()
    (source.parent / "w.bin").symlink_to(secret(source.parent))
    held = first.graph.initializers["w"].const_value
    assert held is not None
    for use in (held.numpy, held.tobytes, lambda: onnx_file.save(second, tmp_path / "out.onnx")):
        with pytest.raises(ModelFileError, match="which is a symbolic link"):
            use()
    assert SECRET not in b"".join(b for b in everything(tmp_path / "a").values() if isinstance(b, bytes))


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16", "INT4", "UINT2", "DOUBLE", "BOOL", "COMPLEX64"])
@pytest.mark.parametrize("size", [0, 5])
def test_every_type_is_mapped(kind: str, size: int, tmp_path: Path) -> None:
    number = onnx.TensorProto.DataType.Value(kind)
    inside = onnx.helper.make_tensor("w", number, [size], [True, 0, 1, 1, 0][:size])
    raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(inside), "w").raw_data
    held = tensor("w.bin", offset="3")
    held.data_type, held.dims[0] = number, size
    source = write(tmp_path / "a", PLACES["initializer"](held))
    (source.parent / "w.bin").write_bytes(b"abc" + raw + b"xyz")
    loaded = onnx_file.load(source).graph.initializers["w"].const_value
    assert loaded is not None
    np.testing.assert_array_equal(loaded.numpy(), onnx.numpy_helper.to_array(inside))
    assert loaded.tobytes() == raw
