"""Tables fit 100 columns whatever names a file has, and commands end with a line that counts; -q leaves no more."""

import json
import warnings
from pathlib import Path

import onnx
import pytest
from helpers.command_line import Run
from rich.cells import cell_len
from rich.console import Console

from simam_deploy.cli import doctor, render
from simam_deploy.engines import builder
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone
from simam_deploy.text import LEAST, as_table, counted, shortened

LONG = "the_model_of_somebody_with_a_name_that_goes_on_and_on_through_every_stage_of_it/" * 2
CODE = """
import torch
from simam_deploy import SimAM

class {name}(SimAM):
    pass

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.{name} = SimAM()

    def forward(self, x):
        return self.{name}(x)

def build():
    return Net().eval(), torch.zeros(1, 2, 3, 5)
"""


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file below folders with long names, in which everything has a long name."""
    path = tmp_path / LONG / f"{LONG.partition('/')[0]}.onnx"
    path.parent.mkdir(parents=True)
    onnx_file.save(alone("primitive", (1, 2, 3, 5)), path)
    model = onnx.load(path)
    renamed = {"x": f"{LONG}x", "y": f"{LONG}y"}
    for node in model.graph.node:
        node.name = LONG + node.name
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = renamed[value.name]
    onnx.save(model, path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(render, "out", Console(width=100, emoji=False))
    return path


@pytest.fixture
def tables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, which are never cut, are not printed."""
    monkeypatch.setattr(render, "lines", lambda *_: None)


@pytest.mark.usefixtures("tables_alone")
@pytest.mark.parametrize(
    ("line", "ends", "count", "verdict"),
    [
        ("inspect {file}", "SimAM", 1, "found: 1 SimAM block, 0 near misses"),
        ("fuse {file} -o {folder}new.onnx", "SimAM", 1, "written: 1 SimAM block"),
        (
            "verify {file} --gates --forms function,primitive --runtimes ort,onnx_reference --inputs plain",
            "pass",
            8,
            "passed: all 8 comparisons",
        ),
        (
            "bench {file} {folder}other.onnx --forms function,primitive --runtimes ort --seconds 0",
            ("-", "fallback", ")"),
            5,
            "timed: 4 sessions",
        ),
        ("export {folder}net.py:build -o {folder}new.onnx --inputs plain --runtimes ort", "pass", 1, "passed: all "),
        (
            "export {folder}net.py:build -o {folder}new.onnx --no-check",
            "SimAM",
            1,
            "written: 1 SimAM block; not compared with the model (--no-check)",
        ),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) and value else None,
)
def test_a_table_fits_and_a_line_counts(
    long: Path, run: Run, line: str, ends: str | tuple[str, ...], count: int, verdict: str
) -> None:
    name = LONG.partition("/")[0]
    (long.parent / "net.py").write_text(CODE.format(name=name))
    (long.parent / "other.onnx").write_bytes(long.read_bytes())
    status, out, err = run(line.format(file=long, folder=f"{long.parent}/"))
    assert status == 0, err
    *shown, last = out.splitlines()
    assert last.startswith(verdict)
    assert max(map(cell_len, shown)) <= 100
    assert any("…" in row for row in shown)
    assert sum(row.endswith(ends) for row in shown) >= count


