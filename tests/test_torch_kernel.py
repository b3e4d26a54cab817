"""The kernel in PyTorch without a GPU: traced on fake CUDA tensors, and run on the CPU by a library that stands in.

torch's registry is the process's, and so is the library: this module makes one of each, with the CPU among the
devices, and every test starts from there.
"""

import copy
import ctypes
import io
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import INPUTS, SHAPES, make

torch = pytest.importorskip("torch")

from torch._subclasses import FakeTensorMode  # noqa: E402

from simam_deploy import SimAM, cuda_library, formula, native, torch_kernel  # noqa: E402
from simam_deploy.cuda_library import Params  # noqa: E402
from simam_deploy.errors import NativeError, RuntimeUnavailable, ShapeError  # noqa: E402

ROOT = Path(__file__).parents[1]
BUILD_IT = (
    "no library of the CUDA kernels: build it with `make native-cuda` in a checkout of simam-deploy; "
    "or name its file with SIMAM_CUDA_LIBRARY"
)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands in."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("kernels") / cuda_library.COMPILED.name
    source = Path(__file__).with_name("kernels_on_cpu.c")
    command = [compiler, "-shared", "-fPIC", "-O1", f"-I{ROOT}/plugins/cuda", str(source), "-o", str(path), "-lm"]
    subprocess.run(command, check=True)
    return path


