"""The command line: what it prints, its exit status, and that bad input is told apart and leaves nothing behind."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import typer
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from simam_deploy import __version__, cli, native, onnx_file, verify
from simam_deploy.forms import FORMS, alone

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).with_name("tiny.py")
COMMANDS = ("export", "fuse", "inspect", "verify", "bench", "build", "doctor")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit status, stdout, stderr without the lines of progress."""

    def run_it(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["simam-deploy", *shlex.split(line)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        status = exit_.value.code
        return int(status or 0), out, "".join(x for x in err.splitlines(True) if not x.startswith("... "))

    return run_it


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


def weights_elsewhere(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    set_external_data(tensor, "w.bin", offset=0, length=16)
    tensor.ClearField("raw_data")
    model.graph.initializer.append(tensor)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of files, sound and broken, in which the commands are run."""
    for name, form, shape in (
        ("fixed", "primitive", (1, 3, 4, 4)),
        ("dynamic", "function", ("n", 3, "h", "w")),
        ("custom", "custom_op", (1, 3, 4, 4)),
        ("one", "primitive", (1, 3, 1, 1)),
    ):
        onnx_file.save(alone(form, shape), tmp_path / f"{name}.onnx")  # type: ignore[arg-type]
    whole = (tmp_path / "fixed.onnx").read_bytes()
    changes = (population_variance, newer_ir, newer_opset, weights_elsewhere)
    for change in changes:
        (tmp_path / f"{change.__name__}.onnx").write_bytes(whole)
        edited(tmp_path / f"{change.__name__}.onnx", change)
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("I am a text")
    (tmp_path / "w.pt").write_bytes(b"I am no checkpoint")
    torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "head.weight": torch.ones(2)}, tmp_path / "misfit.pt")
    for fitting in ("fits.pt", "fits.pt.json"):
        torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}, tmp_path / fitting)
    (tmp_path / "inner").mkdir()
    for code in ("mine.py", "inner/mine.py"):
        (tmp_path / code).write_text("raise RuntimeError('it was run')")
    (tmp_path / "fixed.onnx.json").write_text("{}")
    (tmp_path / "out.onnx").write_bytes(b"from before")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


EXPORT = f"export {TINY}:"
POPULATION = "divides the sum of squares by M = 16, not by M - 1 = 15 .population variance"
INSPECTED = {
    *("file", "opset", "ir_version", "weights_mib", "blocks", "kernel", "shared", "near_misses", "specialised"),
}
BAD: list[tuple[str, str]] = [
    # a model without SimAM, and what came nearest
    (f"{EXPORT}without -o out.onnx --exporter torchscript", "found no SimAM block, nor anything like one"),
    (
        f"{EXPORT}population -o out.onnx --exporter torchscript",
        r"found no SimAM block; what came nearest:\n/Mul.*:\n  " + POPULATION,
    ),
    (
        "fuse population_variance.onnx -o out.onnx",
        r"found no SimAM block; what came nearest:\nsimam:\n  " + POPULATION,
    ),
    # maps of 1x1, x that is not 4-D
    (f"{EXPORT}map_1x1 -o out.onnx", r"SimAM on a 1x1 map is 0/0 .* got x of shape \(1, 2, 1, 1\)"),
    ("fuse one.onnx -o out.onnx", r"simam:\n  its map is 1x1, where SimAM is 0/0 .*; take SimAM out there"),
    (f"{EXPORT}input_3d -o out.onnx", r"takes x of shape \(N, C, H, W\); got 3-D \(2, 4, 4\)"),
    (f"{EXPORT}input_5d -o out.onnx", r"got 5-D \(1, 2, 4, 4, 4\)"),
    # opsets and forms
    (
        f"{EXPORT}build -o out.onnx --opset 9 --form function --exporter torchscript",
        "form 'function' needs opset 17 or later; the file has opset 9",
    ),
    (
        f"{EXPORT}build -o out.onnx --opset 13",
        "dynamo exporter writes opset 18 and later; asked for 13\nuse --exporter torchscript",
    ),
    (f"{EXPORT}build -o out.onnx --opset 99", r"there is no opset 99; the installed onnx [\d.]+ knows 1 to \d+"),
    (f"{EXPORT}build -o out.onnx --opset 0 --exporter torchscript", "there is no opset 0"),
    (
        "fuse dynamic.onnx -o out.onnx --form instance_norm",
        "form 'instance_norm' cannot lower the SimAM block at node 'simam':\n  H is not fixed\n  W is not fixed\n"
        ".*--shape 1,3,224,224.*--form primitive",
    ),
    ("fuse fixed.onnx -o out.onnx --form nope", f"there is no form 'nope'; the forms are {', '.join(FORMS)}"),
    (f"{EXPORT}build -o out.onnx --form nope", "there is no form 'nope'; the forms are function"),
    ("verify fixed.onnx --forms primitive,nope", "there is no form 'nope'"),
    # files that cannot be read
    *(
        (command.format(file), words)
        for command in (
            "fuse {} -o out.onnx",
            "inspect {}",
            "verify {}",
            "bench {}",
            "build {} -o out.onnx --targets sm86",
        )
        for file, words in (
            ("cut.onnx", "cut.onnx.*truncated"),
            ("empty.onnx", "empty.onnx.*(truncated|graph)"),
            ("text.onnx", "text.onnx.*(truncated|graph)"),
            ("weights_elsewhere.onnx", r"weights.* in w.bin, which is (missing|not beside it)"),
            ("nowhere.onnx", "(?i)no (such )?file"),
            (".", "(?i)is a (folder|directory)"),
        )
    ),
    ("fuse newer_ir.onnx -o out.onnx", "has IR version 99; .*\npip install --upgrade onnx"),
    ("inspect newer_opset.onnx", "has opset 99; .*\npip install --upgrade onnx"),
    # weights and models by name
    (
        f"{EXPORT}build -o out.onnx --weights misfit.pt",
        r"(?s)weights in misfit.pt do not fit Net:.*Missing.*\"conv.bias\".*Unexpected.*\"head.weight\"",
    ),
    (f"{EXPORT}build -o out.onnx --weights w.pt", "w.pt is not a file of torch.save, or is truncated"),
    (f"{EXPORT}build -o out.onnx --weights nowhere.pt", "there is no file nowhere.pt"),
    (f"{EXPORT}nope -o out.onnx", "has no callable 'nope'; it has .*build"),
    ("export nowhere.py:build -o out.onnx", "there is no file nowhere.py"),
    ("export tiny -o out.onnx", "'tiny' does not name a model; give package.module:callable or file.py:callable"),
    (f"{EXPORT}no_example -o out.onnx", "gives no example input; say its size with --shape"),
    ("verify fixed.onnx --weights misfit.pt", "--weights are for a PyTorch model; name it with --against"),
    # the place to write to
    (f"{EXPORT}build -o nowhere/out.onnx", "the folder does not exist; create it with mkdir -p nowhere"),
    ("fuse fixed.onnx -o nowhere/out.onnx", "the folder does not exist; create it with mkdir -p nowhere"),
    ("fuse fixed.onnx -o text.onnx/out.onnx", "text.onnx is not a folder"),
    ("fuse fixed.onnx -o .", "it is a folder; give the name of a file in it"),
    ("fuse fixed.onnx -o ..", "it is a folder; give the name of a file in it"),
    (f"{EXPORT}build -o .", "it is a folder; give the name of a file in it"),
    ("fuse fixed.onnx -o fixed.onnx", "same file as the input fixed.onnx, and inputs are never modified"),
    ("fuse fixed.onnx -o ./../{folder}/fixed.onnx", "same file as the input fixed.onnx"),
    ("fuse fixed.onnx -o fixed.onnx.json", "same file as the input fixed.onnx.json, and inputs are never modified"),
    ("export mine.py:build -o mine.py", "same file as the input mine.py, and inputs are never modified"),
    ("export mine:build -o mine.py", "same file as the input .*mine.py"),
    ("export inner.mine:build -o inner/mine.py", "same file as the input .*mine.py"),
    (f"{EXPORT}build --weights fits.pt -o fits.pt", "same file as the input fits.pt"),
    (f"{EXPORT}build --weights fits.pt.json -o fits.pt", r"fits.pt.json \(written next to fits.pt\)"),
    ("build fixed.onnx -o fixed.onnx --targets sm86", "same file as the input fixed.onnx"),
    # runtimes and providers
    ("verify fixed.onnx --runtimes nope", "no such runtime for ONNX files: nope; there are onnx_reference, ort"),
    ("verify fixed.onnx --runtimes eager", "no such runtime for ONNX files: eager"),
    ("verify fixed.onnx --runtimes ,", "--runtimes names none"),
    (
        "verify fixed.onnx --runtimes ort --provider NopeExecutionProvider",
        "ort: asked for NopeExecutionProvider, but .*\nonnxruntime .* has .*CPUExecutionProvider",
    ),
    (
        "verify fixed.onnx --runtimes onnx_reference --provider CUDAExecutionProvider",
        "--provider CUDAExecutionProvider is for ort, which is not among onnx_reference",
    ),
    ("verify fixed.onnx --threads -1", "threads must be 0 .* to 1024; got -1"),
    ("verify custom.onnx --runtimes ort", r"simam.SimAM .*has no body in the file.*use --form function"),
    (
        "bench fixed.onnx --forms custom_op --runtimes ort",
        "nothing is left to run:\n  custom_op · ort: form custom_op",
    ),
    ("verify fixed.onnx --forms custom_op --runtimes ort", "nothing is left to run"),
    # axes, shapes and inputs
    (f"{EXPORT}build -o out.onnx --dynamic depth", "cannot make depth dynamic; the axes are batch, height, width"),
    (f"{EXPORT}build -o out.onnx --exporter nope", "no exporter 'nope'; the exporters are dynamo, torchscript"),
    (f"{EXPORT}build -o out.onnx --shape 1,a", "cannot read the shape 1,a; give positive numbers, as 1,3,224,224"),
    (f"{EXPORT}build -o out.onnx --shape 1,0,2", "cannot read the shape 1,0,2"),
    (f"{EXPORT}build -o out.onnx --shape 1,5,6,6", r"does not run on inputs of shape \(1, 5, 6, 6\)"),
    ("verify fixed.onnx --shape ''", "cannot read the shape"),
    ("verify fixed.onnx --shape 1,3,5,5", r"input 'x' has shape \(1, 3, 4, 4\); \(1, 3, 5, 5\) does not fit it"),
    ("verify fixed.onnx --shape 1,3,4,4 --shape 1", "2 sizes are given; the model has 1 inputs: x: float32"),
    ("verify fixed.onnx --inputs nope", "'nope' names no inputs; there are plain"),
    ("verify fixed.onnx --inputs nope.npz", "there is no file nope.npz"),
    ("verify fixed.onnx --inputs ''", "no inputs are named"),
    (
        f"verify fixed.onnx --against {TINY}:other_inputs --runtimes onnx_reference",
        r"eager.* does not run on inputs of shape \(1, 3, 4, 4\): .*5 channels",
    ),
    # engines
    ("build fixed.onnx -o out.onnx --targets ''", "no target to build for"),
    ("build dynamic.onnx -o out.onnx --targets sm86", r"give them with --shapes x:"),
    ("build dynamic.onnx -o out.onnx --targets sm86 --shapes x=1", "cannot read the shape 'x=1'"),
    ("build dynamic.onnx -o out.onnx --targets sm86 --shape y:1x3x4x4", "no input is called 'y'"),
]


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize(("line", "words"), BAD, ids=[line.replace(f"{TINY}:", "") for line, _ in BAD])
@pytest.mark.usefixtures("no_library")
def test_bad_input_is_an_error_of_its_own(folder: Path, run: Run, line: str, words: str) -> None:
    before = contents(folder)
    status, out, err = run(line.format(folder=folder.name))
    assert status == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert re.search(words, err), err
    assert contents(folder) == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".simam")]


def test_with_the_library_custom_op_runs_in_ort(folder: Path, run: Run, library: native.Library) -> None:
    status, out, err = run("verify fixed.onnx --forms custom_op --runtimes ort --inputs adversarial --gates")
    assert (status, err) == (0, "")
    assert "custom_op · ort" in out
    assert folder.exists()


def test_an_unknown_engine_target(folder: Path, run: Run) -> None:
    pytest.importorskip("tensorrt_rtx")
    before = contents(folder)
    status, _, err = run("build fixed.onnx -o new.engine --targets sm86,sm1")
    assert status == 2
    assert "unknown target sm1; TensorRT-RTX" in err
    assert contents(folder) == before


def test_cuda_where_there_is_none(folder: Path, run: Run) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    status, out, err = run("verify fixed.onnx --runtimes ort --provider CUDAExecutionProvider")
    assert (status, out) == (2, "")
    assert "ort: asked for CUDAExecutionProvider, but" in err
    assert 'pip install "simam-deploy[ort-gpu]"' in err


@pytest.mark.parametrize(
    ("line", "module", "extra"),
    [
        ("verify fixed.onnx --runtimes ort", "onnxruntime", "ort"),
        ("verify fixed.onnx --runtimes openvino", "openvino", "openvino"),
        ("bench fixed.onnx --runtimes ort", "onnxruntime", "ort"),
    ],
)
def test_a_runtime_that_is_not_installed(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, line: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    status, out, err = run(line)
    assert (status, out) == (2, "")
    assert f'\npip install "simam-deploy[{extra}]"' in err
    assert run("verify fixed.onnx")[0] == 0  # the others still work, and are what is taken when none is named


@pytest.mark.parametrize(
    "line",
    [
        "nope",
        "",
        "fuse",
        "fuse fixed.onnx",
        "fuse fixed.onnx -o a --nope",
        "verify fixed.onnx --threads many",
        "inspect",
    ],
)
def test_a_line_that_cannot_be_parsed(folder: Path, run: Run, line: str) -> None:
    before = contents(folder)
    assert run(line)[0] == 2
    assert contents(folder) == before


def help_of(name: str) -> Any:
    return typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_is_a_line_that_parses(run: Run, name: str) -> None:
    status, out, _ = run(f"{name} --help")
    assert status == 0
    command = help_of(name)
    example = command.epilog.removeprefix("Example: ")
    assert "".join(f"Example: {example}".split()) in "".join(c for c in "".join(out.split()) if c not in "│")
    program, first, *rest = shlex.split(example)
    assert (program, first) == ("simam-deploy", name)
    command.make_context(name, list(rest))  # raises when an option does not exist


def test_help_lists_every_command(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert set(COMMANDS) == set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert all(name in out for name in COMMANDS)


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("fuse fixed.onnx -o new.onnx --json", {"file", "blocks", "near_misses", "notes"}),
        (
            "inspect fixed.onnx --json",
            INSPECTED,
        ),
        (
            "inspect population_variance.onnx --json",
            INSPECTED,
        ),
        ("verify fixed.onnx --json --gates --forms all --inputs adversarial", {"passed", "rows", "gates", "notes"}),
        ("bench dynamic.onnx --json --seconds 0.1 --shape 1,3,8,8", {"threads", "rows", "left_out"}),
        (
            f"{EXPORT}build -o new.onnx --json --exporter torchscript --dynamic batch",
            {"file", "adopted", "blocks", "near_misses", "notes", "parity"},
        ),
    ],
    ids=["fuse", "inspect", "inspect a near miss", "verify", "bench", "export"],
)
def test_json_is_all_there_is_on_stdout(folder: Path, run: Run, line: str, keys: set[str]) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    status, out, err = run(line)
    assert status == 0, err
    assert set(json.loads(out, parse_constant=no_constant)) == keys


def test_an_export_by_dynamo_writes_file_and_manifest(folder: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}build -o new.onnx --json")
    assert status == 0, err
    printed, manifest = json.loads(out), json.loads((folder / "new.onnx.json").read_text())
    assert [row["form"] for row in printed["blocks"]] == ["function"]
    assert manifest["form"] == "function"
    assert manifest["source"] == {"model": f"{TINY}:build", "exporter": "dynamo", "dynamic": [], "adopted": []}
    assert manifest["parity"] == printed["parity"]["rows"]
    assert printed["parity"]["passed"] is True
    assert run("inspect new.onnx")[0] == 0


def test_an_export_says_what_it_adopted_and_what_not(folder: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript")
    assert status == 0, err
    assert re.search(r"adopted modules\s+module +class +λ *\n0 +Gate +0.1 *\n", out)
    assert re.search(
        r"modules left as they are:\n1 \(PopulationVariance\):\n  divides the sum of squares by M = 35", out
    )
    assert json.loads((folder / "new.onnx.json").read_text())["source"]["adopted"] == ["0"]
    status, out, _ = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript --json")
    adopted = json.loads(out)["adopted"]
    assert adopted["rows"] == [{"names": ["0"], "class_name": "Gate", "e_lambda": 0.1}]
    assert adopted["left_alone"][0]["class_name"] == "PopulationVariance"


def test_an_export_without_adopting(folder: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript --no-adopt")
    assert status == 0, err
    assert "adopted" not in out
    assert "left as they are" not in out
    assert json.loads((folder / "new.onnx.json").read_text())["source"]["adopted"] is None
    _, out, _ = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript --no-adopt --json --no-check")
    assert json.loads(out)["adopted"] is None


def test_neighbours(folder: Path, run: Run) -> None:
    """SimAM(...) * 1.001 is one operator; it is listed by its name, its gate is judged, and it comes apart again."""
    status, out, err = run(f"{EXPORT}other -o new.onnx --neighbours --json")
    assert status == 0, err
    assert [row["op"] for row in json.loads(out)["blocks"]] == ["SimAMAffine"]
    assert [block["op"] for block in json.loads((folder / "new.onnx.json").read_text())["blocks"]] == ["SimAMAffine"]
    assert [block["op"] for block in json.loads(run("inspect new.onnx --json")[1])["blocks"]] == ["SimAMAffine"]
    assert re.search(r"operator +\n.* function +SimAMAffine *\n", run("inspect new.onnx")[1])
    status, out, err = run("verify new.onnx --gates --forms all --json")
    assert status == 0, err
    assert {gate["passed"] for gate in json.loads(out)["gates"]} == {True}
    assert run("fuse new.onnx -o apart.onnx --no-neighbours")[0] == 0
    assert [block["op"] for block in json.loads(run("inspect apart.onnx --json")[1])["blocks"]] == ["SimAM"]
    assert run("fuse apart.onnx -o again.onnx --neighbours")[0] == 0
    assert (folder / "again.onnx").read_bytes() == (folder / "new.onnx").read_bytes()
    status, _, err = run("fuse apart.onnx -o out.onnx --neighbours --form primitive")
    assert status == 2
    assert "no node that neighbours fold into" in err
    assert (folder / "out.onnx").read_bytes() == b"from before"


def test_tables_for_people(folder: Path, run: Run) -> None:
    status, out, _ = run("fuse fixed.onnx -o 'a[red]b.onnx'")
    assert status == 0
    assert "a[red]b.onnx: SimAM blocks" in out
    assert "1x3x4x4" in out
    status, out, _ = run("inspect population_variance.onnx")
    assert status == 0
    assert "no SimAM block" in out
    assert "1 near miss, left alone:" in out
    status, out, _ = run("verify fixed.onnx --runtimes onnx_reference --gates")
    assert status == 0
    assert "parity with the float64 truth" in out
    assert "gate of each SimAM block" in out
    assert "pass" in out
    assert "FAIL" not in out


@pytest.mark.parametrize("as_json", ["", " --json"])
def test_a_row_that_fails_is_exit_status_1(tiny_onnx: Path, run: Run, as_json: str) -> None:
    same = f"verify {tiny_onnx} --against {TINY}:build --runtimes ort{as_json}"
    status, out, err = run(same)
    assert status == 0, err
    status, out, err = run(same.replace(":build", ":other"))
    assert (status, err) == (1, "")
    assert json.loads(out)["passed"] is False if as_json else "FAIL" in out


def test_an_export_that_fails_its_check_writes_nothing(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    monkeypatch.setattr(verify, "slack", lambda _: 1e-9)
    for as_json in ("", " --json"):
        status, out, err = run(f"{EXPORT}build -o out.onnx --exporter torchscript{as_json}")
        assert status == 1
        assert err.startswith("error: out.onnx is not equal to the model, so it was not written; see the table")
        assert json.loads(out)["passed"] is False if as_json else "FAIL" in out
        assert contents(folder) == before


def test_an_engine(folder: Path, run: Run) -> None:
    pytest.importorskip("tensorrt_rtx")
    status, out, err = run("build fixed.onnx -o new.engine --targets sm86 --json")
    assert status == 0, err
    assert json.loads(out)["targets"] == ["sm86"]
    assert (folder / "new.engine").stat().st_size > 1000


def as_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:simam_deploy", "-m", "simam_deploy.cli", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_as_a_process_of_its_own(folder: Path) -> None:
    done = as_process(folder, "inspect", "fixed.onnx", "--json")
    assert (done.returncode, done.stderr.replace("... prove the block at simam\n", "")) == (0, "")
    assert json.loads(done.stdout)["blocks"][0]["node"] == "simam"
    done = as_process(folder, "inspect", "cut.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cut.onnx is not an ONNX file, or is truncated")


def test_inspect_needs_no_framework_but_onnx(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime', 'openvino', 'tensorrt_rtx'): sys.modules[name] = None\n"
        "sys.argv = ['simam-deploy', 'fuse', 'fixed.onnx', '-o', 'new.onnx']\n"
        "from simam_deploy.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "new.onnx").exists()
