"""The command line in the tests: how a test calls it, and a folder full of files to run it in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone

TINY = Path(__file__).with_name("tiny.py")
EXPORT = f"export {TINY}:"
Run = Callable[..., tuple[int, str, str]]
"""A command line -> exit status, stdout, stderr without the lines of progress: the fixture `run`."""


def edited(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def population_variance(model: onnx.ModelProto) -> None:
    (n,) = (node for node in model.graph.node if node.name == "simam/n")
    n.attribute[0].t.CopyFrom(numpy_helper.from_array(np.float32(16.0)))


def newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def older_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def weights_elsewhere(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    set_external_data(tensor, "w.bin", offset=0, length=16)
    tensor.ClearField("raw_data")
    model.graph.initializer.append(tensor)


def write_files(folder: Path) -> None:
    """Files, sound and broken, into an empty folder."""
    import torch

    for name, form, shape in (
        ("fixed", "primitive", (1, 3, 4, 4)),
        ("dynamic", "function", ("n", 3, "h", "w")),
        ("custom", "custom_op", (1, 3, 4, 4)),
        ("one", "primitive", (1, 3, 1, 1)),
    ):
        onnx_file.save(alone(form, shape), folder / f"{name}.onnx")
    whole = (folder / "fixed.onnx").read_bytes()
    changes = (population_variance, newer_ir, newer_opset, weights_elsewhere)
    for change in changes:
        (folder / f"{change.__name__}.onnx").write_bytes(whole)
        edited(folder / f"{change.__name__}.onnx", change)
    (folder / "old.onnx").write_bytes((folder / "custom.onnx").read_bytes())
    edited(folder / "old.onnx", older_opset)
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("I am a text")
    (folder / "w.pt").write_bytes(b"I am no checkpoint")
    torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "head.weight": torch.ones(2)}, folder / "misfit.pt")
    for fitting in ("fits.pt", "fits.pt.json"):
        torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}, folder / fitting)
    np.savez(folder / "x.npz", x=np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32))
    (folder / "inner").mkdir()
    for code in ("mine.py", "inner/mine.py"):
        (folder / code).write_text("raise RuntimeError('it was run')")
    (folder / "helper.py").write_text("")
    (folder / "using.py").write_text(
        "import helper, torch\ndef build():\n    return torch.nn.ReLU(), torch.zeros(1, 2, 3, 3)\n"
    )
    (folder / "fixed.onnx.json").write_text("{}")
    (folder / "out.onnx").write_bytes(b"from before")


def contents(folder: Path) -> dict[str, bytes]:
    """Of each file, to see that nothing is written."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
