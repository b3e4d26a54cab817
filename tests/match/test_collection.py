"""The recogniser on our own collection of ONNX files (collection/): what each spelling, exporter and tool leaves of
SimAM is found and rewritten, and what is not SimAM is left alone.

SIMAM_COLLECTION=FOLDER takes files that `python -m collection FOLDER [--all]` wrote before, instead of making them.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import torch
from collection.making import Entry, make_all, outputs
from collection.modules import MISSES, SPELLINGS, Written
from collection.not_yet import NOT_YET
from collection.plan import recipes

from simam_deploy.errors import NoBlockError
from simam_deploy.formula import reference
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse

GIVEN = os.environ.get("SIMAM_COLLECTION")
pytestmark = pytest.mark.slow
NAMES = (
    [entry["name"] for entry in json.loads((Path(GIVEN) / "index.json").read_text(encoding="utf-8"))]
    if GIVEN
    else [name for recipe in recipes() for name in recipe.names]
)


class Collection(NamedTuple):
    """Files in a folder, and what is true of each, by name."""

    folder: Path
    index: dict[str, Entry]


@pytest.fixture(scope="session")
def collection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """What the selected tests need, made once for all workers of pytest-xdist: the first to come makes it."""
    if GIVEN:
        return Collection(Path(GIVEN), _index(Path(GIVEN)))
    wanted = _wanted(request.session.items)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tmp_path_factory.mktemp("collection")
        return Collection(folder, make_all(folder, wanted=wanted))
    import fcntl

    folder = tmp_path_factory.getbasetemp().parent / "collection"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "index.json").exists():  # it is written last
            make_all(folder, wanted=wanted)
    return Collection(folder, _index(folder))


def _wanted(items: Iterable[pytest.Item]) -> Callable[[str], bool]:
    """The files that `items` ask for by name; all of them where a test asks for the whole collection."""
    asking = [item for item in items if isinstance(item, pytest.Function) and "collection" in item.fixturenames]
    names = {item.callspec.params["name"] if hasattr(item, "callspec") else None for item in asking}
    return lambda name: None in names or name in names


def _index(folder: Path) -> dict[str, Entry]:
    return {entry["name"]: entry for entry in json.loads((folder / "index.json").read_text(encoding="utf-8"))}


def test_what_is_made_and_what_is_not(collection: Collection) -> None:
    """Exporters and tools refuse some; if they refuse more, the collection shrinks, and this says so."""
    counts = Counter(entry["label"] for entry in collection.index.values())
    assert counts["true"] >= 400, counts
    assert counts["miss"] >= 150, counts
    assert counts["failed"] <= 0.1 * counts.total(), counts


def run(written: Written, x: np.ndarray) -> np.ndarray:
    """The module, in float64."""
    torch.manual_seed(0)
    with torch.no_grad():
        return written.make(written.e_lambda).double()(torch.from_numpy(x)).numpy()


def planes(shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [
        s * rng.standard_normal(shape) + o for s, o in ((1e-3, 0), (0.01, 0), (0.3, 0), (1, 3), (300, 0), (1e5, 0))
    ]
    outlier = rng.standard_normal(shape)
    outlier[..., -1, -1] = 1e3
    return [*made, outlier]


def simam(x: np.ndarray, e_lambda: float) -> np.ndarray:
    return reference(x.reshape(*x.shape[:2], -1, 1), e_lambda).reshape(x.shape)


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_simam(name: str) -> None:
    """To 1e-5 of the largest value, as some compute in float32 inside."""
    written = SPELLINGS[name]
    for x in planes({1: (2, 4, 35), 2: (2, 4, 5, 7), 3: (2, 4, 3, 5, 4)}[written.axes])[:-2]:
        assert np.abs(run(written, x) - simam(x, written.e_lambda)).max() <= 1e-5 * np.abs(x).max()


@pytest.mark.parametrize("name", MISSES)
def test_every_miss_is_another_function_for_every_lambda(name: str) -> None:
    written = MISSES[name]
    ran = [(x, run(written, x)) for shape in ((3, 4, 12, 9), (2, 4, 10, 7)) for x in planes(shape)]
    for e_lambda in (written.e_lambda, 3 * written.e_lambda, *np.geomspace(1e-9, 10, 30)):
        assert max(np.abs(y - simam(x, e_lambda)).max() / np.abs(x).max() for x, y in ran) > 5e-5


def _parameters() -> list[object]:
    """Every file by name; those that the recogniser fails on are expected to fail, with their cause."""
    found = []
    for name in NAMES:
        causes = [cause for pattern, cause in NOT_YET.items() if fnmatch.fnmatchcase(name, pattern)]
        marks = [pytest.mark.xfail(reason=causes[0], strict=True)] if causes else []
        found.append(pytest.param(name, marks=marks))
    return found


@pytest.mark.parametrize("name", _parameters())
def test_file(name: str, collection: Collection) -> None:
    entry = collection.index[name]
    if entry["label"] == "failed":
        pytest.skip(entry["reason"])
    JUDGES[entry["label"]](onnx_file.load(collection.folder / f"{name}.onnx"), entry)


def judge_true(model: ir.Model, entry: Entry) -> None:
    """All blocks are found; each form keeps the outputs and all else; a second time changes nothing."""
    before = outputs(ir.to_proto(model), entry)
    for form in _forms(entry):
        fused = fuse(model, form)
        _check_lambdas([row.e_lambda for row in fused.rows], entry)
        _check_the_rest(model, fused.model)
        _check_outputs(before, outputs(ir.to_proto(fused.model), entry), entry)
        assert _data(fuse(fused.model, form).model) == _data(fused.model)


def _forms(entry: Entry) -> list[str]:
    """Both forms; with dynamic sizes, which take long to judge, one of them in turn."""
    forms = ["primitive", "function"]
    return forms if len(entry["shapes"]) == 1 or GIVEN else [forms[len(entry["name"]) % 2]]


def _check_lambdas(found: list[float], entry: Entry) -> None:
    """To 1e-3; a file that holds λ in float16 has it to 2^-11, and to less below 6e-5, where float16 is subnormal."""
    wanted = Counter({e: entry["e_lambda"].count(e) for e in entry["e_lambda"]})
    tolerance = 1e-2 if entry["half"] else 1e-3
    got = Counter(next((w for w in wanted if abs(e / w - 1) < tolerance), e) for e in found)
    assert got == wanted


def _check_outputs(before: list[np.ndarray], after: list[np.ndarray], entry: Entry) -> None:
    """Both are within formula.tolerance of the truth, 2 eps max|x| (1 + |mean| / sqrt(v + λ)).

    Standard normal images make the bracket at most 4 here (a ReLU of normal values has 0.7; biases add to it). Layers
    behind the last block have gain 1; a second block, or the layers between, at most 8 (the slope of SimAM is at most
    1 + 0.38 max|x - mean| / sqrt(v + λ)). So 2 sides x 2 eps x 4 x 8 = 128 eps of the largest value. Population
    variance on the largest map moves the gate by more: 0.15 / 6400 of x at 80x80 is 196 eps.

    float16 files round after each operator: ten times half of 2^-10, on either side.
    """
    eps = 2.0**-10 / 12 if entry["half"] else 2.0**-23
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.abs(a.astype(np.float64) - b).max() <= 128 * eps * max(1.0, np.abs(a).max())


def _check_the_rest(before: ir.Model, after: ir.Model) -> None:
    """Layers keep their nodes and weights, the graph its inputs and outputs; what is gone was SimAM's own."""
    layers = ("Conv", "BatchNormalization", "Relu", "Gemm", "If", "Loop", "MaxPool")
    assert _nodes(before, layers) == _nodes(after, layers)
    assert [str(v) for v in (*before.graph.inputs, *before.graph.outputs)] == [
        str(v) for v in (*after.graph.inputs, *after.graph.outputs)
    ]
    weights = {v.name: v.const_value for node in before.graph.all_nodes() for v in _weights(node)}
    kept = {v.name: v.const_value for node in after.graph.all_nodes() for v in _weights(node)}
    assert weights.keys() == kept.keys()
    for name, value in weights.items():
        assert value is not None
        np.testing.assert_array_equal(value.numpy(), kept[name].numpy())


