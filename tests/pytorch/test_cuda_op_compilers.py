"""The kernel in PyTorch under tracers, compilers and exporters: fake CUDA tensors, and a stand-in on the CPU."""

import copy
import io
import pickle
from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch")

from helpers.stand_in import StandIn, kernel, tensor  # noqa: E402
from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402

from simam_deploy import SimAM  # noqa: E402
from simam_deploy.errors import RuntimeUnavailable  # noqa: E402

# fake tensors and compilers


def test_torch_s_own_checks_of_an_operator(stand_in: StandIn) -> None:
    for x in (tensor(), tensor(shape=(1, 8, 3, 4)).to(memory_format=torch.channels_last), tensor()[:, :, ::2]):
        torch.library.opcheck(torch.ops.simam.SimAM, (x, 0.1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_on_a_fake_gpu(dtype: torch.dtype, memory_format: torch.memory_format, stand_in: StandIn) -> None:
    with FakeTensorMode(), torch.no_grad():
        x = torch.empty((2, 4, 5, 7), device="cuda", dtype=dtype).to(memory_format=memory_format)
        y = kernel()(x)
    assert (y.device.type, y.dtype, y.shape, y.stride()) == ("cuda", dtype, x.shape, x.stride())
    assert stand_in.launches == 0


class Nodes:
    """A backend of torch.compile that runs what it gets, and keeps the names of its nodes."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, graph: torch.fx.GraphModule, _: list) -> object:
        self.names += [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        return graph


def test_dynamo_sees_one_node(stand_in: StandIn) -> None:
    nodes, x = Nodes(), tensor()
    module = torch.nn.Sequential(kernel(), torch.nn.ReLU(), kernel(0.5))
    compiled = torch.compile(module, fullgraph=True, backend=nodes)
    assert torch.equal(compiled(x), module(x))
    assert [name for name in nodes.names if "simam" in name] == ["simam.SimAM", "simam.SimAM"]
    assert stand_in.launches == 4


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled(backend: str, dynamic: bool, stand_in: StandIn) -> None:
    compiled = torch.compile(kernel(), fullgraph=True, backend=backend, dynamic=dynamic)
    for shape in ((2, 3, 5, 7), (4, 3, 9, 2), (1, 8, 4, 4)):
        x = tensor(shape=shape)
        assert torch.equal(compiled(x), kernel()(x))
    assert stand_in.launches == 6


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_in_training_it_is_the_formula(backend: str, stand_in: StandIn) -> None:
    x, same = tensor().requires_grad_(), tensor().requires_grad_()
    torch.compile(SimAM(0.1, kernel="auto"), fullgraph=True, backend=backend)(x).sum().backward()
    SimAM(0.1)(same).sum().backward()
    torch.testing.assert_close(x.grad, same.grad)
    assert stand_in.launches == 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, of jvp
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_forward_derivatives_are_those_of_the_formula(backend: str, stand_in: StandIn) -> None:
    x, tangent = tensor(), torch.ones_like(tensor())

    def jvp(module: object) -> torch.Tensor:
        return torch.func.jvp(module, (x,), (tangent,))[1]

    def dual(module: object) -> torch.Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(module(forward_ad.make_dual(x, tangent))).tangent

    expected = jvp(SimAM(0.1).eval())
    for derive in (jvp, dual):
        torch._dynamo.reset()
        module = kernel(use="auto")
        torch.testing.assert_close(torch.compile(derive, fullgraph=True, backend=backend)(module), expected)
        compiled = torch.compile(module, backend=backend)
        before = stand_in.launches
        compiled(x)
        assert stand_in.launches == before + 1
        torch.testing.assert_close(derive(compiled), expected)
        assert stand_in.launches == before + 1
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.usefixtures("no_kernels")
def test_compiled_where_the_kernel_cannot_run_it_is_the_formula(dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(kernel(use="auto"), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(tensor(dtype=dtype)), SimAM(0.1)(tensor(dtype=dtype)))
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_compiled_by_inductor(memory_format: torch.memory_format, stand_in: StandIn) -> None:
    """Inductor may give the convolution another layout: the operator gets the strides that it was traced with."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 8, 3, padding=1).to(memory_format=memory_format)
    module = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(8), kernel(), torch.nn.ReLU()).eval()
    x = tensor(shape=(2, 3, 15, 17)).to(memory_format=memory_format)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x), rtol=0, atol=1e-5)
    assert stand_in.launches == 2


