"""A room imports only from lower ranks: the tree of the package, kept true."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "simam_deploy"
RANKS = [
    {"errors", "text"},
    {"formula", "artifacts", "processes"},
    {"equivalence", "graph", "native"},
    {"block", "pytorch"},
    {"match"},
    {"rewrite", "engines"},
    {"runtimes"},
    {"compare", "experimental"},
    {"precision"},
    {"ort_cpu", "to_onnx", "report", "package"},
    {"api"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
ANYWHERE = {"__version__"}
"""Of the package itself, which is above all its rooms."""
NO_ROOM = {"helpers", "collection", "hostile", "fuzz", "yolo", "plugins", "benchmarks", "docs", "trt_api"}
"""Folders of tests/ that mirror no room."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(code: str) -> Iterator[tuple[int, str]]:
    """Line and room, or name of the package, of each import from it, however it is written."""
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: an import from '{'.' * node.level}', which has no room"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "simam_deploy":
                yield node.lineno, rest.partition(".")[0]


def arrows_up(code: str, room: str) -> list[str]:
    """What a file in `room` may not import."""
    return [
        f"line {line}: {room} imports {other or 'the package'}"
        for line, other in imported(code)
        if other != room and other not in ANYWHERE and RANK.get(other, len(RANKS)) >= RANK[room]
    ]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    if room_of(path) != "__init__":  # the front door: it loads from everywhere, once it is asked
        assert not arrows_up(path.read_text(), room_of(path))


def test_nothing_but_the_doctor_imports_what_no_gpu_has_run() -> None:
    """And the doctor only when it is asked to: see test_doctor.py."""
    arrows = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if room_of(path) != "experimental" and "experimental" in {room for _, room in imported(path.read_text())}
    ]
    assert arrows == ["cli/doctor.py"]


def test_every_room_has_a_rank() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == RANK.keys()
    assert len(rooms) <= 23


def folders(parent: Path) -> set[str]:
    """Those with Python files in them, at any depth."""
    return {str(path.parent.relative_to(parent)) for path in parent.rglob("*.py")} - {"."}


def test_folders_of_the_tests_are_those_of_the_package() -> None:
    """A room that is one file has its tests in tests/ itself."""
    mirrored = {name for name in folders(TESTS) if name.split("/")[0] not in NO_ROOM}
    assert mirrored <= folders(PACKAGE)
    assert {name for name in folders(PACKAGE) if "/" not in name} <= mirrored
    assert {name.split("/")[0] for name in folders(TESTS)} >= NO_ROOM


@pytest.mark.parametrize(
    "code",
    [
        "from simam_deploy.rewrite.fuse import fuse",
        "from simam_deploy.rewrite import fuse",
        "from simam_deploy import errors, rewrite",
        "import simam_deploy.rewrite.fuse as fuse",
        "import simam_deploy",
        "def later():\n    from simam_deploy import runtimes",
        "from simam_deploy import open_session",
    ],
)
def test_an_arrow_that_points_up_is_seen(code: str) -> None:
    assert len(arrows_up(code, "match")) == 1


def test_arrows_that_may_be() -> None:
    code = "from simam_deploy import __version__, errors\nfrom simam_deploy.graph import onnx_file\nimport numpy\n"
    assert not arrows_up(code + "from simam_deploy.match import judge", "match")


@pytest.mark.parametrize("room", ["block", "rewrite.forms", "compare.verify", "compare.gates", "engines.builder"])
def test_what_holds_data_imports_no_search(room: str) -> None:
    code = f"import sys, simam_deploy.{room}; print([name for name in sys.modules if name.endswith('match.find')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
