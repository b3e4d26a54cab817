"""Outputs of another type than the first file's, or the module's: compared, and said in a note."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command_line import Run
from helpers.graphs import parse, save
from torch import nn

from simam_deploy.compare.inputs import Case
from simam_deploy.compare.verify import verify
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.eager import EagerSession

GRAPH = """g (float[N,3] x) => ({kind}[N,3] y) {{ t = Neg (x)\n y = Cast <to: int = {to}> (t) }}"""
KINDS = {"float": 1, "double": 11, "float16": 10, "int64": 7, "int32": 6, "int8": 3, "bool": 9}
NUMPY = {"float": "float32", "double": "float64"}


def file(folder: Path, kind: str, name: str) -> Path:
    return save(parse(GRAPH.format(kind=kind, to=KINDS[kind])), folder / f"{name}.onnx")


@pytest.mark.parametrize(
    ("kind", "other"), [("float", "double"), ("double", "float"), ("int64", "int32"), ("int32", "int8")]
)
def test_files_with_outputs_of_another_width(tmp_path: Path, run: Run, kind: str, other: str) -> None:
    a, b = file(tmp_path, kind, "a"), file(tmp_path, other, "b")
    status, out, _ = run(f"verify {a} {b} --json --runtimes ort --inputs large")
    assert status == 0
    words = f"output 'y' is of type {NUMPY.get(other, other)}, and of {NUMPY.get(kind, kind)} in the model"
    assert [note for note in json.loads(out)["notes"] if words in note] == [
        f"b · ort: {words} that the truth is made of; their values are compared"
    ]


@pytest.mark.parametrize("kind", ["float", "double", "int64"])
def test_of_the_same_type_nothing_is_said(tmp_path: Path, run: Run, kind: str) -> None:
    a, b = file(tmp_path, kind, "a"), file(tmp_path, kind, "b")
    status, out, _ = run(f"verify {a} {b} --json")
    assert status == 0
    assert not [note for note in json.loads(out)["notes"] if "of type" in note]


def test_of_another_kind_fails_as_before(tmp_path: Path, run: Run) -> None:
    a, b = file(tmp_path, "float", "a"), file(tmp_path, "bool", "b")
    status, out, _ = run(f"verify {a} {b} --json --runtimes ort --inputs plain")
    assert status == 1
    said = [note for note in json.loads(out)["notes"] if "of type" in note]
    ours = "b · ort: output 'y' is of type bool on {}; the truth is of float64"
    assert said == [ours.format(case) for case in ("plain", "other size")]


@pytest.mark.parametrize("kind", ["double", "float16"])
def test_files_of_a_module(tmp_path: Path, kind: str) -> None:
    class Negative(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -x

    x = np.array([[1, 2, 3]], np.float32)
    path = file(tmp_path, kind, "m")
    report = verify(
        {"m": lambda: open_session(path)},
        [Case("given", ((x,),))],
        truth=lambda: EagerSession(Negative(), dtype="float64"),
        twin=lambda: EagerSession(Negative()),
    )
    assert report.passed
    said = f"m: output 'output' is of type {NUMPY.get(kind, kind)}, and of float32 in the model that"
    assert said in report.notes[-1]
