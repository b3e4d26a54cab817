"""Dynamic axes by name and by number: what is asked for is in the file, or it is an error."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError, VerificationError
from simam_deploy.to_onnx import export
from simam_deploy.to_onnx.axes import InputSizes, other_sizes, parsed, resolved
from simam_deploy.to_onnx.torch_export import EXPORTERS


def inputs(**shapes: Sequence[int]) -> dict[str, Tensor]:
    return {name: torch.zeros(tuple(shape)) for name, shape in shapes.items()}


def any_size(_: InputSizes) -> bool:
    return True


@pytest.mark.parametrize(
    ("asked", "names", "numbers"),
    [
        ([], [], {}),
        ("batch, height", ["batch", "height"], {}),
        (["batch,height", "width"], ["batch", "height", "width"], {}),
        (["x:0,2"], [], {"x": {0: "", 2: ""}}),
        (["x:0", "y:1"], [], {"x": {0: "", }, "y": {1: ""}}),
        (["x:0,2,y:1,batch"], ["batch"], {"x": {0: "", 2: ""}, "y": {1: ""}}),
        ("x: -1", [], {"x": {-1: ""}}),
        ({"x": [0, 2]}, [], {"x": {0: "", 2: ""}}),
        ({"x": {0: "n", 2: "rows"}}, [], {"x": {0: "n", 2: "rows"}}),
    ],
)  # fmt: skip
def test_how_axes_are_given(asked: Any, names: list[str], numbers: dict[str, dict[int, str]]) -> None:
    assert parsed(asked) == (names, numbers)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            "hight",
            "cannot make 'hight' dynamic; the axes are batch, time, length, depth, height, width, or INPUT:AXES",
        ),
        ("batch,2", "cannot make '2' dynamic"),
        ("x:", "cannot make 'x:' dynamic"),
        ("x:height", "cannot make 'x:height' dynamic"),
        ({"x": ["height"]}, r"dynamic axes are whole numbers; got x: \{'height'"),
    ],
)
def test_what_names_no_axis(asked: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parsed(asked)


IMAGE, VOLUME, SOUND, FLAT = (2, 3, 16, 20), (2, 3, 8, 16, 20), (2, 3, 50), (2, 3)


@pytest.mark.parametrize(
    ("asked", "given", "axes"),
    [
        (["batch", "height", "width"], {"x": IMAGE}, {"x": {0: "batch", 2: "height", 3: "width"}}),
        (["depth", "height", "width"], {"x": VOLUME}, {"x": {2: "depth", 3: "height", 4: "width"}}),
        (["batch"], {"x": FLAT}, {"x": {0: "batch"}}),
        (["batch"], {"x": SOUND, "n": (2,)}, {"x": {0: "batch"}, "n": {0: "batch"}}),
        (["batch"], {"x": IMAGE, "table": (5, 3), "one": ()}, {"x": {0: "batch"}, "table": {}, "one": {}}),
        (["height"], {"x": IMAGE, "sound": SOUND}, {"x": {2: "height"}, "sound": {}}),
        (["height"], {"x": IMAGE, "z": (1, 1, 8, 4)}, {"x": {2: "height"}, "z": {2: "height_z"}}),
        (["x:0,2,-1"], {"x": IMAGE}, {"x": {0: "batch", 2: "height", 3: "width"}}),
        (["x:1"], {"x": SOUND}, {"x": {1: "x_1"}}),
        (["batch", "z:1"], {"x": IMAGE, "z": FLAT}, {"x": {0: "batch"}, "z": {0: "batch", 1: "z_1"}}),
        ({"x": {0: "n", 2: "rows"}}, {"x": IMAGE}, {"x": {0: "n", 2: "rows"}}),
    ],
)
def test_which_axes_they_are(asked: Any, given: Mapping[str, Any], axes: dict[str, dict[int, str]]) -> None:
    assert resolved(asked, inputs(**given), any_size) == axes


@pytest.mark.parametrize(
    ("asked", "given", "words"),
    [
        ("height", {"x": (1, 50, 16)}, r"no input has an axis height: 'x' is 3-D \(1, 50, 16\), .*\n.* x:1 or x:2"),
        ("depth", {"x": IMAGE}, r"no input has an axis depth: 'x' is 4-D .* which has batch, height, width\n"),
        ("time", {"x": VOLUME}, "no input has an axis time: 'x' is 5-D"),
        ("batch", {"x": ()}, r"no input has an axis batch: 'x' is 0-D \(\), which has no named axis"),
        ("y:0", {"x": IMAGE}, "there is no input 'y' to make dynamic; the inputs are x"),
        ("x:4", {"x": IMAGE}, "input 'x' has no axis 4: 'x' is 4-D"),
        ("x:-5", {"x": IMAGE}, "input 'x' has no axis -5"),
        ("time", {"x": SOUND}, r"time may be axis 1 or axis 2 of 'x' .* takes other sizes of both\n.* x:1 or x:2"),
    ],
)
def test_an_axis_that_there_is_not(asked: str, given: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolved([asked], inputs(**given), any_size)


def test_time_is_the_axis_that_the_model_takes_at_other_sizes() -> None:
    for free in (1, 2):

        def runs(sizes: InputSizes, free: int = free) -> bool:
            return all(a == b for i, (a, b) in enumerate(zip(sizes["x"], (2, 8, 50), strict=True)) if i != free)

        for name in ("time", "length"):
            assert resolved([name], inputs(x=(2, 8, 50)), runs) == {"x": {free: "time"}}
    with pytest.raises(InputError, match="takes another size of neither"):
        resolved(["time"], inputs(x=(2, 8, 50)), lambda _: False)


@pytest.mark.parametrize(
    ("asked", "given", "sizes"),
    [
        (["batch"], {"x": IMAGE}, {"x": (3, 3, 16, 20)}),
        (["batch", "height", "width"], {"x": (1, 3, 640, 640)}, {"x": (2, 3, 672, 704)}),
        (["height", "width"], {"x": (1, 3, 50, 7)}, {"x": (1, 3, 52, 8)}),
        (["depth", "height", "width"], {"x": (1, 1, 16, 32, 32)}, {"x": (1, 1, 32, 64, 96)}),
        (["height"], {"x": (1, 3, 64, 64), "mask": (1, 1, 16, 16)}, {"x": (1, 3, 96, 64), "mask": (1, 1, 24, 16)}),
        (["x:1"], {"x": (1, 50, 16)}, {"x": (1, 52, 16)}),
    ],
)  # fmt: skip
def test_another_size(asked: list[str], given: Mapping[str, Any], sizes: InputSizes) -> None:
    tensors = inputs(**given)
    first, *further = other_sizes(resolved(asked, tensors, any_size), tensors)
    assert first == sizes
    assert len(further) == 2
    for later in further:
        assert all(max(a) >= max(b) for a, b in zip(later.values(), first.values(), strict=True))


class Applied(nn.Module):
    """SimAM on what `before` makes of the inputs, then `behind`."""

    def __init__(
        self, before: Callable[..., Tensor] = lambda x: x, behind: Callable[[Tensor], Tensor] = lambda y: y
    ) -> None:
        super().__init__()
        self.simam, self.before, self.behind = SimAM(), before, behind
        self.add_module("inner", before if isinstance(before, nn.Module) else None)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.behind(self.simam(self.before(x, *others)))


def as_map(x: Tensor) -> Tensor:
    return x.unsqueeze(1)


def planes(x: Tensor) -> Tensor:
    return x.flatten(2, 3)


class Conv1d(nn.Module):
    def __init__(self, permuted: bool) -> None:
        super().__init__()
        self.conv, self.permuted = nn.Conv1d(4, 6, 3, padding=1), permuted

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2) if self.permuted else x).unsqueeze(1)


DIMS: dict[str, tuple[nn.Module, tuple[int, ...], Any, list[str | int]]] = {
    "3-D, (N, C, T)": (Applied(Conv1d(False)), (2, 4, 12), ["batch", "time"], ["batch", 4, "time"]),
    "3-D, (N, T, C)": (Applied(Conv1d(True)), (2, 12, 4), ["length"], [2, "time", 4]),
    "3-D, by number": (Applied(as_map), (1, 12, 10), ["x:1"], [1, "x_1", 10]),
    "3-D, by names of one's own": (Applied(as_map), (1, 12, 10), {"x": {1: "frames"}}, [1, "frames", 10]),
    "4-D": (Applied(), (2, 3, 8, 12), ["width"], [2, 3, 8, "width"]),
    "5-D": (Applied(planes), (1, 2, 4, 6, 8), ["depth", "width"], [1, 2, "depth", 6, "width"]),
    "5-D, all": (
        Applied(planes), (2, 2, 4, 6, 8), ["batch,depth", "height,width"], ["batch", 2, "depth", "height", "width"]
    ),
}  # fmt: skip


def dims(path: Path) -> dict[str, list[str | int]]:
    found = onnx.load(path).graph.input
    return {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in found}


@pytest.mark.parametrize(
    ("exporter", "case"),
    [
        *(("torchscript", case) for case in DIMS),
        *(("dynamo", case) for case in list(DIMS)[1:3]),
        ("dynamo", "5-D, all"),
    ],
)
def test_what_is_asked_for_is_in_the_file(tmp_path: Path, exporter: str, case: str) -> None:
    model, shape, dynamic, expected = DIMS[case]
    done = export(
        model, torch.randn(shape), tmp_path / "m.onnx", exporter=exporter, dynamic=dynamic, runtimes=["ort"],
        inputs=["plain"], opset=18,
    )  # fmt: skip
    assert dims(tmp_path / "m.onnx") == {"x": expected}
    assert done.parity is not None
    assert done.parity.passed
    assert [row.case for row in done.parity.rows] == ["example", "plain", "other size", "odd size"]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_several_inputs_share_a_dimension(tmp_path: Path, exporter: str) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
            return SimAM()(x) + given["bias"][:, :, None, None], given["mask"].exp()

    args = (torch.randn(2, 3, 8, 12), {"mask": torch.ones(2, 1, 4, 6), "bias": torch.randn(2, 3)})
    export(
        Masked(), args, tmp_path / "m.onnx", exporter=exporter, dynamic="batch,height", runtimes=["ort"],
        inputs=["plain"],
    )  # fmt: skip
    assert dims(tmp_path / "m.onnx") == {
        "x": ["batch", 3, "height", 12],
        "given_mask": ["batch", 1, "height_given_mask", 6],
        "given_bias": ["batch", 3],
    }


def branch(y: Tensor) -> Tensor:
    return y.reshape(2 if y.shape[0] == 2 else 3, -1)


@pytest.mark.parametrize(
    ("exporter", "behind", "error", "words"),
    [
        (
            "torchscript", lambda y: y.reshape(int(y.shape[0]), 3, 20), InputError,
            r"ort\[?.*\nthe model runs on these sizes: the exporter fixed one that is to be dynamic\ncompute with",
        ),
        ("torchscript", lambda y: y.reshape(int(y.shape[0]), -1), VerificationError, "is not equal to the model"),
        ("torchscript", lambda y: y * float(y.shape[0]), VerificationError, "is not equal to the model"),
        ("dynamo", branch, InputError, r"static shape of 2 for dimension input 'x'"),
    ],
    ids=["an error of the file", "another shape", "another result", "a branch"],
)  # fmt: skip
def test_a_size_that_the_exporter_fixes_is_an_error(
    tmp_path: Path, exporter: str, behind: Callable[[Tensor], Tensor], error: type[Exception], words: str
) -> None:
    model, x = Applied(behind=behind), torch.randn(2, 3, 4, 5)
    with pytest.raises(error, match=f"(?s){words}"):
        export(model, x, tmp_path / "m.onnx", exporter=exporter, dynamic=["batch"], runtimes=["ort"])
    assert list(tmp_path.iterdir()) == []


def test_without_the_check_the_axes_of_the_inputs_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="static shape of 2 for dimension input 'x'"):
        export(Applied(behind=branch), torch.randn(2, 3, 4, 5), tmp_path / "m.onnx", dynamic=["batch"], check=False)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_input_that_is_not_used_has_no_dynamic_axis(tmp_path: Path, exporter: str) -> None:
    model = Applied(before=lambda x, z: x)
    x = torch.randn(2, 3, 4, 5)
    with pytest.raises(InputError, match="dynamic others_0_1; the model does not use its input 'others_0'"):
        export(model, (x, x), tmp_path / "m.onnx", exporter=exporter, dynamic=["x:0", "others_0:1"], check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_model_does_not_take_is_an_error_before_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it was exported"))
    model = Applied(behind=lambda y: y.reshape(2, 60))
    with pytest.raises(InputError, match=r"asked for dynamic batch; the model does not run on .*\(3, 3, 4, 5\)"):
        export(model, torch.randn(2, 3, 4, 5), tmp_path / "m.onnx", dynamic=["batch"])


def test_a_size_of_more_factors_of_two_is_tried(tmp_path: Path) -> None:
    """A network of stride 64 takes 64 and 128, and not 96."""

    def strided(x: Tensor) -> Tensor:
        assert x.shape[2] % 64 == 0
        return x

    model = Applied(before=strided)
    done = export(
        model, torch.randn(1, 2, 64, 4), tmp_path / "m.onnx", exporter="torchscript", dynamic=["height"],
        runtimes=["ort"], inputs=["plain"],
    )  # fmt: skip
    assert "other size" in {row.case for row in done.parity.rows}  # type: ignore[union-attr]
