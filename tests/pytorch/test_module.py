"""The PyTorch module: signatures, dtypes, memory formats, gradients."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import INPUTS, LAMBDAS, make

torch = pytest.importorskip("torch")

from helpers.tensors import share, tensor  # noqa: E402

from simam_deploy import SimAM, formula, simam_module  # noqa: E402
from simam_deploy.errors import ShapeError  # noqa: E402

ROOT = Path(__file__).parents[2]
HALF = [torch.float16, torch.bfloat16]


class Published(torch.nn.Module):
    """The well-known spelling, in our words."""

    def __init__(self, channels=None, e_lambda=1e-4):
        super().__init__()
        self.act = torch.nn.Sigmoid()
        self.e_lambda = e_lambda

    def forward(self, x):
        _, _, h, w = x.size()
        n = w * h - 1
        square = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        y = square / (4 * (square.sum(dim=[2, 3], keepdim=True) / n + self.e_lambda)) + 0.5
        return x * self.act(y)


# Making one


@pytest.mark.parametrize(
    ("args", "kwargs", "e_lambda"),
    [
        ((), {}, 1e-4),
        ((0.1,), {}, 0.1),
        ((), {"e_lambda": 0.1}, 0.1),
        ((), {"e_lambda": 1}, 1.0),
        ((64,), {}, 1e-4),
        ((64, 128), {}, 1e-4),
        ((64, 1), {}, 1e-4),
        ((64, 0.1), {}, 0.1),
        ((64, 128, 0.1), {}, 0.1),
        ((64, 128), {"e_lambda": 0.1}, 0.1),
        ((), {"channels": 64}, 1e-4),
        ((), {"channels": 64, "e_lambda": 0.1}, 0.1),
        ((), {"channels": None, "e_lambda": 0.1}, 0.1),
        ((None, 0.1), {}, 0.1),
        ((np.float64(0.1),), {}, 0.1),
    ],
)
def test_signatures(args, kwargs, e_lambda):
    for made in (SimAM(*args, **kwargs), simam_module(*args, **kwargs)):
        assert type(made.e_lambda) is float
        assert made.e_lambda == e_lambda
        assert share(made(tensor("faint")), tensor("faint"), e_lambda) < 1


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("0.1",), {}),
        ((), {"e_lambda": "0.1"}),
        ((), {"e_lambda": True}),
        ((True,), {}),
        ((), {"channels": 0.1}),
        ((0.1, 0.2), {}),
        ((0.1,), {"e_lambda": 0.1}),
        (([64],), {}),
    ],
)
def test_wrong_types_and_two_lambdas_are_refused(args, kwargs):
    with pytest.raises(
        TypeError, match=r"channel counts \(int, not needed\) and at most one e_lambda \(float\); got \("
    ):
        SimAM(*args, **kwargs)


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'lam'"):
        SimAM(lam=0.1)


@pytest.mark.parametrize("value", [0.0, -1e-4, float("nan"), float("inf"), 0])
def test_lambda_must_be_positive(value):
    with pytest.raises(ValueError, match="e_lambda must be a positive number; got"):
        SimAM(e_lambda=value)


def test_repr_shows_lambda_in_full():
    assert repr(SimAM(0.123456789)) == "SimAM(e_lambda=0.123456789)"
    assert repr(SimAM()) == "SimAM(e_lambda=0.0001)"


def test_state_is_empty_and_checkpoints_of_the_published_module_load():
    assert SimAM().state_dict() == {}
    SimAM().load_state_dict({}, strict=True)
    trained = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Published(4), torch.nn.BatchNorm2d(4))
    ours = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), SimAM(4), torch.nn.BatchNorm2d(4))
    ours.load_state_dict(trained.state_dict(), strict=True)
    x = tensor("plain")
    torch.testing.assert_close(ours(x), trained(x))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_keep_lambda(clone):
    copied = clone(SimAM(0.1).eval())
    assert copied.e_lambda == 0.1
    assert not copied.training
    assert torch.equal(copied(tensor("plain")), SimAM(0.1)(tensor("plain")))


# Running it


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_dtypes(name, dtype, e_lambda):
    x = tensor(name, dtype=dtype)
    y = SimAM(e_lambda)(x)
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert share(y, x, e_lambda) < 1


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("name", INPUTS)
def test_published_spelling_is_the_same_function(name, e_lambda):
    x = tensor(name)
    assert share(Published(e_lambda=e_lambda)(x), x, e_lambda) < 1


def test_half_precision_gate_where_the_published_spelling_overflows():
    x = tensor("large", dtype=torch.float16)
    gates = Published()(x).float() / x.float()
    torch.testing.assert_close(gates, torch.full_like(gates, 0.622), rtol=0, atol=1e-3)  # sigmoid(½), whatever x is
    gates = SimAM()(x).float() / x.float()
    assert gates.max() > 0.7


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", ["offset", "large"])
def test_autocast_keeps_the_statistics_in_float32(name, dtype):
    x = tensor(name, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        y = SimAM()(x)
        full = SimAM()(x.float())
    assert y.dtype == dtype
    assert torch.equal(y, SimAM()(x))
    assert share(y, x) < 1
    assert full.dtype == torch.float32
    assert share(full, x.float()) < 1
    if name == "offset" or dtype == torch.float16:
        assert share(Published()(x), x) > 1  # what is kept from happening


def test_behind_a_convolution_under_autocast():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    conv.bias.data.fill_(1000.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = conv(100 * tensor("plain"))
        y = SimAM()(x)
    assert x.dtype == y.dtype == torch.bfloat16
    assert share(y, x) < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", INPUTS)
def test_channels_last_is_kept(name, dtype):
    x = tensor(name, (2, 8, 15, 17), dtype)
    last = x.to(memory_format=torch.channels_last)
    y = SimAM()(last)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert SimAM()(x).is_contiguous()
    assert share(y, x) < 1


@pytest.mark.parametrize("name", ["plain", "offset"])
def test_non_contiguous_input(name):
    base = tensor(name, (2, 6, 10, 7))
    for x in (base[:, ::2, ::2], base.transpose(2, 3), base.flip(3)[..., 1:], base[:, :1].expand(2, 4, 10, 7)):
        assert share(SimAM()(x), x) < 1


def test_empty_batch():
    assert SimAM()(torch.zeros(0, 3, 5, 7)).shape == (0, 3, 5, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_input_is_not_modified(dtype):
    x = tensor("plain", dtype=dtype)
    before = x.clone()
    y = SimAM()(x)
    y.zero_()
    assert torch.equal(x, before)


def test_planes_do_not_mix():
    x = tensor("plain")
    other = x.clone()
    other[1, 2] = 1e6
    changed = (SimAM()(x) != SimAM()(other)).flatten(2).any(2)
    assert changed.nonzero().tolist() == [[1, 2]]


def test_unusable_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\); got 3-D \(3, 5, 7\)"):
        SimAM()(torch.zeros(3, 5, 7))
    with pytest.raises(ValueError, match=r"1x1 map is 0/0 .* shape \(1, 8, 1, 1\); leave SimAM out there"):
        SimAM()(torch.zeros(1, 8, 1, 1))


# Gradients


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 2, 3, 4)])
@pytest.mark.parametrize("name", ["plain", "constant", "faint"])
def test_gradcheck(name, shape, e_lambda):
    x = tensor(name, shape, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(SimAM(e_lambda), x)


@pytest.mark.parametrize("name", ["plain", "faint"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradient_is_that_of_the_reference(name, dtype):
    a = make(name, (2, 2, 3, 4)).astype(np.float64)
    weights = make("plain", a.shape, seed=1).astype(np.float64)
    step = 1e-6 * a.std()
    differences = np.empty_like(a)
    for i in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[i] += step
        down[i] -= step
        differences[i] = ((formula.reference(up) - formula.reference(down)) * weights).sum() / (2 * step)
    x = torch.from_numpy(a).to(dtype).requires_grad_()
    (SimAM()(x) * torch.from_numpy(weights).to(dtype)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), differences, rtol=0, atol=1e-8 if dtype == torch.float64 else 5e-6)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_gradient_in_half_precision_is_finite_where_the_sum_would_overflow(dtype):
    x = tensor("large", dtype=dtype).requires_grad_()
    SimAM()(x).sum().backward()
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all()
    exact = x.detach().double().requires_grad_()
    SimAM()(exact).sum().backward()
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=0, atol=2 * torch.finfo(dtype).eps)


# Importing it


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_torch_is_imported_only_when_it_is_used():
    heavy = "{'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'scipy'} & set(sys.modules)"
    code = f"import sys, simam_deploy; from simam_deploy import formula, errors; print({heavy})"
    assert run(code) == "set()\n"
    assert run("import sys; from simam_deploy import SimAM; print(SimAM(), 'torch' in sys.modules)") == (
        "SimAM(e_lambda=0.0001) True\n"
    )


def test_unknown_names_are_refused():
    import simam_deploy

    assert simam_module is SimAM
    with pytest.raises(AttributeError, match="module 'simam_deploy' has no attribute 'Simam'"):
        _ = simam_deploy.Simam
