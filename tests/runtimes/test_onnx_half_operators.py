"""Each operator in the oracle of 16-bit arithmetic: the exact result on its inputs, rounded once.

All are in one graph. Its outputs are float32, behind a cast: they show whether the oracle rounded what is in front.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from helpers.half_operators import CASES, SHAPES, inputs, result
from onnx import parser

from simam_deploy.formula import Array
from simam_deploy.precision.low_types import LOW_TYPES, LowType
from simam_deploy.runtimes import open_session

FLOAT32_ERROR = 2.0**-20
"""Of the largest result: ONNX Runtime sums and approximates in float32, here to 8 eps."""
INTEGERS = {"c": "bool", "q": "int8", "i": "int64"}


def given(low: LowType) -> dict[str, Array]:
    """float64 inputs that the type holds exactly."""
    return {name: x if name in INTEGERS else low.rounded(x) for name, x in inputs().items()}


def graph_of(low: LowType) -> str:
    takes = ", ".join(
        f"{INTEGERS.get(name, low.dtype.name.lower())}{[*shape] if shape else ''} {name}"
        for name, shape in SHAPES.items()
    )
    outputs, nodes = [], []
    for at, text in enumerate(CASES):
        nodes.append(re.sub(r"\b([A-Z])\b", rf"\g<1>{at}", text))
        nodes.append(f"out{at} = Cast<to = 1>(Y{at})")
        outputs.append(f"float[{', '.join(f'd{at}_{axis}' for axis in range(result(text, inputs()).ndim))}] out{at}")
    return f"g ({takes}) => ({', '.join(outputs)}) {{\n" + "\n".join(nodes) + "\n}"


@cache
def results(name: str) -> dict[str, Array]:
    low = LOW_TYPES[name]
    with TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        onnx.save(parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]>\n{graph_of(low)}'), path)
        with open_session(path, "onnx_half", threads=1) as session:
            types = {spec.name: spec.dtype for spec in session.inputs}
            return session.run({k: np.asarray(x).astype(types[k]) for k, x in given(low).items()})


def spacing(x: Array, low: LowType) -> Array:
    """Distance of the numbers of the type around x."""
    return np.maximum(2 * low.half_ulp * 2.0 ** np.floor(np.log2(np.abs(x) + 1e-300)), low.smallest)


@pytest.mark.parametrize("name", LOW_TYPES)
@pytest.mark.parametrize("text", CASES, ids=lambda text: text.splitlines()[-1])
def test_one_rounding(text: str, name: str) -> None:
    low, at = LOW_TYPES[name], list(CASES).index(text)
    got, exact = results(name)[f"out{at}"].astype(np.float64), result(text, given(low))
    assert got.shape == exact.shape
    np.testing.assert_array_equal(got, low.rounded(got), err_msg="not rounded")
    allowed = spacing(exact, low) / 2 + FLOAT32_ERROR * np.abs(exact).max()
    assert (np.abs(got - exact) <= allowed).all()


def test_a_second_rounding_would_be_seen() -> None:
    """Sigmoid by 1 / (1 + exp(-x)), each step rounded, exceeds the tolerance above."""
    low = LOW_TYPES["fp16"]
    x = given(low)["a"]
    exact = 1 / (1 + np.exp(-x))
    twice = low.rounded(1 / low.rounded(1 + low.rounded(np.exp(-x))))
    assert (np.abs(twice - exact) > spacing(exact, low) / 2 + FLOAT32_ERROR * np.abs(exact).max()).any()