class StandIn:
    """What the library saw, and what it is to answer."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.number("needed", ctypes.c_size_t).value = 0
        for name, value in (("launches", 0), ("prepared", 0), ("result", 0), ("most_group", 2**30)):
            self.number(name).value = value

    def number(self, name: str, kind: type = ctypes.c_int) -> ctypes.c_int:
        return kind.in_dll(self.library, name)

    @property
    def launches(self) -> int:
        return self.number("launches").value

    @property
    def last(self) -> Params:
        return Params.in_dll(self.library, "last")


@pytest.fixture
def stand_in(built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The kernels run on CPU tensors too."""
    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", str(built))
    monkeypatch.setattr(torch_kernel, "DEVICES", ("cuda", "cpu"))
    if torch_kernel._kernels is None:  # nobody has asked, or there was none then
        torch_kernel._missing = None
    torch_kernel.prepare()
    assert torch_kernel._kernels is not None
    monkeypatch.setattr(torch_kernel, "_prepared", set())
    yield StandIn(torch_kernel._kernels.loaded)
    torch._dynamo.reset()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No library, and nobody has asked for one."""
    monkeypatch.delenv("SIMAM_CUDA_LIBRARY", raising=False)
    monkeypatch.setattr(native, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(native, "CHECKOUT", tmp_path)
    monkeypatch.setattr(native, "CHECKOUT_CUDA", tmp_path / "cuda")
    monkeypatch.setattr(torch_kernel, "_missing", None)
    monkeypatch.setattr(torch_kernel, "_kernels", None)
    return tmp_path


def kernel(e_lambda: float = 0.1, use: str = "require") -> SimAM:
    return SimAM(e_lambda, kernel=use).eval()


def tensor(name: str = "plain", shape: tuple = (2, 3, 5, 7), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(make(name, shape)).to(dtype)


# the call


def test_the_structure_is_that_of_the_header() -> None:
    header = (ROOT / "plugins/cuda/simam_cuda.h").read_text()
    body = re.sub(r"//.*", "", re.search(r"struct SimamParams \{(.*?)\n\};", header, re.DOTALL)[1])
    declared = [
        (name.strip(), kind)
        for kind, names in re.findall(r"([\w ]+\*?) ([\w, ]+);", body)
        for name in names.split(",")
    ]
    assert [name.replace("e_lambda", "lambda") for name, _ in Params._fields_] == [name for name, _ in declared]
    for (name, kind), (_, ctype) in zip(declared, Params._fields_, strict=True):
        spelled = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "float": ctypes.c_float}
        expected = ctypes.c_void_p if kind.endswith("*") else spelled.get(kind.strip(), ctypes.c_size_t)
        assert ctype is expected, name


def test_what_is_launched(stand_in: StandIn) -> None:
    stand_in.number("last_stream", ctypes.c_void_p).value = 7
    x = tensor()
    y = kernel(0.25)(x)
    last = stand_in.last
    assert (last.type, last.activation, last.tactic, last.group) == (0, 0, 0, 1)
    assert (last.x, last.y) == (x.data_ptr(), y.data_ptr())
    assert (last.residual, last.scale, last.bias, last.workspace, last.workspace_size) == (None, None, None, None, 0)
    assert (last.images, last.channels, last.pixels) == (2, 3, 35)
    assert (last.e_lambda, last.x_scale, last.residual_scale, last.y_scale) == (0.25, 1, 1, 1)
    assert stand_in.number("last_stream", ctypes.c_void_p).value is None
    kernel()(x.half()), kernel()(x.bfloat16())
    assert (stand_in.launches, stand_in.last.type, stand_in.number("prepared").value) == (3, 2, 1)
    assert kernel()(torch.zeros(0, 3, 5, 7)).shape == (0, 3, 5, 7)
    assert stand_in.launches == 3


@pytest.mark.parametrize("name", INPUTS)
def test_it_computes_the_formula(name: str, stand_in: StandIn) -> None:
    for shape in SHAPES:
        x = make(name, shape)
        y = kernel()(torch.from_numpy(x)).numpy()
        assert (np.abs(y - formula.reference(x, 0.1)) <= formula.tolerance(x, np.float32, 0.1)).all()
    assert stand_in.launches == len(SHAPES)


@pytest.mark.parametrize("most_group", [2**30, 1])
def test_memory_formats(most_group: int, stand_in: StandIn) -> None:
    stand_in.number("most_group").value = most_group
    base = tensor(shape=(2, 6, 10, 7))
    last = base.to(memory_format=torch.channels_last)
    views = (base, last, base[:, ::2], base.transpose(2, 3), base[:, :1].expand(2, 4, 10, 7), last[:, :, 1:])
    for x in (*views, last[:, :1]):
        before, y = x.clone(), kernel()(x)
        torch.testing.assert_close(y, SimAM(0.1)(x), rtol=0, atol=1e-5)
        assert y.stride() == torch.empty_like(x).stride()
        assert torch.equal(x, before)
    kernel()(last)
    assert stand_in.last.group == (6 if most_group > 6 else 1)
    assert (stand_in.last.x == last.data_ptr()) == (most_group > 6)


def test_workspace(stand_in: StandIn) -> None:
    stand_in.number("needed", ctypes.c_size_t).value = 1000
    torch.testing.assert_close(kernel()(tensor()), SimAM(0.1)(tensor()))
    assert stand_in.last.workspace is not None
    assert stand_in.last.workspace % 16 == 0
    assert stand_in.last.workspace_size == 1000
    kernel()(tensor(shape=(2, 3, 1, 2)))
    assert (stand_in.last.workspace, stand_in.last.workspace_size) == (None, 0)


def test_a_kernel_that_fails(stand_in: StandIn, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.number("result").value = 700
    words = r"simam::SimAM of x \(2, 3, 5, 7\) torch.float32 on cpu: the kernel of .*libsimam_cuda.so failed: cudaErr"
    with pytest.raises(NativeError, match=words):
        kernel(use="auto")(tensor())
    with pytest.raises(NativeError, match=r"on cpu, channels last: .* cudaError_t 700"):
        kernel()(tensor().to(memory_format=torch.channels_last))
    monkeypatch.setattr(torch_kernel, "_prepared", set())
    monkeypatch.setattr(cuda_library.Kernels, "prepare", lambda _: 209)
    with pytest.raises(NativeError, match=f"{built} cannot load its kernels into cpu: cudaError_t 209"):
        kernel()(tensor())


# who runs


def test_it_is_off_unless_it_is_asked_for(stand_in: StandIn) -> None:
    module = SimAM(0.1).eval()
    module(tensor())
    assert stand_in.launches == 0
    assert module.kernel_use(tensor()) == "formula: kernel='off'"
    assert (repr(module), repr(kernel(use="auto"))) == ("SimAM(e_lambda=0.1)", "SimAM(e_lambda=0.1, kernel=auto)")
    module.kernel = "auto"
    module(tensor())
    assert stand_in.launches == 1
    assert module.kernel_use(tensor()) == "kernel"
    for make_one in (lambda: SimAM(kernel="on"), lambda: setattr(module, "kernel", "on")):
        with pytest.raises(ValueError, match="kernel is one of off, auto, require; got 'on'"):
            make_one()


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("the module is in training mode; call eval()", lambda m, x: (m.train(), x)),
        ("x is torch.float64; it takes float32, float16 and bfloat16", lambda m, x: (m, x.double())),
        (
            "x requires a gradient, which it does not compute; use torch.no_grad()",
            lambda m, x: (m, x.requires_grad_()),
        ),
        ("x is on cpu, not on cuda", None),
        (BUILD_IT, None),
    ],
)
def test_where_it_may_not_run(words: str, change: object, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = kernel(use="auto"), tensor()
    if words.startswith("x is on"):
        monkeypatch.setattr(torch_kernel, "DEVICES", ("cuda",))
    elif words == BUILD_IT:
        monkeypatch.setattr(torch_kernel, "_missing", cuda_library.COMPILED.why_not())
    else:
        module, x = change(module, x)
    assert module.kernel_use(x) == f"formula: {words}"
    assert torch.equal(module(x), SimAM(0.1)(x))
    module.kernel = "require"
    with pytest.raises(
        RuntimeUnavailable, match=re.escape(f"require') cannot run the kernel: {words}; or use kernel=")
    ):
        module(x)
    assert stand_in.launches == 0


def test_every_reason_is_said_and_no_gradient_is_none(stand_in: StandIn) -> None:
    x = tensor().double().requires_grad_()
    assert SimAM(kernel="auto").kernel_use(x).count(";") == 5  # three reasons, of two parts each
    with torch.no_grad():
        assert kernel().kernel_use(tensor().requires_grad_()) == "kernel"
    with torch.inference_mode():
        kernel()(tensor())
    assert stand_in.launches == 1


def test_shapes_are_refused_as_by_the_formula(stand_in: StandIn) -> None:
    for module in (kernel(), SimAM()):
        with pytest.raises(ShapeError, match=r"1x1 map is 0/0 .* shape \(1, 8, 1, 1\); leave SimAM out there"):
            module(torch.zeros(1, 8, 1, 1))
        with pytest.raises(ShapeError, match=r"\(N, C, H, W\); got 3-D"):
            module(torch.zeros(3, 5, 7))
    with pytest.raises(ShapeError, match=r"with H.W >= 2; got"):
        torch.ops.simam.SimAM(torch.zeros(1, 8, 1, 1), 0.1)
    assert stand_in.launches == 0


def test_gradients_are_those_of_the_formula(stand_in: StandIn) -> None:
    x, same = tensor().requires_grad_(), tensor().requires_grad_()
    kernel(use="auto")(x).sum().backward()
    SimAM(0.1)(same).sum().backward()
    assert torch.equal(x.grad, same.grad)


# the library


def test_without_one(nowhere: Path) -> None:
    assert cuda_library.kernels() is None
    assert cuda_library.why_not() == BUILD_IT
    assert BUILD_IT in kernel(use="auto").kernel_use(tensor())
    assert torch.equal(kernel(use="auto")(tensor()), SimAM(0.1)(tensor()))


def test_one_that_cannot_be_used(nowhere: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / cuda_library.COMPILED.name).write_text("no library")
    with pytest.raises(NativeError, match=r"is no library of Linux; build it again: `make native-cuda` in"):
        SimAM(kernel="auto")
    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", "missing")
    with pytest.raises(
        NativeError, match="SIMAM_CUDA_LIBRARY is 'missing', which is no file; unset it, or name a libsimam_c"
    ):
        SimAM(kernel="auto")
    SimAM()
    other = next(Path(torch.__file__).parent.glob("lib/libtorch_global_deps.so"))
    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", str(other))
    with pytest.raises(
        NativeError, match=r"is not the library of simam-deploy's kernels: .*simam_launch; SIMAM_CUDA_LIB"
    ):
        SimAM(kernel="auto")


def test_nothing_is_registered_before_it_is_asked_for(built: Path) -> None:
    code = """
