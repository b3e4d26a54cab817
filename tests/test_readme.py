"""Prose is run: the README's commands, Python and table, and the figures of the docs."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import table
from benchmarks.page import BEGIN, END
from simam_deploy.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    return tmp_path


def test_the_python_examples(in_folder: Path) -> None:
    export, adopt = blocks("python")
    names: dict[str, object] = {}
    exec(export, names)
    assert names["logits"].shape == (1, 10)  # type: ignore[attr-defined]
    exec(adopt, names)
    assert names["done"].rows == ()  # type: ignore[attr-defined]


def test_the_commands(in_folder: Path) -> None:
    (commands,) = blocks("sh")
    for line in commands.strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "simam-deploy"
        if arguments[0] == "build":
            pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert {p.name for p in in_folder.iterdir()} >= {"digits.onnx", "digits.primitive.onnx", "digits.engine"}


def test_the_tables_are_what_the_benchmark_kept() -> None:
    assert f"{BEGIN}\n{table.tables()}\n{END}" in README


def test_links_lead_somewhere() -> None:
    for name in ["README.md", "CONTRIBUTING.md", "docs/explanation/derivation.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            if not link.startswith("http"):
                assert (ROOT / name).parent.joinpath(link).exists(), f"{name}: {link}"


def test_what_the_prose_and_the_errors_install_is_in_an_extra() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", listed, re.MULTILINE))
    sources = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("simam_deploy/**/*.py")]
    text = "\n".join(path.read_text() for path in sources)
    named = re.findall(r"simam-deploy\[([\w,-]+)\]", text)
    assert {"ort-gpu", "ahead-of-time"} <= set(named)
    assert {each for one in named for each in one.split(",")} <= extras
    (line,) = re.findall(r"\(extras: ([^)]*)\)", README)
    assert set(re.findall(r"`([\w-]+)`", line)) == extras - {"dev", "docs", "serve"}
    (nvrtc,) = re.findall(r'"(nvidia-cuda-nvrtc[^"]*)"', listed)
    assert set(re.findall(r"nvidia-cuda-nvrtc(?!-cu)[^\s`\"]*", text)) == {nvrtc}


def test_contributing_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {
        p.stem if p.is_file() else f"{p.name}/" for p in (ROOT / "simam_deploy").iterdir() if p.name[0] not in "_."
    }
    missing = [room for room in rooms - {"py"} if f"`{room}`" not in text]
    assert not missing
