"""A file is searched for blocks once, whatever is done with it: what was found is passed on."""

from pathlib import Path

import onnx_ir as ir
import pytest
from helpers.onnx_models import again, model

import simam_deploy as sd
from simam_deploy.block import Found
from simam_deploy.compare.matrix import expose
from simam_deploy.graph import onnx_file
from simam_deploy.match import find as finder
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of nodes of each model that is searched, but for fallback definitions: those are one node."""
    seen: list[int] = []
    init = finder._BlockSearch.__init__

    def counting(self: finder._BlockSearch, model: ir.Model, say: object) -> None:
        if len(model.graph) > 1:
            seen.append(len(model.graph))
        init(self, model, say)  # type: ignore[arg-type]

    monkeypatch.setattr(finder._BlockSearch, "__init__", counting)
    return seen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx_file.save(model(after="out = Sin (y)", lam=0.1), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_verify_in_every_form_with_gates(file: Path, searches: list[int]) -> None:
    report = sd.verify(file, forms=["all"], gates=True, inputs=["plain"])
    assert report.passed
    assert len({row.session for row in report.gates}) >= len(FORMS)
    assert len(searches) == 1


def test_verify_of_two_files_as_they_are(file: Path, searches: list[int]) -> None:
    sd.fuse(file, file.with_name("fused.onnx"))
    assert len(searches) == 1
    assert sd.verify([file, file.with_name("fused.onnx")], gates=True, inputs=["plain"]).passed
    assert len(searches) == 3


def test_bench_in_every_form(file: Path, searches: list[int]) -> None:
    sd.bench(file, forms=["all"], seconds=0.05)
    assert len(searches) == 1


def about(found: Found) -> list[tuple[object, ...]]:
    return [
        (b.node, b.x.name, b.y.name, b.shape, b.dtype, b.e_lambda, b.form, b.function and b.function.name, b.op)
        for b in found.blocks
    ]


def taps(of: ir.Model, found: Found | None = None) -> list[tuple[object, ...]]:
    exposed, taps, left = expose(of, found)
    names = {value.name for value in exposed.graph.outputs}
    assert all(names.issuperset(tap.names) for tap in taps)
    return [(tap.block, *tap.names, tap.e_lambda) for tap in taps] + [(reason,) for reason in left]


AFTER = {
    "nothing": "out = Sin (y)",
    "an epilogue": "p = Add (y, x)\n out = Relu (p)",
    "a second block": again("y", "out"),
    "a second block, with the y of the first as its residual": f"{again('y', 'w')}\n out = Add (w, y)",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("epilogue", [False, True])
def test_fuse_hands_on_what_a_search_of_its_file_finds(form: str, after: str, epilogue: bool) -> None:
    if epilogue and not FORMS[form].EPILOGUE:
        pytest.skip("the form has no node that an epilogue folds into")
    source = model(after=after, lam=0.1)
    before = fuse(source, "function", epilogue=True).model
    for given in (source, before):
        fused = fuse(given, form, epilogue=epilogue)
        assert about(fused.found) == about(finder.find(fused.model))
        nodes = set(fused.model.graph)
        assert all(node in nodes for block in fused.blocks for node in block.inside)
        assert taps(fused.model, fused.found) == taps(fused.model)


def test_what_was_found_in_a_model_is_found_in_its_clone() -> None:
    source = model(after="p = Add (y, x)\n out = Relu (p)", lam=0.1)
    fused = fuse(source, epilogue=True).model
    clone = fused.clone()
    found = finder.find(fused).in_clone(fused, clone)
    (block,) = found.blocks
    assert block.epilogue is not None
    assert block.epilogue.residual is block.x
    assert block.x.producer() in set(clone.graph)
    assert about(found) == about(finder.find(clone))