def _weights(node: ir.Node) -> list[ir.Value]:
    if node.op_type not in ("Conv", "Gemm", "BatchNormalization"):
        return []
    return [v for v in node.inputs if v is not None and v.is_initializer()]


def _nodes(model: ir.Model, operators: tuple[str, ...]) -> list[tuple[str, str | None]]:
    return [(node.op_type, node.name) for node in model.graph.all_nodes() if node.op_type in operators]


def _data(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def judge_miss(model: ir.Model, entry: Entry) -> None:
    del entry
    found = find(model)
    assert not found.blocks, [block.node for block in found.blocks]
    with pytest.raises(NoBlockError):
        fuse(model, "primitive")


def judge_beside(model: ir.Model, entry: Entry) -> None:
    """The block is rewritten, the near miss behind it keeps each node and each name."""
    fused = fuse(model, "primitive")
    _check_lambdas([row.e_lambda for row in fused.rows], entry)
    before, after = ([_text(node) for node in m.graph] for m in (model, fused.model))
    last = max(i for i, text in enumerate(before) if text.startswith("Conv")) - 1
    second = [i for i, text in enumerate(before) if text.startswith("Conv")][1]
    assert before[second : last + 1] == after[-len(before) + second :][: last + 1 - second]
    _check_outputs(outputs(ir.to_proto(model), entry), outputs(ir.to_proto(fused.model), entry), entry)


def _text(node: ir.Node) -> str:
    names = ([v.name if v else "" for v in values] for values in (node.inputs, node.outputs))
    return " ".join((node.op_type, str(node.name), *map(str, names), *map(str, node.attributes.values())))


def judge_frozen(model: ir.Model, entry: Entry) -> None:
    """The exporter made a constant of H*W - 1, or of a λ with it, in a file of dynamic size: right at one size alone.

    It is refused, with that size, and mended when asked: at that size it is as before.
    """
    found = find(model)
    assert not found.blocks
    assert found.near_misses
    said = "\n".join(str(miss) for miss in found.near_misses)
    if "λ depends on the size of the map" in said:
        return
    assert f"H*W = {np.prod(entry['shapes'][0][2:])}" in said
    with pytest.raises(NoBlockError):
        fuse(model, "primitive")
    mended = fuse(model, "primitive", repair=True)
    _check_lambdas([row.e_lambda for row in mended.rows], entry)
    _check_outputs(outputs(ir.to_proto(model), entry), outputs(ir.to_proto(mended.model), entry), entry)


def judge_stuck(model: ir.Model, entry: Entry) -> None:
    """A file that says any size and runs at one: found or not, but never changed."""
    if find(model).blocks:
        judge_true(model, entry)


JUDGES = {
    "true": judge_true,
    "shared": judge_true,
    "miss": judge_miss,
    "beside": judge_beside,
    "frozen": judge_frozen,
    "stuck": judge_stuck,
    "rank": judge_true,
}
