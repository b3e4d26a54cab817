"""PyTorch model to verified ONNX file: exporters, forms, dynamic axes, refusals."""

import errno
import json
import os
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from simam_deploy import SimAM, api
from simam_deploy import to_onnx as room
from simam_deploy.artifacts import manifest
from simam_deploy.compare.outputs import OutputRow
from simam_deploy.compare.verify import Report
from simam_deploy.errors import InputError, NoBlockError, OutputError, ShapeError, VerificationError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import open_session
from simam_deploy.to_onnx import export
from simam_deploy.to_onnx.torch_export import EXPORTERS

X = torch.randn(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


class Published(nn.Module):
    """The spelling that people copy."""

    def __init__(self, e_lambda: float = 1e-4) -> None:
        super().__init__()
        self.activaton = nn.Sigmoid()
        self.e_lambda = e_lambda

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, _, h, w = x.size()
        square = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        y = square / (4 * (square.sum(dim=[2, 3], keepdim=True) / (w * h - 1) + self.e_lambda)) + 0.5
        return x * self.activaton(y)


def net(attention: nn.Module | None = None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, 2, 1), attention or SimAM(e_lambda=0.1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)]
        return nn.Sequential(*layers).eval()


DYNAMIC = {"static": (), "batch": ("batch",), "batch, height, width": ("batch", "height", "width")}


@pytest.mark.parametrize("dynamic", DYNAMIC)
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("attention", [SimAM, Published])
def test_routes(tmp_path: Path, exporter: str, dynamic: str, attention: type[nn.Module]) -> None:
    done = export(
        net(attention(e_lambda=0.1)), X, tmp_path / "m.onnx", exporter=exporter, dynamic=DYNAMIC[dynamic],
        opset=17 if exporter == "torchscript" else None,
    )  # fmt: skip
    assert [row.form for row in done.fused.rows] == ["function"]
    assert done.fused.rows[0].e_lambda == pytest.approx(0.1)
    assert done.parity is not None
    assert done.parity.passed
    assert {row.session for row in done.parity.rows} >= {"onnx_reference", "ort", "openvino"}
    assert ("other size" in {row.case for row in done.parity.rows}) == bool(dynamic != "static")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    dims = [d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert [name for name in dims if name] == list(DYNAMIC[dynamic])


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path: Path, form: str) -> None:
    done = export(net(), X, tmp_path / "m.onnx", form=form)
    assert done.fused.rows[0].form == form
    assert done.parity is not None
    assert done.parity.passed


def test_the_file_and_its_manifest(tmp_path: Path) -> None:
    done = export(net(), X, tmp_path / "m.onnx", source="nets:build")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]
    manifest = json.loads((tmp_path / "m.onnx.json").read_text())
    assert manifest["source"] == {"model": "nets:build", "exporter": "dynamo", "dynamic": [], "adopted": []}
    assert manifest["versions"]["torch"] == torch.__version__ or manifest["versions"]["torch"]
    assert len(manifest["parity"]) == len(done.parity.rows if done.parity else ())
    assert onnx_file.load(tmp_path / "m.onnx").graph.inputs[0].name == "input"


def test_the_file_keeps_the_shapes_of_the_example(tmp_path: Path) -> None:
    """Where sizes are dynamic, and through commands that write another file."""
    path, fused, low = (tmp_path / name for name in ("net.onnx", "fused.onnx", "low.onnx"))
    export(net(), X, path, dynamic=["batch"], check=False)
    fuse_file(path, fused, "primitive")
    api.convert(path, low, to="fp16")
    for file in (path, fused, low):
        assert manifest.example(onnx_file.load(file).metadata_props) == {"input": (2, 3, 16, 20)}
    export(net(), X, path, check=False)
    assert manifest.EXAMPLE not in onnx_file.load(path).metadata_props


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    model = net().train()
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = X.clone()
    export(model, x, tmp_path / "m.onnx", check=False)
    assert [m.training for m in model] == [True, True, False, True]
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(x, X)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.simam = SimAM()

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.simam(left + 1) * right, right.mean(dim=(2, 3))

    for exporter in ("dynamo", "torchscript"):
        path = tmp_path / f"{exporter}.onnx"
        done = export(Two(), (X, X + 1), path, dynamic=("batch",), exporter=exporter, opset=18)
        assert done.parity is not None
        assert done.parity.passed
        with open_session(path) as session:
            assert [spec.name for spec in session.inputs] == ["left", "right"]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_models_keep_float32_statistics(tmp_path: Path, half: torch.dtype) -> None:
    """Sums of 2^18 and M - 1 = 6399 do not fit into float16; the block in the file takes them in float32."""
    x = 30 * torch.randn(1, 2, 80, 80, generator=torch.Generator().manual_seed(0)).to(half)
    done = export(nn.Sequential(SimAM()).to(half), x, tmp_path / "m.onnx", inputs=["plain"])
    assert done.fused.rows[0].dtype == ("FLOAT16" if half == torch.float16 else "BFLOAT16")
    assert done.parity.passed
    assert {row.session for row in done.parity.gates} == {"onnx_half", *(["ort"] if half == torch.float16 else [])}
    assert max(row.max_gate_error for row in done.parity.gates) < (1e-3 if half == torch.float16 else 4e-3)