def test_the_notes_of_build(long: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(_: Path, path: Path, *, shapes: list[str], **__: object) -> builder.EngineReport:
        return builder.EngineReport(path, "fp16", ("sm86",), {}, 2_000_000, 9, "1.7", 2.5, (), notes=tuple(shapes))

    monkeypatch.setattr(builder, "build_engine", built)
    _, out, _ = run(f"build {long} -o {long.parent}/new.engine --targets sm86 --shapes x:1..2 --shapes y:1")
    assert out.endswith("\nx:1..2\ny:1\npassed: built for all 1 target\n")


@pytest.mark.usefixtures("tables_alone")
def test_the_tables_of_build_and_doctor(long: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(_: Path, path: Path, **__: object) -> builder.EngineReport:
        return builder.EngineReport(path, "fp16", ("sm86", "sm89"), {}, 2_000_000, 9, "1.7", 2.5, ())

    monkeypatch.setattr(builder, "build_engine", built)
    _, out, _ = run(f"build {long} -o {long.parent}/new.engine --targets sm86,sm89")
    assert max(map(cell_len, out.splitlines())) == 100
    assert out.endswith("passed: built for all 2 targets\n")
    rows = [doctor.DoctorRow("kernel library", "1", True, f"{long}; avx512 on x86_64; in ort: kernel (avx512)")]
    monkeypatch.setattr(doctor, "examine", lambda _: rows)
    _, out, _ = run("doctor")
    assert max(map(cell_len, out.splitlines())) == 100
    assert "in ort: kernel (avx512)\n" in out
    assert out.endswith("works: 1 of 1\n")


def test_json_has_the_whole_names(long: Path, run: Run) -> None:
    block = json.loads(run(f"inspect {long} --json")[1])["blocks"][0]
    assert block["node"].startswith(LONG)


def test_what_fails_is_counted(long: Path, run: Run) -> None:
    model = onnx.load(long)
    (number,) = (node for node in model.graph.node if node.name.endswith("/n"))
    number.attribute[0].t.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(number.attribute[0].t) * 9)
    )
    onnx.save(model, long.with_name("other.onnx"))
    line = f"verify {long} {long.with_name('other.onnx')} --runtimes ort --inputs plain,faint"
    status, out, err = run(line)
    assert (status, err) == (1, "")
    assert out.splitlines()[-1] == "FAILED: 2 of 4 comparisons"


def test_a_column_of_numbers_stays_whole() -> None:
    names = ["n" * 300, "日本" * 100]
    text = as_table(("name", "error", "other"), [(n, "1.234567e-12", n) for n in names], ("error",))
    lines = text.splitlines()
    assert all(cell_len(line) <= 100 for line in lines)
    assert all("  1.234567e-12  " in line for line in lines[1:])
    narrow = as_table(("name", "error", "other"), [("n" * 300, "1.234567e-12", "o" * 300)], ("error",), 20)
    assert [len(cell) for cell in narrow.splitlines()[1].split()] == [LEAST, 12, LEAST]


def test_a_name_loses_its_middle() -> None:
    assert shortened("stage1/block2/simam", 11) == "stage…simam"
    assert shortened("short", 5) == "short"
    assert cell_len(shortened("日本語" * 9, 10)) == 10


def test_counted() -> None:
    assert [counted(n, "near miss") for n in (0, 1, 2)] == ["0 near misses", "1 near miss", "2 near misses"]
    assert counted(2, "target") == "2 targets"


@pytest.mark.parametrize("line", ["{} -q", "-q {}", "--quiet {}"])
def test_quiet(
    long: Path, capsys: pytest.CaptureFixture[str], run: Run, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """`run` leaves the lines of progress out, so they are looked for where they would begin."""
    seen: list[str] = []

    def both(path: Path) -> object:
        warnings.warn("a library says so", UserWarning, stacklevel=1)
        return known(path)

    known = onnx_file.both
    monkeypatch.setattr(onnx_file, "both", both)
    monkeypatch.setattr(render, "lasting", lambda _: seen.append("progress"))
    status, out, err = run(line.format(f"inspect {long}"))
    assert (status, err, seen) == (0, "", [])
    assert "1 SimAM blocks" in out
    status, out, err = run(line.format(f"inspect {long.with_name('nowhere.onnx')}"))
    assert (status, out) == (2, "")
    assert err.startswith("error: there is no file ")


@pytest.mark.parametrize(
    "name", ["inspect", "analyze", "doctor", "export", "fuse", "convert", "build", "recipe", "verify", "bench"]
)
def test_every_command_takes_it(run: Run, name: str) -> None:
    assert "--quiet" in run(f"{name} --help")[1]
