"""The PyTorch module in compilers and exporters."""

import pickle

import pytest
from helpers.cases import INPUTS

torch = pytest.importorskip("torch")

from helpers.tensors import SHAPE, share, tensor  # noqa: E402

from simam_deploy import SimAM  # noqa: E402
from simam_deploy.errors import ShapeError  # noqa: E402

DYNAMIC = {"x": dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)}
OTHER_SIZES = [SHAPE, (4, 3, 9, 2), (1, 3, 1, 2)]


def test_export_with_fixed_sizes():
    x = tensor("plain")
    program = torch.export.export(SimAM(0.1), (x,))
    assert torch.equal(program.module()(x), SimAM(0.1)(x))
    assert program.state_dict == {}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_export_with_dynamic_sizes(strict, dtype):
    program = torch.export.export(SimAM(0.1), (tensor("plain", dtype=dtype),), dynamic_shapes=DYNAMIC, strict=strict)
    for shape in OTHER_SIZES:
        x = tensor("large", shape, dtype)
        assert torch.equal(program.module()(x), SimAM(0.1)(x))
    assert (
        program.module()(torch.ones(1, 3, 1, 1, dtype=dtype)).isnan().all()
    )  # the sizes are not known, as documented


def test_export_of_a_single_pixel_is_refused():
    with pytest.raises(ShapeError, match="1x1 map is 0/0"):
        torch.export.export(SimAM(), (torch.zeros(1, 3, 1, 1),))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated:DeprecationWarning")
def test_trace_keeps_sizes_dynamic():
    traced = torch.jit.trace(SimAM(), tensor("plain"))
    for shape in OTHER_SIZES:
        x = tensor("plain", shape)
        assert torch.equal(traced(x), SimAM()(x))


def test_fx_sees_one_node():
    graph = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU(), SimAM(0.1)))
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "call_function", "output"]
    x = tensor("plain")
    assert torch.equal(pickle.loads(pickle.dumps(graph))(x), SimAM(0.1)(x.relu()))
    with pytest.raises(ShapeError, match="1x1 map is 0/0"):
        graph(torch.zeros(1, 8, 1, 1))


def test_dynamo_takes_all_of_it_in_one_graph():
    compiled = torch.compile(SimAM(0.1), fullgraph=True, backend="aot_eager")
    for shape in OTHER_SIZES:
        x = tensor("plain", shape)
        assert torch.equal(compiled(x), SimAM(0.1)(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled():
    compiled = torch.compile(SimAM(), fullgraph=True)
    for name in INPUTS:
        x = tensor(name)
        assert share(compiled(x), x) < 1
