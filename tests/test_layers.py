"""A file imports only from lower ranks: the tree of the package, kept true."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "simam_deploy"
RANKS = [
    {"errors", "text"},
    {"formula", "artifacts", "processes"},
    {"equivalence", "graph", "native"},
    {"pytorch", "match"},
    {"rewrite", "runtimes", "engines"},
    {"compare", "experimental"},
    {"ort_cpu", "to_onnx"},
    {"api"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            parts = name.split(".")
            if parts[0] == "simam_deploy" and len(parts) > 1 and parts[1] != room:
                assert RANK[parts[1]] < RANK[room], f"{path.name}:{node.lineno} imports {name}"