def test_compiled_and_required_it_raises(stand_in: StandIn) -> None:
    compiled = torch.compile(kernel().train(), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="cannot run the kernel: the module is in training mode"):
        compiled(tensor())


def test_traced_on_a_fake_gpu(stand_in: StandIn) -> None:
    """As a compiler sees it on a GPU."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with FakeTensorMode(), torch.no_grad():
        graph = make_fx(kernel())(torch.empty((2, 3, 5, 7), device="cuda"))
    assert [str(node.target) for node in graph.graph.nodes][1:] == ["simam.SimAM.default", "output"]


# files


def formula_only(program: object) -> bool:
    return not [node for node in program.graph.nodes if "simam" in str(node.target)]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("use", ["auto", "require"])
def test_exported_programs_hold_the_formula(use: str, strict: bool, stand_in: StandIn) -> None:
    program = torch.export.export(kernel(use=use), (tensor(),), strict=strict)
    assert formula_only(program)
    assert torch.equal(program.module()(tensor()), SimAM(0.1)(tensor()))
    assert stand_in.launches == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_files_hold_the_formula(dynamo: bool, stand_in: StandIn) -> None:
    def exported(module: torch.nn.Module) -> list[str]:
        file = io.BytesIO()
        if dynamo:
            torch.onnx.export(module, (tensor(),), dynamo=True, verbose=False).save(file)
        else:
            torch.onnx.export(module, (tensor(),), file, dynamo=False)
        return [node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node]

    assert exported(kernel()) == exported(SimAM(0.1).eval())
    assert stand_in.launches == 0


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated:DeprecationWarning")
def test_traces_hold_the_formula(stand_in: StandIn) -> None:
    traced = torch.jit.trace(kernel(), tensor(), check_trace=False)
    assert "simam::" not in str(traced.inlined_graph)
    assert torch.equal(traced(tensor()), SimAM(0.1)(tensor()))
    assert stand_in.launches == 0


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated:DeprecationWarning")
def test_where_the_kernel_cannot_run_the_check_of_a_trace_says_what_to_do(no_kernels: Path) -> None:
    words = r"x is on cpu, not on cuda; .*; or use kernel='auto'; torch.jit.trace has traced the formula.* pass "
    for module in (kernel(), torch.nn.Sequential(torch.nn.ReLU(), kernel())):
        with pytest.raises(torch.jit.TracingCheckError, match=words + "check_trace=False"):
            torch.jit.trace(module, tensor())
        traced = torch.jit.trace(module, tensor(), check_trace=False)
        torch.testing.assert_close(traced(tensor().relu()), SimAM(0.1)(tensor().relu()))
    torch.jit.trace(kernel(use="auto"), tensor())
    with pytest.raises(RuntimeUnavailable, match=r"or use kernel='auto'$"):
        kernel()(tensor())


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated:DeprecationWarning")
def test_the_check_of_a_trace_runs_the_kernel_where_it_can(stand_in: StandIn) -> None:
    torch.jit.trace(kernel(), tensor())
    assert stand_in.launches == 1


def test_an_fx_graph_holds_one_node(stand_in: StandIn) -> None:
    graph = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU(), kernel()))
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "call_function", "output"]
    again = pickle.loads(pickle.dumps(graph))
    torch.testing.assert_close(again(tensor()), SimAM(0.1)(tensor().relu()))
    assert stand_in.launches == 1


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_keep_it(clone: object, stand_in: StandIn) -> None:
    copied = clone(kernel())
    assert (copied.kernel, copied.e_lambda, copied.state_dict()) == ("require", 0.1, {})
    copied(tensor())
    assert stand_in.launches == 1
    copied.load_state_dict(SimAM().state_dict(), strict=True)


def test_a_module_of_before_there_was_a_kernel() -> None:
    old = SimAM(0.1)
    del old.__dict__["_kernel"]
    assert pickle.loads(pickle.dumps(old)).kernel == "off"
