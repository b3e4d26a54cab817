"""`recipe --engine`: the file of that name, where it is here."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers import made_engine

import simam_deploy as sd
from simam_deploy.artifacts import manifest

WRITERS = ["trtexec", "deepstream", "jetson"]
RTX = r"^a.engine is an engine of TensorRT-RTX, which TensorRT-RTX alone loads; trtexec, Triton and DeepStream load"


def built(source: str, **profile: list[int]) -> None:
    """a.engine with the mark of TensorRT 10.3, whose manifest says that it was built from `source`."""
    path = made_engine.engine(Path("a.engine"), mark=b"ftrt", version=(10, 3, 0, 0))
    record: dict[str, Any] = made_engine.told(path) | {
        "source": manifest.file_source(Path(source)),
        "flavor": "tensorrt",
        "precision": "fp32",
        "targets": [],
        "versions": {"tensorrt": "10.3.0"},
        "profiles": {"x": profile} if profile else {},
    }
    made_engine.tell(path, record, hashed=True)


@pytest.mark.parametrize("host", [*WRITERS, "triton"])
def test_an_engine_of_tensorrt_rtx(folder: Path, host: str) -> None:
    remedy = "name another" if host != "triton" else "build one on the GPU that .* recipe trtexec fixed.onnx$"
    made_engine.engine(Path("a.engine"))
    with pytest.raises(sd.InputError, match=f"(?s){RTX}.*{remedy}"):
        sd.recipe(host, "fixed.onnx", engine="a.engine")


@pytest.mark.parametrize("host", [*WRITERS, "triton"])
def test_an_engine_of_another_file(folder: Path, host: str) -> None:
    built("primitive.onnx")
    with pytest.raises(sd.InputError, match=r"a.engine cannot be .* fixed.onnx:\n.* called primitive.onnx; give"):
        sd.recipe(host, "fixed.onnx", engine="a.engine")
    built("fixed.onnx")
    assert "a.engine" in sd.recipe(host, "fixed.onnx", engine="a.engine").text


@pytest.mark.parametrize("host", WRITERS)
def test_a_name_that_was_chosen_here_is_a_note(folder: Path, host: str) -> None:
    """The lines may run on another machine, where no such file is."""
    made_engine.engine(Path("fixed.engine"))
    notes = sd.recipe(host, "fixed.onnx").notes
    (note,) = (note for note in notes if "TensorRT-RTX" in note)
    assert note.startswith("fixed.engine is an engine of TensorRT-RTX")
    assert note.endswith("the lines would write over it; name another file with --engine")


@pytest.mark.parametrize("host", [*WRITERS, "triton"])
@pytest.mark.parametrize(
    ("engine", "what"), [("big.onnx", "the model itself"), ("parts.bin", "a file of the"), ("B.ONNX", "the name of")]
)
def test_an_engine_in_place_of_the_model(folder: Path, host: str, engine: str, what: str) -> None:
    model = onnx.load("fixed.onnx")
    model.graph.initializer.append(onnx.helper.make_tensor("w", 1, [1024], bytes(4096), raw=True))
    onnx.save(model, "big.onnx", save_as_external_data=True, location="parts.bin", size_threshold=0)
    with pytest.raises(sd.InputError, match=f"the engine is {engine}, {what}.*\nname a file of its own: --engine"):
        sd.recipe(host, "big.onnx", engine=engine)
    with pytest.raises(sd.InputError, match=r"big.onnx, the model itself"):
        sd.recipe(host, "big.onnx", engine=folder / "big.onnx")


def test_no_engine_at_all(folder: Path) -> None:
    Path("a.engine").write_bytes(Path("fixed.onnx").read_bytes())
    with pytest.raises(sd.ModelFileError, match=r"a.engine is no engine: it begins neither with vtrt"):
        sd.recipe("triton", "fixed.onnx", engine="a.engine")


def test_triton_says_what_it_could_not_check(folder: Path) -> None:
    note, _ = sd.recipe("triton", "fixed.onnx", engine="a.engine").notes
    assert note == "a.engine is not here, so it was not checked"
    Path("a.engine").write_bytes(made_engine.header(64, mark=b"ftrt"))
    note, _ = sd.recipe("triton", "fixed.onnx", engine="a.engine").notes
    assert note == "nothing says which file a.engine was built from, so that was not checked"


def test_triton_has_the_sizes_of_the_profile(folder: Path) -> None:
    assert "dims: [ -1, 3, -1, -1 ]" in sd.recipe("triton", "dynamic.onnx", engine="a.engine").text
    built("dynamic.onnx", min=[1, 3, 8, 8], opt=[4, 3, 8, 16], max=[16, 3, 8, 32])
    text = sd.recipe("triton", "dynamic.onnx", engine="a.engine").text
    assert "\nmax_batch_size: 16\n" in text
    assert 'name: "x" data_type: TYPE_FP32 dims: [ 3, 8, -1 ]' in text
    assert 'name: "y" data_type: TYPE_FP32 dims: [ 3, -1, -1 ]' in text
    assert "# The engine's profile has batches of 1 to 16; the shapes leave that axis out." in text


def test_triton_makes_no_batches_that_the_engine_lacks(folder: Path) -> None:
    built("dynamic.onnx", min=[2, 3, 8, 8], opt=[4, 3, 8, 8], max=[16, 3, 8, 8])
    text = sd.recipe("triton", "dynamic.onnx", engine="a.engine").text
    assert "\nmax_batch_size: 0\n" in text
    assert "dims: [ -1, 3, 8, 8 ]" in text
    model = onnx.load("dynamic.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "boxes"
    onnx.save(model, "boxes.onnx")
    built("boxes.onnx", min=[1, 3, 8, 8], opt=[4, 3, 8, 8], max=[16, 3, 8, 8])
    assert "\nmax_batch_size: 0\n" in sd.recipe("triton", "boxes.onnx", engine="a.engine").text
