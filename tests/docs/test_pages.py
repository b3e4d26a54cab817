"""The pages hold together: Sphinx builds them without a warning, and each link in the repository leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and Sphinx name them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    for link in (a or b for a, b in LINK.findall(page.read_text())):
        if re.match(r"https?:", link):
            continue  # there is no network in a test
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.relative_to(ROOT)}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.relative_to(ROOT)}: {link}"


def test_sphinx_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    """As `make docs`, but for the writing of HTML."""
    pytest.importorskip("sphinx", reason="Sphinx is not installed")
    command = ["-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-b", "dummy", "-d", str(tmp_path / "read")]
    done = subprocess.run(
        [sys.executable, *command, str(ROOT / "docs"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_path_of_the_repository_is_there(page: Path) -> None:
    """Those in code, as `tests/yolo`; but for results, and CHANGELOG, which tells of earlier ones."""
    paths = re.findall(r"`((?:tests|docs|benchmarks|plugins|export_models)/[\w./*-]+)`", page.read_text())
    made = "benchmarks/results/"
    gone = [path for path in paths if not path.startswith(made) and not any(ROOT.glob(path.rstrip("/")))]
    assert page.name == "CHANGELOG.md" or not gone
