"""One thing changed in a true block: what is another function is refused, what is SimAM with another λ is found so.

What a mutant computes is asked here, in float64 at inputs of this file, not of equivalence.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.mutants import mutants
from onnx.reference import ReferenceEvaluator

pytest.importorskip("torch")

from collection import plan
from collection.exporting import export
from collection.nets import build, written

from simam_deploy.formula import Float64, reference
from simam_deploy.graph.to_float64 import widen
from simam_deploy.match.find import find

assert plan.FILLED_BY
Run = Callable[[Float64], Float64]
SHAPE = (2, 3, 4, 5)
OTHER = (3, 3, 6, 5)
FILES = {
    "published by torchscript": ("published", "torchscript", 17, "static", False),
    "published by dynamo": ("published", "dynamo", 18, "static", False),
    "dynamic size by torchscript": ("published", "torchscript", 18, "hw", False),
    "var_mean": ("torch_var_mean", "torchscript", 13, "static", False),
    "inverse energy": ("inverse_energy", "torchscript", 18, "static", False),
    "reshaped": ("flat_gate_viewed_back", "torchscript", 17, "static", False),
    "instance norm": ("instance_norm", "torchscript", 17, "static", False),
    "tanh": ("tanh", "torchscript", 14, "static", False),
    "exp": ("divided_by_one_plus_exp", "dynamo", 18, "static", False),
    "root": ("root_form", "torchscript", 18, "static", False),
    "half": ("published", "torchscript", 17, "static", True),
}
pytestmark = pytest.mark.slow


def inputs(shape: tuple[int, ...]) -> list[Float64]:
    """Planes in which each term weighs: faint, plain, offset, large, one outlier, one of each spread."""
    rng = np.random.default_rng(7)
    made = [s * rng.standard_normal(shape) + o for s, o in ((1e-2, 0), (1e-3, 0), (1, 0), (1, 5), (300, 0))]
    outlier = rng.standard_normal(shape)
    outlier[:, :, 1, 2] = 40
    spread = np.geomspace(1e-3, 10, shape[0] * shape[1]).reshape(*shape[:2], 1, 1)
    return [*made, outlier, spread * rng.standard_normal(shape)]


def run_of(model: onnx.ModelProto) -> Run:
    evaluator = ReferenceEvaluator(widen(model))
    (name,) = evaluator.input_names
    return lambda x: np.asarray(evaluator.run(None, {name: x})[0], dtype=np.float64)


def distance(run: Run, shapes: list[tuple[int, ...]]) -> tuple[float, float]:
    """(how far from SimAM, of the largest |x|; with which λ). λ is read off the first input, at its largest d."""
    with np.errstate(all="ignore"):
        x = inputs(shapes[0])[0]
        y = run(x)
        if y.shape != x.shape:
            return np.inf, np.nan
        d = (x - x.mean((2, 3), keepdims=True)) ** 2
        v = d.sum((2, 3)) / (x.shape[2] * x.shape[3] - 1)
        at = np.unravel_index(np.argmax(d), d.shape)
        ratio = y[at] / x[at]
        e_lambda = float(d[at] / (4 * (np.log(ratio / (1 - ratio)) - 0.5)) - v[at[:2]])
        if not 1e-12 < e_lambda < 1e6:  # beyond, the gate is sigmoid(½) everywhere
            return np.inf, e_lambda
        worst = 0.0
        for shape in shapes:
            for x in inputs(shape):
                y = run(x)
                if y.shape != x.shape or not np.isfinite(y).all():
                    return np.inf, e_lambda
                worst = max(worst, float(np.abs(y - reference(x, e_lambda)).max() / np.abs(x).max()))
    return worst, e_lambda


def subgraph(model: ir.Model, x: ir.Value, y: ir.Value) -> Run:
    """The graph from x to y as a function."""
    cut = ir.convenience.extract(model.graph, inputs=[x], outputs=[y])
    cut.opset_imports.update(model.opset_imports)
    for value in (*cut.inputs, *cut.outputs):
        value.shape = None
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return run_of(ir.to_proto(ir.Model(cut, ir_version=10)))


def judge(mutant: onnx.ModelProto, shapes: list[tuple[int, ...]], same: float, other: float) -> tuple[str, str]:
    """(what the mutant is, what is wrong with what was found). same, other : distances up to and from which it is."""
    try:
        onnx.checker.check_model(mutant, full_check=True)
        far, e_lambda = distance(run_of(mutant), shapes)
    except Exception:  # not a model any more; the recogniser must survive it
        far, e_lambda = np.nan, np.nan
    model = ir.from_proto(mutant)
    try:
        blocks = find(model).blocks
    except Exception as error:
        return "invalid" if np.isnan(far) else "raises", f"find raises {type(error).__name__}: {str(error)[:80]}"
    wrong = ""
    for block in blocks:
        inner, true_lambda = distance(subgraph(model, block.x, block.y), shapes)
        if not inner <= other or abs(block.e_lambda / true_lambda - 1) > max(1e-3, same):
            wrong = f"found with λ = {block.e_lambda:g}, and is {inner:.2g} away from SimAM of λ = {true_lambda:g}"
    if np.isnan(far):
        return "invalid", wrong
    if far >= other:
        return "another function", wrong
    if far > same:
        return "too near to tell", ""
    if not wrong and not blocks:
        wrong = f"not found, and is SimAM with λ = {e_lambda:g}"
    return "SimAM", wrong


def made(spelled: str, exporter: str, opset: int, dynamic: str, half: bool) -> onnx.ModelProto:
    return export(build("edge", written(spelled)), SHAPE, exporter, opset, dynamic, half)


@pytest.mark.parametrize("name", FILES)
def test_mutants(name: str, record_property: Callable[[str, object], None]) -> None:
    model = made(*FILES[name])
    shapes = [SHAPE, OTHER] if FILES[name][3] == "hw" else [SHAPE]
    same, other = (1e-5, 2e-3) if FILES[name][4] else (1e-6, 1e-5)
    assert judge(model, shapes, same, other) == ("SimAM", ""), "the control"
    counts: Counter[str] = Counter()
    wrongs = []
    for change, mutant in mutants(model):
        kind, wrong = judge(mutant, shapes, same, other)
        counts[kind] += 1
        if wrong:
            wrongs.append(f"{change}: {kind}; {wrong}")
    record_property("mutants", dict(counts))
    print(name, dict(counts))
    assert not wrongs, "\n".join((f"{len(wrongs)} of {counts}", *wrongs))
    assert counts["another function"] >= 30, counts
