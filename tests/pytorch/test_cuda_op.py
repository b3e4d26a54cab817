"""The kernel in PyTorch without a GPU: what calls it, run on the CPU by a library that stands in."""

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import INPUTS, SHAPES, make

torch = pytest.importorskip("torch")

from helpers.stand_in import StandIn, kernel, tensor  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402

from simam_deploy import SimAM, formula  # noqa: E402
from simam_deploy.errors import NativeError, RuntimeUnavailable, ShapeError  # noqa: E402
from simam_deploy.native import cuda_library  # noqa: E402
from simam_deploy.native.cuda_library import Params  # noqa: E402
from simam_deploy.pytorch import cuda_op  # noqa: E402

ROOT = Path(__file__).parents[2]
BUILD_IT = (
    "no library of the CUDA kernels: build it with `make native-cuda` in a checkout of simam-deploy; "
    "or name its file with SIMAM_CUDA_LIBRARY"
)


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


def test_the_numbers_are_those_of_the_header() -> None:
    header = (ROOT / "plugins/cuda/simam_cuda.h").read_text()
    for enum, names in {
        "SimamType": cuda_library.TYPES,
        "SimamActivation": cuda_library.ACTIVATIONS,
        "SimamTactic": cuda_library.TACTICS,
    }.items():
        found = re.findall(r"SIMAM_(\w+) = (\d)", re.search(rf"enum {enum} \{{(.*?)\}}", header, re.DOTALL)[1])
        assert [(name.lower(), int(number)) for name, number in found] == [(n, i) for i, n in enumerate(names)]
    assert cuda_library.TYPES[:3] == tuple(
        cuda_library.TYPES[n] for n in (cuda_library.F32, cuda_library.F16, cuda_library.BF16)
    )


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


