"""`import simam_deploy as sd`: every public function by its name, each one call on paths, modules and arrays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.onnx_models import model
from torch import nn

import simam_deploy as sd
from simam_deploy import errors
from simam_deploy.graph import onnx_file

PACKAGE = Path(sd.__file__).parent
FUNCTIONS = (
    "adopt",
    "analyze",
    "bench",
    "build_engine",
    "convert",
    "export",
    "find_blocks",
    "fuse",
    "inspect_layers",
    "open_session",
    "recipe",
    "specialise",
    "verify",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("front") / "net.onnx"
    onnx_file.save(model(shape="2, 3, 5, 7"), path)
    return path


def test_its_members() -> None:
    raised = {name for name, value in vars(errors).items() if isinstance(value, type)} - {"Any"}
    assert set(sd.__all__) == {*FUNCTIONS, *raised, "SimAM", "simam_module", "__version__"}
    for name in FUNCTIONS:
        assert callable(getattr(sd, name))
        assert getattr(sd, name).__doc__
    assert set(sd.__all__) <= set(dir(sd))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = sd.nothing  # type: ignore[attr-defined]


def test_no_submodule_has_the_name_of_a_member() -> None:
    """Its import would put a module in the place of the function."""
    assert not {path.stem for path in PACKAGE.iterdir()} & set(sd.__all__)


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import sys, simam_deploy; print(sorted(m for m in sys.modules if m.partition('.')[0] in %r))"
    heavy = ("numpy", "onnx", "onnxruntime", "torch", "rich", "typer")
    loaded = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_from_a_file_to_a_faster_one(file: Path, tmp_path: Path) -> None:
    found = sd.find_blocks(file)
    assert [block.e_lambda for block in found.blocks] == [1e-4]
    fused = sd.fuse(file, tmp_path / "fused.onnx")
    assert [row.form for row in fused.rows] == ["function"]
    report = sd.verify([file, tmp_path / "fused.onnx"], runtimes=["ort"], inputs=["plain"], gates=True)
    assert report.passed
    assert str(report).splitlines()[0].split() == ["session", "case", "output", "max", "error", "of", "tolerance"]
    assert str(report).splitlines()[-1] == "passed: all 4 comparisons"
    timing = sd.bench([file, tmp_path / "fused.onnx"], runtimes=["ort"], seconds=0.05)
    assert [row.label for row in timing.rows] == ["copy", "net · ort", "fused · ort"]
    assert [line.split()[0] for line in str(timing).splitlines()[1:]] == ["copy", "net", "fused", "timed:"]


def test_a_module_and_arrays(tmp_path: Path) -> None:
    trained = nn.Sequential(nn.Conv2d(3, 4, 3), sd.SimAM()).eval()
    x = torch.rand(1, 3, 10, 12)
    sd.export(trained, x, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])
    report = sd.verify(tmp_path / "m.onnx", against=trained, runtimes=["ort"], inputs={"input": np.asarray(x)})
    assert report.passed
    assert [row.case for row in report.rows] == ["the arrays"]
    other = nn.Sequential(nn.Conv2d(3, 4, 3), sd.SimAM()).eval()
    report = sd.verify(tmp_path / "m.onnx", against=other, runtimes=["ort"], inputs=["plain"])
    assert not report.passed
    assert str(report).endswith("FAILED: 1 of 1 comparison")
    with pytest.raises(sd.InputError, match=r"an array of shape \(1, 3, 9, 12\) does not fit 'input'"):
        sd.verify(tmp_path / "m.onnx", inputs={"input": np.zeros((1, 3, 9, 12), np.float32)})
    with pytest.raises(sd.InputError, match="no file is given"):
        sd.verify([])


def test_results_print_as_tables(file: Path, tmp_path: Path) -> None:
    found = sd.find_blocks(file)
    assert repr(found).splitlines()[-1] == "found: 1 SimAM block, 0 near misses"
    fused = sd.fuse(file, tmp_path / "fused.onnx")
    assert repr(fused).splitlines()[-1] == "written: 1 SimAM block"
    for text in (repr(found), repr(fused)):
        assert text.splitlines()[0].split()[:3] == ["node", "x", "type"]
        assert len(text.splitlines()) == 3


def test_an_export_prints_its_parts(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), sd.SimAM(), torch.nn.ReLU()).eval()
    done = sd.export(model, torch.randn(1, 3, 8, 8), tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])
    lines = repr(done).splitlines()
    assert lines[0] == str(tmp_path / "m.onnx")
    assert lines[1] == "adopted no module"
    assert "written: 1 SimAM block" in lines
    assert lines[-1] == "passed: all 2 comparisons"


def test_without_torch_the_way_to_it_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import simam_deploy as sd\n"
        "for ask in (lambda: sd.SimAM, lambda: sd.export, lambda: sd.adopt,\n"
        f"            lambda: sd.verify({str(file)!r}, against='export_models.digits:build', runtimes=['ort'])):\n"
        "    try:\n"
        "        ask()\n"
        "    except sd.RuntimeUnavailable as error:\n"
        "        print(str(error).replace('\\n', ' | '))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    needed = 'needs torch, which is not installed | pip install "simam-deploy[torch]"'
    names = ("SimAM", "export", "adopt", "the model export_models.digits:build")
    assert done.stdout.splitlines() == [f"{name} {needed}" for name in names]


def test_the_command_without_torch_says_so(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from simam_deploy.cli import main; main()"
    command = [sys.executable, "-c", code, "export", "export_models.digits:build", "-o", str(tmp_path / "x.onnx")]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-2:] == [
        "error: export needs torch, which is not installed",
        'pip install "simam-deploy[torch]"',
    ]


def test_files_one_after_another_or_in_a_list(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "fused.onnx"
    sd.fuse(file, other)
    given = {"runtimes": ["ort"], "inputs": ["plain"]}
    one, two = sd.verify(file, other, **given), sd.verify([file, other], **given)  # type: ignore[arg-type]
    assert [row.session for row in one.rows] == [row.session for row in two.rows]
    assert len(sd.bench(file, other, runtimes=["ort"], seconds=0.05).rows) == 3
    with pytest.raises(sd.InputError, match="no file is given"):
        sd.verify()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [(["plain", "uniform"], "one kind of inputs; asked for plain, uniform"), ([], "no inputs are named")],
)
def test_bench_times_one_kind_of_inputs(file: Path, inputs: list[str], words: str) -> None:
    with pytest.raises(sd.InputError, match=words):
        sd.bench(file, inputs=inputs, runtimes=["ort"], seconds=0.05)
