"""The README and the pages say the truth of the repository: extras, rooms, operators, tables, public names."""

import re
from pathlib import Path

import simam_deploy
from benchmarks import table
from benchmarks.page import BEGIN, END
from simam_deploy.formula import OPS
from simam_deploy.rewrite.forms import FORMS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_tables_are_what_the_benchmark_kept() -> None:
    assert f"{BEGIN}\n{table.tables()}\n{END}" in (DOCS / "explanation/benchmarks.md").read_text()


def test_what_the_prose_and_the_errors_install_is_in_an_extra() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", listed, re.MULTILINE))
    sources = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("simam_deploy/**/*.py")]
    text = "\n".join(path.read_text() for path in sources)
    named = re.findall(r"simam-deploy\[([\w,-]+)\]", text)
    assert {"ort-gpu", "ahead-of-time"} <= set(named)
    assert {each for one in named for each in one.split(",")} <= extras
    (line,) = re.findall(r"^Extras: ([^.]*)\.", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", line)) == extras - {"dev", "docs", "serve"}
    (nvrtc,) = re.findall(r'"(nvidia-cuda-nvrtc[^"]*)"', listed)
    assert set(re.findall(r"nvidia-cuda-nvrtc(?!-cu)[^\s`\"]*", text)) == {nvrtc}


def test_contributing_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    package = ROOT / "simam_deploy"
    rooms = {p.parent.name + "/" for p in package.glob("[!_.]*/__init__.py")}
    rooms |= {p.stem for p in package.glob("[!_]*.py")}
    missing = [room for room in rooms if f"`{room}`" not in text]
    assert not missing


def test_the_page_of_python_has_every_public_name() -> None:
    page = (DOCS / "reference/python.md").read_text() + (ROOT / "simam_deploy/errors.py").read_text()
    assert not [name for name in simam_deploy.__all__ if not re.search(rf"\b{name}\b", page) and name[0] != "_"]


def test_the_pages_of_forms_and_operators_have_all_of_them() -> None:
    forms, operators = (DOCS / f"reference/{page}.md" for page in ("forms", "operator"))
    assert re.findall(r"^\| `(\w+)`", forms.read_text(), re.MULTILINE) == list(FORMS)
    rows = dict(re.findall(r"^\| `(SimAM\w+)` \| ([\w, ]+) \|$", operators.read_text(), re.MULTILINE))
    inputs = {name: ["x", *["scale", "bias"] * op.affine, *["residual"] * op.residual] for name, op in OPS.items()}
    assert {name: row.split(", ") for name, row in rows.items()} == {n: i for n, i in inputs.items() if n != "SimAM"}


def test_the_page_of_errors_has_every_exit_status() -> None:
    from simam_deploy import cli
    from simam_deploy.cli import streams

    ours = [cli.FAILED, cli.UNUSABLE, cli.DEFECT, cli.INTERRUPTED, cli.TERMINATED]
    page = (DOCS / "reference/errors.md").read_text()
    listed = [int(status) for status in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    assert listed == sorted([0, *ours, streams.CANNOT_PRINT, streams.NOBODY_READS])


def test_no_page_uses_a_word_that_has_another() -> None:
    """The glossary has the words."""
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for line in page.read_text().splitlines():
            place = f"{page.name}: {line}"
            assert not re.search(r"neighbour|\b(?:tail|yardstick|slack)\b", line, re.IGNORECASE), place
            assert not re.search(r"(?:^|[.:] )What \w+[^?]*\.", line), place
