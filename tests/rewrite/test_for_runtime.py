"""The table of what runtimes take: its choice is in the file, what it takes runs there, what it refuses is named.

MNN and ncnn are in no test's environment: `make peers` runs their rows.
"""

import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import simam_deploy as sd
from simam_deploy.artifacts import manifest
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import Array, reference, tolerance
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.rewrite.for_runtime import OPSET, RUNTIMES, choice
from simam_deploy.rewrite.forms import FORMS, alone
from simam_deploy.rewrite.fuse import fuse

ROOT = Path(__file__).parents[2]
SHAPE = (1, 8, 5, 7)
HERE = ("onnxruntime", "openvino", "tensorrt")
"""Their runtimes are installed for the tests; tensorrt_rtx has the row of tensorrt."""
BARE = [(runtime, form) for runtime in HERE for form in RUNTIMES[runtime].forms if form != "custom_op"]
"""custom_op needs a library of ours."""


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), sd.SimAM(), nn.ReLU()).eval()


def run(runtime: str, file: Path, x: Array) -> Array:
    """As anybody loads the file, without help of ours."""
    if runtime == "onnxruntime":
        ort = pytest.importorskip("onnxruntime")
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    elif runtime == "openvino":
        core = pytest.importorskip("openvino").Core()
        compiled = core.compile_model(core.read_model(str(file)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled([x])[0]
    else:
        try:
            session = sd.open_session(file, "trt_network")
        except RuntimeUnavailable as error:
            pytest.skip(str(error))
        with session:
            (found,) = session.run({session.inputs[0].name: x}).values()
    return found


def lone(folder: Path, form: str, opset: int = OPSET, shape: tuple[int | str, ...] = SHAPE) -> Path:
    file = folder / f"{form}-{opset}.onnx"
    onnx_file.save(alone(form, shape, opset=opset), file)
    return file


def faint(shape: tuple[int, ...] = SHAPE) -> Array:
    """A wrong or lost λ shows."""
    return (1e-2 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def check(runtime: str, file: Path, x: Array) -> None:
    assert (np.abs(run(runtime, file, x) - reference(x)) <= tolerance(x, np.float32)).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_export_is_as_the_row_says(tmp_path: Path, runtime: str) -> None:
    file, row = tmp_path / "net.onnx", RUNTIMES[runtime]
    done = sd.export(net(), torch.zeros(1, 3, 6, 8), file, for_runtime=runtime, check=False)
    assert {block.form for block in sd.find_blocks(file).blocks} == {row.form}
    assert onnx_file.load(file).opset_imports[""] == OPSET
    held = manifest.read(file)
    assert held is not None
    assert held["for"] == done.fused.as_dict()["for"]
    assert {key: held["for"][key] for key in ("runtime", "form", "opset")} == {
        "runtime": runtime,
        "form": row.form,
        "opset": OPSET,
    }
    assert f"for {runtime}: form {row.form} ({row.why}), opset {OPSET}" in done.fused.notes[0]
    again = tmp_path / "again.onnx"
    sd.fuse(file, again, for_runtime=runtime)
    assert again.read_bytes() == file.read_bytes()
    if runtime in HERE:
        x = np.random.default_rng(0).standard_normal((1, 3, 6, 8)).astype(np.float32)
        with torch.no_grad():
            np.testing.assert_allclose(run(runtime, file, x), net()(torch.from_numpy(x)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("runtime", "form"), BARE)
def test_forms_run_at_both_ends_of_the_opsets(tmp_path: Path, runtime: str, form: str) -> None:
    takes = RUNTIMES[runtime]
    if any(metadata.version(package) != version for package, version in takes.tested.items()):
        pytest.skip(f"the row is of {dict(takes.tested)}")
    for opset in takes.opsets:
        check(runtime, lone(tmp_path, form, opset), faint())


@pytest.mark.parametrize("runtime", HERE)
def test_sizes_stay_dynamic(tmp_path: Path, runtime: str) -> None:
    file = lone(tmp_path, RUNTIMES[runtime].form, shape=("n", 8, "h", "w"))
    for shape in (SHAPE, (2, 8, 9, 4)):
        check(runtime, file, faint(shape))


PRESETS = {"onnxruntime": "cpu"}
LOW = [(runtime, to) for runtime in HERE for to in RUNTIMES[runtime].types if to != "fp32"]


@pytest.mark.parametrize(("runtime", "to"), LOW)
def test_files_of_each_type_run(tmp_path: Path, runtime: str, to: str) -> None:
    wide, low, file = (tmp_path / name for name in ("wide.onnx", "low.onnx", "file.onnx"))
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 8)).astype(np.float32)
    sd.export(net(), torch.zeros(4, 3, 6, 8), wide, opset=OPSET, check=False)
    target = PRESETS.get(runtime, runtime) if to.startswith("int8") else "cpu"
    sd.convert(wide, low, to=to, target=target, inputs={"input": x}, keep_io=True)
    sd.fuse(low, file, for_runtime=runtime)
    assert precision(onnx_file.load(file)) == to
    with torch.no_grad():
        y = net()(torch.from_numpy(x)).numpy()
    assert np.abs(run(runtime, file, x) - y).max() <= 0.02 * np.abs(y).max()


@pytest.mark.parametrize("form", RUNTIMES["openvino"].refused)
def test_openvino_refuses_the_forms_that_its_row_refuses(tmp_path: Path, form: str) -> None:
    with pytest.raises(RuntimeError, match="Unable to read the model"):
        run("openvino", lone(tmp_path, form), faint())


def test_versions_are_those_that_are_installed_for_the_tests() -> None:
    pins = "".join((ROOT / name).read_text() for name in ("constraints.txt", "benchmarks/peers/requirements.txt"))
    for takes in RUNTIMES.values():
        for package, version in takes.tested.items():
            assert re.search(rf"^{package}=={re.escape(version)}\b", pins, re.M), (package, version)


@pytest.mark.parametrize(("runtime", "form"), [(name, form) for name in RUNTIMES for form in RUNTIMES[name].refused])
def test_a_form_that_a_runtime_does_not_take_is_refused_by_name(runtime: str, form: str) -> None:
    reason = re.escape(RUNTIMES[runtime].refused[form])
    with pytest.raises(
        InputError, match=f"{runtime} does not take form '{form}': {reason}\nit takes .*leave the form"
    ):
        choice(runtime, form)


def test_a_form_that_it_takes_may_be_asked_for() -> None:
    chosen = choice("mnn", "instance_norm", 17)
    assert (chosen.form, chosen.opset) == ("instance_norm", 17)
    assert chosen.notes()[0] == "for mnn: form instance_norm, as asked, opset 17"


Refused = Callable[[Path], object]
WRONG: dict[str, Refused] = {
    "no row for the runtime 'coreml'; there are rows for onnxruntime, ": lambda _: choice("coreml"),
    "there is no form 'body'": lambda _: choice("mnn", "body"),
    "mnn takes opsets 9 to 28, as tested; asked for 8\nexport again": lambda _: choice("mnn", None, 8),
    "ncnn takes opsets 9 to 26, as tested; asked for 27": lambda _: fuse(
        alone("primitive", SHAPE, opset=27), for_runtime="ncnn"
    ),
    "ncnn takes fixed sizes and batch 1: x is 1x8xhxw\npnnx makes constants of .* one file for each size": lambda _: (
        fuse(alone("primitive", (1, 8, "h", "w")), for_runtime="ncnn")
    ),
    "ncnn takes fixed sizes and batch 1: x is 2x8x5x7": lambda _: fuse(
        alone("primitive", (2, *SHAPE[1:])), for_runtime="ncnn"
    ),
    "ncnn takes fixed sizes and batch 1: input is batchx3x6x8": lambda folder: sd.export(
        net(), torch.zeros(1, 3, 6, 8), folder / "x.onnx", for_runtime="ncnn", dynamic=["batch"]
    ),
    "mnn takes files in fp32, as tested; this one is fp16\ngive the float32 file": lambda folder: sd.export(
        net().half(), torch.zeros(1, 3, 6, 8).half(), folder / "x.onnx", for_runtime="mnn", check=False
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_requests_against_the_row_are_refused(tmp_path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words):
        WRONG[words](tmp_path)
    assert not list(tmp_path.iterdir())


def test_sizes_are_refused_before_the_exporter_runs(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(InputError, match="ncnn takes fixed sizes"):
        sd.export(
            net(),
            torch.zeros(2, 3, 6, 8),
            tmp_path / "x.onnx",
            for_runtime="ncnn",
            check=False,
            on_progress=said.append,
        )
    assert said == ["run the model"]


def test_tensorrt_rtx_has_the_row_of_tensorrt() -> None:
    assert RUNTIMES["tensorrt_rtx"] is RUNTIMES["tensorrt"]


def test_every_form_is_taken_or_refused_with_a_reason() -> None:
    for takes in RUNTIMES.values():
        assert takes.form in takes.forms
        assert {*takes.forms, *takes.refused} == FORMS.keys()
        assert takes.opsets[0] <= OPSET <= takes.opsets[1]
