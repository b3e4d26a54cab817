"""The files that hold the repository together agree with each other."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from simam_deploy import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_version_is_written_once() -> None:
    assert "version" not in PYPROJECT["project"]
    assert "version" in PYPROJECT["project"]["dynamic"]
    assert metadata.version("simam-deploy") == __version__, "install again: touch pyproject.toml, then make lint"
    released = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == __version__


def sections(editorconfig: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string("[top]\n" + editorconfig.read_text())
    return parser


def tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git, or no checkout")
    return (ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_editors_are_told_what_the_formatters_do() -> None:
    editor = sections(ROOT / ".editorconfig")
    assert editor["*.py"]["max_line_length"] == str(PYPROJECT["tool"]["ruff"]["line-length"])
    style = dict(re.findall(r"^(\w+): *(\S+)", (ROOT / ".clang-format").read_text(), re.MULTILINE))
    cpp = editor["*.{c,cpp,cu,cuh,h}"]
    assert cpp["max_line_length"] == style["ColumnLimit"]
    assert (style["BasedOnStyle"], cpp["indent_size"]) == ("Google", "2")


def test_files_are_as_editors_are_told() -> None:
    for path in tracked():
        text = path.read_bytes()
        if b"\0" in text or not text:
            continue
        assert b"\r" not in text, path
        assert text.endswith(b"\n"), path
        assert not re.search(rb"[ \t]$", text, re.MULTILINE), path
        assert path.name == "Makefile" or path.suffix == ".tsv" or b"\t" not in text, path


def test_comments_of_cpp_fit_the_line() -> None:
    """clang-format leaves them as they are."""
    for path in tracked():
        if path.suffix in {".c", ".cpp", ".cu", ".cuh", ".h"}:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert len(line) <= 120, f"{path}:{number}"


@pytest.mark.parametrize("tool", ["check-jsonschema", "clang-format", "mypy", "pre-commit", "ruff"])
def test_tools_of_lint_have_one_version(tool: str) -> None:
    """Another version formats otherwise, and finds other errors."""
    asked = [each for each in PYPROJECT["project"]["optional-dependencies"]["dev"] if each.startswith(f"{tool}>=")]
    pinned = re.findall(rf"^{tool}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert (len(asked), len(pinned)) == (1, 1)


def test_hooks_are_the_parts_of_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "what a hook fetches has a version of its own"
    parts = {hook["entry"].removeprefix("make ") for hook in repository["hooks"]}
    assert parts == {target for target in targets() if target.startswith("lint-")}


def test_ci_runs_the_same_on_each_python() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]
    low, high = re.findall(r"3\.(\d+)", PYPROJECT["project"]["requires-python"])
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_workflows_may_only_read() -> None:
    """But for the job that drafts a release."""
    for path in (ROOT / ".github/workflows").iterdir():
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path
        more = {name for name, job in workflow["jobs"].items() if "permissions" in job}
        assert more == ({"wheels"} if path.name == "release.yml" else set()), path


def test_a_release_is_of_the_version_in_its_tag(tmp_path: Path) -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["wheels"]["steps"]
    (check,) = [step["run"] for step in steps if step.get("name") == "The tag is the version"]
    for tag, status in ((f"v{__version__}", 0), (f"v{__version__}.1", 1), ("v0", 1)):
        assert subprocess.run(["bash", "-ec", check], cwd=ROOT, env={"TAG": tag}, check=False).returncode == status


def test_commands_that_are_asked_for_exist() -> None:
    command = [sys.executable, "-m", "simam_deploy.cli", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = [*(ROOT / ".github").rglob("*.*"), ROOT / "RELEASE.md", ROOT / "SECURITY.md"]
    text = "\n".join(path.read_text() for path in files if path.is_file())
    commands = set(re.findall(r"simam-deploy (\w+)", text))
    assert {"doctor", "inspect", "fuse", "verify"} <= commands
    assert not {command for command in commands if not re.search(rf"^\W+{command}\b", shown, re.MULTILINE)}
    assert set(re.findall(r"make ([a-z][\w-]+)", (ROOT / "RELEASE.md").read_text())) <= targets()


def test_paths_in_the_readme_of_the_tests_exist() -> None:
    """A file without a folder lies in that of the last one named."""
    text, folder = (ROOT / "tests/README.md").read_text(), ROOT
    named = re.findall(r"\b(?:(?:tests|simam_deploy)/[\w/]+(?:\.\w+)?|\w+\.py\b)", text)
    assert len(named) > 20
    for name in named:
        path = ROOT / name if "/" in name else folder / name
        assert path.exists() or name == "conftest.py", name
        folder = path.parent


def test_names_in_the_readme_of_the_tests_exist() -> None:
    """Those that it sends readers to, as `FORMS` or `WRONG`, and the tests that it runs alone."""
    text = (ROOT / "tests/README.md").read_text()
    code = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__))
    names = set(re.findall(r"`@?([A-Z_]+)`", text)) | set(re.findall(r"-k \"?(\w+)", text)) - {"its_name"}
    assert {"FORMS", "WRONG", "billion_laughs", "multiplied_out"} <= names
    assert not {name for name in names if not re.search(rf"\b{name}\b", code)}
