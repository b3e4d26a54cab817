"""What a model takes and returns besides tensors in a row, through both exporters."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM, open_session
from simam_deploy.errors import InputError
from simam_deploy.to_onnx import Exported, export
from simam_deploy.to_onnx.torch_export import EXPORTERS

X = torch.randn(1, 3, 8, 6, generator=torch.Generator().manual_seed(0))
Z = torch.randn(1, 3, 8, 6, generator=torch.Generator().manual_seed(1))
Pair = namedtuple("Pair", ["one", "two"])


@dataclass
class Found:
    boxes: Tensor
    scale: float = 1.0
    masks: tuple[Tensor, ...] = ()


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.simam = nn.Conv2d(3, 4, 3, padding=1), SimAM()

    def y(self, x: Tensor) -> Tensor:
        return self.simam(self.conv(x))


class Optional(Base):
    def forward(self, x: Tensor, z: Tensor | None = None, scale: float = 1.0) -> Tensor:
        return self.y(x if z is None else x + 2 * z) * scale


class Unused(Base):
    def forward(self, x: Tensor, z: Tensor, w: Tensor) -> Tensor:
        return self.y(x) * w


class Star(Base):
    def forward(self, *xs: Tensor) -> Tensor:
        return self.y(xs[0] - xs[1])


class Ultralytics(Base):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Tensor]]:
        y = self.y(x)
        return y.flatten(2), {"boxes": y, "scores": y.sigmoid()}


class Dict(Base):
    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"out": self.y(batch["image"]), "more": [batch["others"][1], (batch["others"][0] + 1,)]}


class Data(Base):
    def forward(self, given: Found) -> Found:
        return Found(self.y(given.boxes) * given.scale, float(given.boxes.shape[1]), given.masks)


class Named(Base):
    def forward(self, pair: Pair) -> Pair:
        return Pair(self.y(pair.one), pair.two - pair.one)


class Keyword(Base):
    def forward(self, x: Tensor, *, scale: Tensor, mode: str = "no") -> Tensor:
        return self.y(x) * scale if mode == "yes" else x


class Twice(Base):
    def forward(self, x: Tensor) -> Any:
        y = self.y(x)
        return y, None, y, x, {"x": y + 1}


class Plain(Base):
    def forward(self, x: Tensor) -> Any:
        y = self.y(x)
        return y, float(y.shape[1]), "text", None, 3


CASES: dict[str, tuple[type[nn.Module], Any, dict[str, Any], list[str], list[str], list[str]]] = {
    "optional, given": (Optional, (X, Z), {}, ["x", "z"], ["output"], []),
    "optional, not given": (Optional, X, {}, ["x"], ["output"], []),
    "optional, None": (Optional, (X, None), {}, ["x"], ["output"], []),
    "a number": (
        Optional, [X, Z, 3.0], {}, ["x", "z"], ["output"],
        ["constants in the file, as they are no tensors: scale = 3.0"],
    ),
    "unused": (
        Unused, (X, Z, Z[:, :1]), {}, ["x", "w"], ["output"],
        ["the model does not use its inputs z, so the file does not have them"],
    ),
    "the same tensor twice": (Star, (X, X), {}, ["xs_0", "xs_1"], ["output"], []),
    "*args, **kwargs": (Ultralytics, X, {}, ["x"], ["output_0", "output_1_boxes", "output_1_scores"], []),
    "a dict": (
        Dict, {"image": X, "others": [X, (Z)]}, {}, ["batch_image", "batch_others_0", "batch_others_1"],
        ["out", "more_0", "more_1_0"], [],
    ),
    "a dataclass": (
        Data, (Found(X, 2.0, (Z,)),), {}, ["given_boxes", "given_masks_0"], ["boxes", "masks_0"],
        ["constants in the file, as they are no tensors: given_scale = 2.0",
         "outputs that are no tensors are not in the file: scale = 3.0"],
    ),
    "a named tuple": (Named, (Pair(X, Z),), {}, ["pair_one", "pair_two"], ["one", "two"], []),
    "keywords": (
        Keyword, X, {"scale": torch.tensor(2.0), "mode": "yes"}, ["x", "scale"], ["output"],
        ["constants in the file, as they are no tensors: mode = 'yes'"],
    ),
    "an output twice, an input, a name twice": (
        Twice, X, {}, ["x"], ["output_0", "output_2", "output_3", "output_4_x"], []
    ),
    "numbers and texts": (
        Plain, X, {}, ["x"], ["output_0"],
        ["outputs that are no tensors are not in the file: output_1 = 4.0, output_2 = 'text', output_4 = 3"],
    ),
}  # fmt: skip


def exported(model: nn.Module, args: Any, path: Path, **options: Any) -> Exported:
    done = export(model, args, path, runtimes=["ort"], inputs=["plain"], **options)
    assert done.parity is not None
    assert done.parity.passed
    return done


def interface(path: Path) -> tuple[list[str], list[str]]:
    graph = onnx.load(path).graph
    return [value.name for value in graph.input], [value.name for value in graph.output]


SEEN_BY_DYNAMO = ("optional, given", "unused", "the same tensor twice", "*args, **kwargs", "a dict", "a dataclass",
                  "keywords", "an output twice, an input, a name twice")  # fmt: skip


@pytest.mark.parametrize(
    ("exporter", "case"),
    [*(("torchscript", case) for case in CASES), *(("dynamo", case) for case in SEEN_BY_DYNAMO)],
)
def test_exported_as_torch_does(tmp_path: Path, exporter: str, case: str) -> None:
    build, args, kwargs, inputs, outputs, notes = CASES[case]
    model = build()
    done = exported(model, args, tmp_path / "m.onnx", kwargs=kwargs, exporter=exporter)
    assert interface(tmp_path / "m.onnx") == (inputs, outputs)
    assert list(done.notes) == notes
    assert {row.output for row in done.parity.rows} == set(outputs)  # type: ignore[union-attr]
    assert "conv.weight" in {t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer}  # as in the model


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_child_that_is_called_model(tmp_path: Path, exporter: str) -> None:
    """As those of Ultralytics have; the child keeps its name in the file."""

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Conv2d(3, 4, 3), SimAM())

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x)

    exported(Detector(), X, tmp_path / "m.onnx", exporter=exporter)
    assert "model.0.weight" in {t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_inputs_of_one_tensor_stay_two(tmp_path: Path, exporter: str) -> None:
    exported(Star(), (X, X), tmp_path / "m.onnx", exporter=exporter)
    model = Star()
    exported(model, (X, X), tmp_path / "m.onnx", exporter=exporter)
    with open_session(tmp_path / "m.onnx") as session, torch.no_grad():
        y = session.run({"xs_0": X.numpy(), "xs_1": Z.numpy()})["output"]
        np.testing.assert_allclose(y, model(X, Z).numpy(), atol=1e-5)


def test_an_empty_dict_of_defaults_and_an_unknown_type(tmp_path: Path) -> None:
    for args, words in (
        ((X, object()), r"z is of type object\ngive a tensor for it"),
        (({"a": X.numpy()},), "x_a is of type ndarray"),
        ((), "hold no tensor; give one or more"),
        ((None, 3), "hold no tensor"),
    ):
        with pytest.raises(InputError, match=words):
            export(Optional(), args, tmp_path / "m.onnx")


class Returns(Base):
    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(self.y(x))


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda y: None, "returns no tensor, but NoneType; an ONNX file needs one"),
        (lambda y: (3, "text"), "returns no tensor, but tuple"),
        (lambda y: {"a": y, "b": [object()]}, r"b_0 is of type object\nreturn its tensors from a module around"),
    ],
)
def test_what_no_file_can_return_is_an_error_before_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, give: Callable[[Tensor], Any], words: str
) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it was exported"))
    with pytest.raises(InputError, match=words):
        export(Returns(give), X, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_integers_of_the_example_are_kept_in_the_check(tmp_path: Path) -> None:
    """Other indices may be out of range."""

    class Lookup(Base):
        def forward(self, x: Tensor, at: Tensor, keep: Tensor) -> Tensor:
            assert at.max() < 4
            return self.y(x)[:, at] * keep

    exported(Lookup(), (X, torch.tensor([3, 0, 2]), torch.tensor(True)), tmp_path / "m.onnx", exporter="torchscript")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own, as it copies a program
@pytest.mark.parametrize(
    ("exporter", "given"), [("dynamo", "module"), ("torchscript", "module"), ("torchscript", "program")]
)
def test_a_program_of_torch_export(tmp_path: Path, exporter: str, given: str) -> None:
    program = torch.export.export(Ultralytics().eval(), (X,))
    model = program if given == "program" else program.module()
    exported(model, X, tmp_path / "m.onnx", exporter=exporter)  # type: ignore[arg-type]
    assert interface(tmp_path / "m.onnx") == (["x"], ["output_0", "output_1_boxes", "output_1_scores"])


def test_a_scripted_model(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
            n = x.shape[2] * x.shape[3] - 1
            return x * torch.sigmoid(d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + 1e-4)) + 0.5)

    with pytest.warns(DeprecationWarning, match="script"):
        model = torch.jit.script(Net())
    exported(model, X, tmp_path / "m.onnx", exporter="torchscript")
    assert model.training