def test_a_kernel_that_fails(stand_in: StandIn, built_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.number("result").value = 700
    words = r"simam::SimAM of x \(2, 3, 5, 7\) torch.float32 on cpu: the kernel of .*libsimam_cuda.so failed: cudaErr"
    with pytest.raises(NativeError, match=words):
        kernel(use="auto")(tensor())
    with pytest.raises(NativeError, match=r"on cpu, channels last: .* cudaError_t 700"):
        kernel()(tensor().to(memory_format=torch.channels_last))
    monkeypatch.setattr(cuda_op, "_prepared", set())
    monkeypatch.setattr(cuda_library.Kernels, "prepare", lambda _: 209)
    with pytest.raises(NativeError, match=f"{built_kernels} cannot load its kernels into cpu: cudaError_t 209"):
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
        monkeypatch.setattr(cuda_op, "DEVICES", ("cuda",))
    elif words == BUILD_IT:
        monkeypatch.setattr(cuda_op, "_missing", cuda_library.COMPILED.why_not())
    else:
        module, x = change(module, x)
    assert module.kernel_use(x) == f"formula: {words}"
    assert torch.equal(module(x), SimAM(0.1)(x))
    module.kernel = "require"
    assert module.kernel_use(x) == f"nothing: {words}"
    with pytest.raises(
        RuntimeUnavailable, match=re.escape(f"require') cannot run the kernel: {words}; or use kernel=")
    ):
        module(x)
    assert stand_in.launches == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_lambda_beyond_float32(dtype: torch.dtype, stand_in: StandIn) -> None:
    x, most = tensor(dtype=dtype), float(np.finfo(np.float32).max)
    words = "e_lambda is 1e+39; it takes 3.4028235e+38 at most, the largest float32"
    module = kernel(1e39, use="auto")
    assert module.kernel_use(x) == f"formula: {words}"
    assert torch.equal(module(x), SimAM(1e39)(x))
    torch.testing.assert_close(module(x).double(), x.double() * torch.sigmoid(torch.tensor(0.5)), rtol=5e-3, atol=0)
    with pytest.raises(RuntimeUnavailable, match=re.escape(f"cannot run the kernel: {words}; or use kernel='auto'")):
        kernel(1e39)(x)
    assert stand_in.launches == 0
    kernel(most)(x)
    assert (stand_in.launches, stand_in.last.e_lambda) == (1, most)
    with pytest.raises(ValueError, match=r"takes 0 <= e_lambda <= 3.4028235e\+38, as float32; got 1e\+39"):
        torch.ops.simam.SimAM(x, 1e39)


@pytest.mark.parametrize("shape", [(1, 1, 2**15, 2**15 + 1), (2**15, 2**15 + 1, 1, 2)])
def test_more_than_the_kernels_take(shape: tuple[int, ...], stand_in: StandIn) -> None:
    header = (ROOT / "plugins/cuda/simam_cuda.h").read_text()
    assert "pixels and N * C at most 2^30" in header
    x = torch.zeros(1, 1, 1, 1).expand(shape)
    sizes = f"{shape[0] * shape[1]} planes of {shape[2] * shape[3]} values"
    assert kernel(use="auto").kernel_use(x) == f"formula: x has {sizes}; it takes 2**30 of each at most"
    fits = (shape[0], shape[1] - (shape[1] > 1), shape[2], shape[3] - (shape[3] > 2))
    assert kernel(use="auto").kernel_use(torch.zeros(1, 1, 1, 1).expand(fits)) == "kernel"


def test_every_reason_is_said_and_no_gradient_is_none(stand_in: StandIn) -> None:
    x = tensor().double().requires_grad_()
    assert SimAM(kernel="auto").kernel_use(x).count(";") == 5  # three reasons, of two parts each
    with torch.no_grad():
        assert kernel().kernel_use(tensor().requires_grad_()) == "kernel"
    with torch.inference_mode():
        kernel()(tensor())
    assert stand_in.launches == 1


def test_shapes_are_refused_as_by_the_formula(stand_in: StandIn) -> None:
    for module in (kernel(), kernel(use="auto"), SimAM()):
        for run in (module, module.kernel_use):
            with pytest.raises(ShapeError, match=r"1x1 map is 0/0 .* shape \(1, 8, 1, 1\); leave SimAM out there"):
                run(torch.zeros(1, 8, 1, 1))
            with pytest.raises(ShapeError, match="0x7 map is 0/0"):
                run(torch.zeros(1, 8, 0, 7))
            with pytest.raises(ShapeError, match=r"\(N, C, H, W\); got 3-D"):
                run(torch.zeros(3, 5, 7))
    with pytest.raises(ShapeError, match=r"with H.W >= 2; got"):
        torch.ops.simam.SimAM(torch.zeros(1, 8, 1, 1), 0.1)
    assert stand_in.launches == 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, of jvp
def test_forward_derivatives_are_those_of_the_formula(stand_in: StandIn) -> None:
    x, tangent = tensor(), torch.ones_like(tensor())
    expected = torch.func.jvp(SimAM(0.1).eval(), (x,), (tangent,))[1]
    assert torch.equal(torch.func.jvp(kernel(use="auto"), (x,), (tangent,))[1], expected)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, tangent)
        assert "carries a forward-mode tangent" in kernel(use="auto").kernel_use(dual)
        assert torch.equal(forward_ad.unpack_dual(kernel(use="auto")(dual)).tangent, expected)
    assert stand_in.launches == 0
    with forward_ad.dual_level():  # of another tensor: x has none
        kernel()(x)
    assert stand_in.launches == 1


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_derivatives_through_vmap(stand_in: StandIn) -> None:
    """Of a batched x torch cannot tell whether it has a tangent."""
    x, tangent = tensor(), torch.ones_like(tensor())

    def each(module: SimAM) -> object:
        return lambda x: torch.vmap(module)(x[:, None])[:, 0]

    expected = torch.func.jvp(each(SimAM(0.1).eval()), (x,), (tangent,))[1]
    torch.testing.assert_close(torch.func.jvp(each(kernel(use="auto")), (x,), (tangent,))[1], expected)
    with pytest.raises(RuntimeUnavailable, match="carries a forward-mode tangent"):
        torch.func.jvp(each(kernel()), (x,), (tangent,))
    assert stand_in.launches == 0


def test_gradients_are_those_of_the_formula(stand_in: StandIn) -> None:
    x, same = tensor().requires_grad_(), tensor().requires_grad_()
    kernel(use="auto")(x).sum().backward()
    SimAM(0.1)(same).sum().backward()
    assert torch.equal(x.grad, same.grad)
