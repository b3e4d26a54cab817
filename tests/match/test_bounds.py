"""A search or a judgement that met its bound says so, and what lies before it is found all the same."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import CHAIN, again, model
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.errors import NoBlockError
from simam_deploy.formula import Float64
from simam_deploy.graph.shapes.propagate import _Walk
from simam_deploy.match import find as blocks
from simam_deploy.match import judge
from simam_deploy.match.find import find
from simam_deploy.match.run_subgraph import SubgraphRunner
from simam_deploy.rewrite.fuse import fuse


def test_the_search_has_a_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    two = model(CHAIN + again("y", "w"), after="out = Relu (w)")
    assert len(find(two).blocks) == 2
    monkeypatch.setattr(blocks, "MOST_STEPS", 10)
    found = find(two)
    assert len(found.blocks) == 1
    (miss,) = found.near_misses
    assert "the search ended here, after 10 steps" in miss.reasons[0]


def test_subgraphs_that_all_differ_have_so_much_work_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MOST_WORK_IN_ALL", 1)
    alike = model(CHAIN + again("y", "w"), after="out = Relu (w)")
    assert len(find(alike).blocks) == 2
    other = again("y", "w").replace("Mul (t_2, four)", "Mul (four, t_2)")
    found = find(model(CHAIN + other, after="out = Relu (w)"))
    assert len(found.blocks) == 1
    assert found.near_misses[0].reasons == (judge.TOO_MANY,)


def test_names_of_new_nodes_repeat_no_long_name() -> None:
    two = model(CHAIN + again("y", "w"), after="out = Relu (w)")
    for at, node in enumerate(two.graph):
        node.name = "n" * 5000 + str(at)
    fused = fuse(two, "primitive")
    assert len({row.node for row in fused.rows}) == 2
    names = [str(node.name) for node in fused.model.graph if not str(node.name).startswith("n" * 5000)]
    assert len(names) > 10
    assert max(map(len, names)) < blocks.MOST_LETTERS + 100


@pytest.mark.parametrize("channels", [2**20 + 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize(("form", "epilogue"), [("instance_norm", False), ("function", True), ("primitive", False)])
def test_channels_are_not_counted_out_one_by_one_whatever_the_file_says(
    channels: int, form: str, epilogue: bool
) -> None:
    with pytest.raises(NoBlockError, match=f"x has {channels:,} channels; up to 1,048,576 are taken"):
        fuse(model(shape=f"2, {channels}, 5, 7"), form, epilogue=epilogue)
    (row,) = fuse(model(shape="2, 4096, 5, 7"), form, epilogue=epilogue).rows
    assert row.shape == (2, 4096, 5, 7)


@pytest.mark.parametrize(("made", "followed"), [(3, True), (10**4, False)])
def test_values_are_followed_where_they_are_few_whatever_the_file_declares(made: int, followed: bool) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["many"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [],
        [helper.make_tensor_value_info("many", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([made]), "size")],
        value_info=[helper.make_tensor_value_info("many", TensorProto.FLOAT, [1])],
    )
    walk = _Walk(onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    walk.step(nodes[0])
    assert ("many" in walk._values) == followed


LARGE = "2, 3, 128, 130"
M = 128 * 130


def two_blocks(**changed: float) -> ir.Model:
    """The second with other constants than the first."""
    second = again("y", "w")
    for name in changed:
        second = second.replace(f" {name})", f" {name}_2)")
    weights = "".join(f"float {name}_2 = {{{value}}}, " for name, value in changed.items())
    return model(CHAIN + second, shape=LARGE, n=M - 1, after="out = Relu (w)", weights=weights)


@pytest.mark.parametrize("changed", [{"half": 0.499}, {"n": M}, {"four": 4.001}, {"lam": -1e-4}])
def test_a_block_like_one_before_it_is_judged_by_its_own_constants(changed: dict[str, float]) -> None:
    found = find(two_blocks(**changed))
    assert len(found.blocks) == len(found.near_misses) == 1


@pytest.mark.parametrize("form", ["", "function", "primitive"])
def test_blocks_that_differ_in_their_constants_take_little_work(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alike, unlike = (fuse(model, form).model if form else model for model in (two_blocks(), two_blocks(lam=0.1)))
    runs: list[int] = []
    run = SubgraphRunner.run

    def counted(self: SubgraphRunner, x: Float64, *rest: object) -> Float64:
        runs.append(x.size)
        return run(self, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SubgraphRunner, "run", counted)
    assert [block.e_lambda for block in find(unlike).blocks] == pytest.approx([1e-4, 0.1])
    together = sum(runs)
    runs.clear()
    find(alike)
    assert together < 1.2 * sum(runs)