import torch
from simam_deploy import SimAM, torch_kernel
SimAM().eval()(torch.ones(1, 1, 2, 2))
before = torch_kernel._missing, hasattr(torch.ops.simam, "SimAM")
SimAM(kernel="auto")
print(before, torch_kernel._missing == "", torch.ops.simam.SimAM.default._schema)
"""
    environment = {"SIMAM_CUDA_LIBRARY": str(built), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(None, False) True simam::SimAM(Tensor x, float e_lambda) -> Tensor\n"


def test_an_unpickled_module_registers_it_too(built: Path, stand_in: StandIn, tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(kernel(use="auto")), tmp_path / "m.pt")
    code = f"""
import torch
from simam_deploy import torch_kernel
torch.load({str(tmp_path / "m.pt")!r}, weights_only=False)
print(torch_kernel._missing == "", hasattr(torch.ops.simam, "SimAM"))
"""
    environment = {"SIMAM_CUDA_LIBRARY": str(built), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.usefixtures("nowhere")
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


def test_many_threads_register_it_once(built: Path) -> None:
    code = """
import threading, time
from simam_deploy import SimAM, cuda_library
find = cuda_library.kernels
cuda_library.kernels = lambda: (find(), time.sleep(0.3))[0]  # all are there before the first is done
together, failed = threading.Barrier(8), []
def work():
    together.wait()
    try:
        SimAM(kernel="auto")
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(failed)
"""
    environment = {"SIMAM_CUDA_LIBRARY": str(built), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
