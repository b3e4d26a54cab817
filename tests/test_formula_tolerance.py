"""The tolerance against right and wrong formulas."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from helpers.cases import INPUTS, LAMBDAS, SHAPES, make

from simam_deploy import formula


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def share(y, x, e_lambda, dtype=np.float32):
    """The largest error of y as a share of the tolerance; infinite where y is not a number."""
    error = np.abs(np.asarray(y, dtype=np.float64) - formula.reference(x, e_lambda))
    return float(np.nan_to_num(error / formula.tolerance(x, dtype, e_lambda), nan=np.inf).max())


def numpy_float32(x, e_lambda):
    """The formula in float32, without thought."""
    lam, m = np.float32(e_lambda), np.float32(x.shape[2] * x.shape[3])
    d = (x - x.mean(axis=(2, 3), keepdims=True)) ** 2
    v = d.sum(axis=(2, 3), keepdims=True) / (m - 1)
    return x * sigmoid(d / (4 * (v + lam)) + np.float32(0.5))


def torch_module(x, e_lambda):
    torch = pytest.importorskip("torch")
    from simam_deploy import SimAM

    return SimAM(e_lambda=e_lambda)(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("run", [numpy_float32, torch_module])
@pytest.mark.parametrize("name", INPUTS)
def test_float32_uses_at_most_the_stated_share_of_the_tolerance(name, run, record_property):
    shares = []
    for shape, e_lambda in itertools.product(SHAPES, LAMBDAS):
        x = make(name, shape)
        y = run(x, e_lambda)
        assert y.dtype == np.float32
        shares.append(share(y, x, e_lambda))
    record_property("worst share of tolerance", max(shares))
    print(f"{run.__name__} {name}: {max(shares):.3f} of the tolerance")
    assert max(shares) < 0.7  # stated: 0.55; the rest is for other processors


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", INPUTS)
def test_other_dtypes_stay_within_their_tolerance(name, dtype):
    torch = pytest.importorskip("torch")
    from simam_deploy import SimAM

    for shape, e_lambda in itertools.product(SHAPES, LAMBDAS):
        x = torch.from_numpy(make(name, shape)).to(getattr(torch, dtype))
        y = SimAM(e_lambda=e_lambda)(x)
        assert y.dtype == x.dtype
        assert share(y.double().numpy(), x.double().numpy(), e_lambda, dtype) < 1


@pytest.mark.parametrize(("dtype", "names"), [("float16", ["large", "offset"]), ("bfloat16", ["offset"])])
def test_statistics_in_half_precision_fall_outside(dtype, names):
    torch = pytest.importorskip("torch")
    for name in names:  # bfloat16 has the range of float32, so `large` is not large for it
        x = torch.from_numpy(make(name, (2, 3, 5, 7))).to(getattr(torch, dtype))
        d = (x - x.mean((2, 3), keepdim=True)) ** 2
        y = x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / 34 + 1e-4)) + 0.5)
        assert share(y.double().numpy(), x.double().numpy(), 1e-4, dtype) > 1, name


def whole_plane(x):
    return x.sum(axis=(2, 3), keepdims=True)


def running_sum(x):
    return np.cumsum(x.reshape(*x.shape[:2], -1), axis=2)[:, :, -1:, None]


def test_running_float32_sums_fall_outside():
    x, m = make("plain", (1, 16, 160, 160)), np.float32(160 * 160)
    d = (x - running_sum(x) / m) ** 2
    y = x * sigmoid(d / (4 * (running_sum(d) / (m - 1) + np.float32(1e-4))) + np.float32(0.5))
    assert y.dtype == np.float32
    assert 3 < share(y, x, 1e-4) < 5


def test_mean_of_squares_minus_square_of_mean_falls_outside():
    worst = 0.0
    for shape in SHAPES:
        x, m = make("offset", shape), np.float32(shape[2] * shape[3])
        mean = whole_plane(x) / m
        v = (whole_plane(x * x) - m * mean * mean) / (m - 1)
        y = x * sigmoid((x - mean) ** 2 / (4 * (v + np.float32(1e-4))) + np.float32(0.5))
        worst = max(worst, share(y, x, 1e-4))
    assert worst > 100


def test_float32_means_are_as_good_as_the_tolerance_says():
    torch = pytest.importorskip("torch")
    for name, shape in itertools.product(INPUTS, SHAPES):
        x = make(name, shape)
        a = x.astype(np.float64)
        unit = 2.0**-23 * np.abs(a).mean(axis=(2, 3), keepdims=True)
        t = torch.from_numpy(x)
        for got in (t, t.contiguous(memory_format=torch.channels_last)):
            error = got.mean((2, 3), keepdim=True).double().numpy() - a.mean(axis=(2, 3), keepdims=True)
            assert np.max(np.abs(error) / unit) < 6  # stated: 4.1
        assert np.max(np.abs(x.mean(axis=(2, 3), keepdims=True) - a.mean(axis=(2, 3), keepdims=True)) / unit) < 6


def variant(*, mean_axes=(2, 3), axes=(2, 3), ddof=1, factor=1.0, half=0.5, four=4):
    """SimAM in float64 with one thing changed."""

    def run(x, e_lambda):
        a = x.astype(np.float64)
        d = (a - a.mean(axis=mean_axes, keepdims=True)) ** 2
        v = d.sum(axis=axes, keepdims=True) / (np.prod([a.shape[i] for i in axes]) - ddof)
        with np.errstate(invalid="ignore"):
            return a * sigmoid(d / (four * (v + factor * e_lambda)) + half)

    return run


def leave_one_out(x, e_lambda):
    return x * sigmoid(1 / formula.minimal_energy_leave_one_out(x, e_lambda))


def centred(x, e_lambda):
    a = x.astype(np.float64)
    return (a - a.mean(axis=(2, 3), keepdims=True)) * formula.gate(x, e_lambda)


# What is wrong, and inputs of shape (2, 3, 5, 7) that show it.
WRONG = {
    "population variance": (variant(ddof=0), set(INPUTS) - {"constant"}),
    "λ halved": (variant(factor=0.5), {"plain", "faint"}),
    "λ missing": (variant(factor=0.0), {"plain", "constant", "faint"}),
    "½ missing": (variant(half=0.0), set(INPUTS)),
    "2 for 4": (variant(four=2), set(INPUTS) - {"constant"}),
    "mean over W only": (variant(mean_axes=(3,)), set(INPUTS) - {"constant"}),
    "mean over H only": (variant(mean_axes=(2,)), set(INPUTS) - {"constant"}),
    "over channels too": (variant(mean_axes=(1, 2, 3), axes=(1, 2, 3)), set(INPUTS)),
    "over the batch too": (variant(mean_axes=(0, 2, 3), axes=(0, 2, 3)), set(INPUTS)),
    "leave one out": (leave_one_out, set(INPUTS) - {"constant"}),
    "x - mean times the gate": (centred, set(INPUTS) - {"large"}),  # whose mean is 0
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_formula_exceeds_the_float32_tolerance(wrong):
    run, shown_by = WRONG[wrong]
    worst = {name: share(run(x, 1e-4), x, 1e-4) for name in INPUTS for x in [make(name, (2, 3, 5, 7))]}
    assert {name for name, value in worst.items() if value > 1} == shown_by, worst


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_formula_exceeds_the_half_tolerance(wrong, dtype):
    run, _ = WRONG[wrong]
    inputs = [make(name, (2, 3, 5, 7)).astype(dtype).astype(np.float32) for name in INPUTS]
    assert max(share(run(x, 1e-4), x, 1e-4, dtype) for x in inputs) > 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_halved_lambda_shows_at_every_shape(shape):
    x = make("faint", shape)
    assert share(variant(factor=0.5)(x, 1e-4), x, 1e-4) > 100


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_population_variance_shows_at_every_shape(shape):
    x = make("plain", shape)
    assert share(variant(ddof=0)(x, 1e-4), x, 1e-4) > 10


def test_constants_in_the_tolerance_argument():
    u = np.linspace(0, 30, 300_001)
    z = u**2 / 4 + 0.5
    g = sigmoid(z)
    slope = g * (1 - g)
    assert np.max(slope * u / 2) == pytest.approx(0.151, abs=5e-4)  # |dg/du|
    # In eps, each operation rounding by half a unit in the last place and exp by a whole one:
    quotient = (2 * 0.5 + 0.5 + (2 * 0.5 + 0.5 + 0.5) + 0.5 + 0.5) * u**2 / 4  # (x - mean)² is in d and again in v
    summed = slope * (quotient + 0.5 * z + 1) + 0.5 * g**2 + 0.25 + 0.5 * g
    assert summed.max() == pytest.approx(2.0, abs=5e-3)
    assert u[summed.argmax()] == pytest.approx(2.4, abs=0.05)
    assert summed[0] == pytest.approx(1.0, abs=0.05)
    assert summed[-1] == pytest.approx(1.25, abs=5e-3)


def test_tolerance_by_dtype():
    x = make("offset", (2, 3, 5, 7))
    bounds = {name: formula.tolerance(x, name) for name in ("float64", "float32", "float16", "bfloat16")}
    assert all(bound.shape == (2, 3, 1, 1) for bound in bounds.values())
    assert (bounds["float64"] < 1e-8 * bounds["float32"]).all()
    for dtype in (np.float16, ml_dtypes.bfloat16):
        rounding = bounds[np.dtype(dtype).name] - bounds["float32"]
        info = ml_dtypes.finfo(dtype)
        expected = 0.5 * float(info.eps) * np.abs(x).max(axis=(2, 3), keepdims=True)
        np.testing.assert_allclose(rounding, expected + 0.5 * float(info.smallest_subnormal), rtol=1e-9)
        np.testing.assert_array_equal(bounds[np.dtype(dtype).name], formula.tolerance(x, dtype))
    with pytest.raises(TypeError, match="no tolerance for a int8 result; there is one for float64, float32"):
        formula.tolerance(x, np.int8)