class Naive(nn.Module):
    """SimAM as published, in the type of x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[2] * x.shape[3] - 1
        d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        return x * torch.sigmoid(d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + 1e-4)) + 0.5)


def test_a_half_model_that_collapses_is_cured_or_not_written(tmp_path: Path) -> None:
    """Fused, its statistics are float32; as torch writes it, the gate is 0.622 everywhere."""
    x = 30 * torch.randn(1, 2, 80, 80, generator=torch.Generator().manual_seed(0)).half()
    assert export(Naive().half(), x, tmp_path / "m.onnx", inputs=["plain"]).parity.passed


@pytest.mark.parametrize(
    ("model", "x", "kwargs", "error", "words"),
    [
        (nn.Conv2d(3, 4, 3), X, {}, NoBlockError, "found no SimAM block"),
        (net(), torch.randn(1, 3, 1, 1), {}, ShapeError, "1x1 map is 0/0"),
        (nn.Sequential(SimAM()), torch.randn(2, 3, 8), {}, ShapeError, "3-D"),
        (nn.Sequential(SimAM()), torch.randn(2, 3, 4, 4, 4), {}, ShapeError, "5-D"),
        (net(), torch.randn(1, 7, 8, 8), {}, InputError, r"does not run on inputs of shape \(1, 7, 8, 8\)"),
        (
            net().double(),
            X.double(),
            {},
            InputError,
            r"and this model holds torch.float64\n.*--no-check",
        ),
        (net(), X, {"opset": 13}, InputError, "dynamo exporter writes opset 18 and later; asked for 13"),
        (net(), X, {"opset": 99}, InputError, "99"),
        (
            net(),
            X,
            {"dynamic": ("deep",)},
            InputError,
            "cannot make 'deep' dynamic; the axes are batch, time, .*, width,",
        ),
        (net(), X, {"exporter": "tracing"}, InputError, "the exporters are dynamo, torchscript"),
        (net(), X, {"form": "fast"}, InputError, "no form 'fast'"),
    ],
    ids=lambda v: None,
)
def test_refusals_leave_nothing_behind(
    tmp_path: Path, model: nn.Module, x: torch.Tensor, kwargs: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        export(model, x, tmp_path / "m.onnx", **kwargs)
    assert list(tmp_path.iterdir()) == []


def test_an_axis_that_the_model_fixes_is_not_called_dynamic(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return SimAM()(x).reshape(2, 3 * 16 * 20)

    words = r"dynamic batch; the model does not run on inputs of shape \(3, 3, 16, 20\): .*\nleave the axis"
    for exporter in EXPORTERS:
        with pytest.raises(InputError, match=words):
            export(Fixed(), X, tmp_path / "m.onnx", dynamic=("batch",), exporter=exporter)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Report([OutputRow("plain", "ort", "y", 1.0, 2.0, 0.0, 0, passed=False)])
    monkeypatch.setattr(room.check, "verify", lambda *_, **__: failing)
    (tmp_path / "m.onnx").write_bytes(b"old")
    with pytest.raises(VerificationError, match="not equal to the model, so it was not written") as caught:
        export(net(), X, tmp_path / "m.onnx")
    assert caught.value.report is failing
    assert (tmp_path / "m.onnx").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="mkdir -p"):
        export(net(), X, tmp_path / "missing" / "m.onnx")


def test_what_is_no_model_and_no_tensor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the model is of type function; give a torch\.nn\.Module"):
        export(lambda x: x, X, tmp_path / "m.onnx")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"must be tensors or plain .*; input is of type ndarray\ngive a tensor"):
        export(net(), X.numpy(), tmp_path / "m.onnx")
    for args in ((), 3, {}):
        with pytest.raises(InputError, match="the example inputs hold no tensor"):
            export(net(), args, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "raised",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("write failed: No space left on device")],
    ids=["Python", "C++"],
)
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_full_disk_is_no_refusal_of_the_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exporter: str, raised: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(room.torch.onnx, "export", full)
    with pytest.raises(OutputError, match=r"cannot write .*m.onnx: the disk is full; make room"):
        export(net(), X, tmp_path / "m.onnx", exporter=exporter)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"opset_version": 16}, "asked for opset 17; the exporter wrote 16\nleave --opset out"),
        (
            {"dynamic_axes": {}},
            "asked for dynamic batch; the exporter fixed it for input 'x'.*\nleave it out of --dynamic",
        ),
    ],
    ids=["opset", "axis"],
)
def test_what_the_exporter_did_not_make_as_asked_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, words: str
) -> None:
    real = torch.onnx.export
    monkeypatch.setattr(room.torch.onnx, "export", lambda *args, **asked: real(*args, **(asked | change)))
    with pytest.raises(InputError, match=words):
        export(SimAM(), X, tmp_path / "m.onnx", exporter="torchscript", opset=17, dynamic=("batch",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_weights_beyond_2_gib_go_to_a_file_beside(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 8 * 2**30:
        pytest.skip("needs 8 GiB of disk")

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.simam = nn.Conv2d(3, 8, 3), SimAM()
            weight = torch.zeros(1_100_000, 512)
            weight[::100_000] = torch.randn(11, 512, generator=torch.Generator().manual_seed(0))
            self.weight = nn.Parameter(weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.weight @ self.simam(self.conv(x)).reshape(512, 1)).square().sum()

    model, x = Large().eval(), torch.randn(1, 3, 10, 10)
    export(model, x, tmp_path / "large.onnx", check=False)
    fuse_file(tmp_path / "large.onnx", tmp_path / "primitive.onnx", "primitive")
    (data,) = tmp_path.glob("large.onnx.*.data")
    names = ["large.onnx", data.name, "large.onnx.json"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("large")) == names
    (data,) = tmp_path.glob("primitive.onnx.*.data")
    assert (tmp_path / "large.onnx").stat().st_size < 2**20 < 2**31 < data.stat().st_size
    onnx.checker.check_model(str(tmp_path / "large.onnx"))
    with open_session(tmp_path / "primitive.onnx") as session, torch.inference_mode():
        (y,) = session.run({"x": x.numpy()}).values()
        assert y == pytest.approx(model(x).item(), rel=1e-4)
