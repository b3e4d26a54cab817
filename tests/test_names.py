"""One name, one meaning: no class and no type alias is defined twice in the package and the benchmarks."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALIAS = re.compile(r"_?[A-Z][a-z0-9]\w*")
"""Capitalised words. Constants are in upper case."""
EXCUSED = {"SimAM": "benchmarks/peers writes the published class, by which Ultralytics finds it in a model file"}
"""Name -> why it has two definitions."""


def defined(code: str) -> Iterator[str]:
    """Names of all classes, and of the type aliases of the module, also below `if TYPE_CHECKING`."""
    tree = ast.parse(code)
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    blocks = [tree, *(node for node in tree.body if isinstance(node, ast.If))]
    for node in (node for block in blocks for node in block.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (name.id for name in targets if isinstance(name, ast.Name) and ALIAS.fullmatch(name.id))


def twice(files: dict[str, str]) -> dict[str, list[str]]:
    """name -> the files that define it, where there are several. files : path -> code."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path, code in files.items():
        for name in defined(code):
            homes[name].append(path)
    return {name: paths for name, paths in sorted(homes.items()) if len(paths) > 1}


def test_a_name_is_defined_once() -> None:
    folders = (ROOT / "simam_deploy", ROOT / "benchmarks")
    files = {str(p.relative_to(ROOT)): p.read_text() for folder in folders for p in sorted(folder.rglob("*.py"))}
    assert len(files) > 100
    found = twice(files)
    assert {name: paths for name, paths in found.items() if name not in EXCUSED} == {}
    assert found.keys() >= EXCUSED.keys(), "these are defined once now: take them off the list"


def test_a_second_definition_is_seen() -> None:
    a = "class Row:\n    pass\nDims = tuple[int, ...]\nMOST = 3\n"
    c = "if TYPE_CHECKING:\n    Dims = int\n"
    b = "def f():\n    class Row:\n        pass\nDims: object = 1\nMOST = 4\nrow = 5\n"
    assert twice({"a": a, "b": b}) == {"Dims": ["a", "b"], "Row": ["a", "b"]}
    assert twice({"a": a, "c": c}) == {"Dims": ["a", "c"]}
    assert not twice({"a": a})
