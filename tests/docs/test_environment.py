"""The page of environment variables names each one that the code reads, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = ("simam_deploy", "benchmarks", "export_models", "plugins", "tests")
READS = {"os.environ.get", "os.environ.setdefault", "os.getenv"}
OF_EVERY_PROGRAM = {"PATH", "PYTHONPATH", "TMPDIR", "PWD"}
OF_A_TEST_ALONE = {"FAKE_NO_REGISTRY", "FAKE_REFUSING", "FAKE_TRTEXEC", "PYTEST_XDIST_WORKER"}
"""By which a test steers a program that it starts, or asks pytest."""


def in_python(code: str) -> Iterator[str]:
    """Keys of os.environ that are read: by their name, by a constant, or by a function that takes the name."""
    tree = ast.parse(code)
    readers = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for key in keys(function)
        if isinstance(key, ast.Name) and key.id in {argument.arg for argument in function.args.args}
    }
    for key in keys(tree):
        if isinstance(key, ast.Constant):
            yield str(key.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in readers:
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))
        if isinstance(node, ast.Constant) and re.fullmatch(r"SIMAM_[A-Z_]+", str(node.value)):
            yield str(node.value)


def keys(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in READS:
            yield node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            yield node.slice
        elif isinstance(node, ast.Compare) and any(ast.unparse(side) == "os.environ" for side in node.comparators):
            yield node.left


PATTERNS = {
    "plugins/**/*.cpp": r'getenv\("(\w+)"\)',
    "plugins/**/*.h": r'getenv\("(\w+)"\)',
    "plugins/**/CMakeLists.txt": r"\$ENV\{(\w+)\}",
    "plugins/**/*.cmake": r"\$ENV\{(\w+)\}",
    "plugins/*.sh": r"\$\{([A-Z_]+):?-",
    "Makefile": r"^([A-Z_]+) \?=|\$\$\{?([A-Z_]+)",
}


def read() -> set[str]:
    found = {
        name
        for folder in PYTHON
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__)
        for name in in_python(path.read_text())
    }
    for pattern, names in PATTERNS.items():
        for path in ROOT.glob(pattern):
            for groups in re.finditer(names, path.read_text(), re.M):
                found.update(filter(None, groups.groups()))
    return found - OF_EVERY_PROGRAM - OF_A_TEST_ALONE


def test_the_page_names_each_variable_and_no_other() -> None:
    page = (ROOT / "docs/reference/environment.md").read_text()
    named = {name for row in re.findall(r"^\| (`[A-Z].*?) \|", page, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert named == read()


def test_every_way_to_read_one_is_seen() -> None:
    code = """
import os
A = os.environ.get("A")
B = os.environ["B"]
C = "C" in os.environ
def named(variable):
    return os.environ.get(variable)
D = named("D")
E = "SIMAM_E"
"""
    assert set(in_python(code)) == {"A", "B", "C", "D", "SIMAM_E"}
