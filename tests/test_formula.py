"""The closed forms against independent minimisers, and the reference by hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from helpers.cases import INPUTS, LAMBDAS, SHAPES, make

from simam_deploy import formula
from simam_deploy.errors import ShapeError, SimAMDeployError

ROOT = Path(__file__).parents[1]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def split(plane, i):
    """Neuron i of a plane, and the others."""
    flat = plane.ravel().astype(np.float64)
    return flat[i], np.delete(flat, i)


def least_squares(t, others, e_lambda):
    """The minimum of (2) found without its closed form: a linear least squares problem in (w, b)."""
    root = np.sqrt(len(others))
    rows = np.vstack([np.c_[others, np.ones_like(others)] / root, [t, 1], [np.sqrt(e_lambda), 0]])
    (w, b), *_ = np.linalg.lstsq(rows, np.r_[-np.ones_like(others) / root, 1, 0], rcond=None)
    return w, b


# Planes of other ranks


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((2, 3, 35), (2, 3, 1, 35)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
        ((2, 3, 2, 5, 7), (2, 3, 10, 7)),
        ((0, 3, 2, 5, 7), (0, 3, 10, 7)),
    ],
)
def test_planes_of_any_rank_as_maps(shape, maps):
    """SimAM of them is SimAM with statistics over all axes from 2 on."""
    x = np.random.default_rng(0).standard_normal(shape)
    as_maps = formula.as_maps(x)
    assert as_maps.shape == maps
    axes = tuple(range(2, x.ndim))
    d = (x - x.mean(axes, keepdims=True)) ** 2
    v = d.sum(axes, keepdims=True) / (x[0, 0].size - 1) if x.size else d
    y = x * sigmoid(d / (4 * (v + 0.1)) + 0.5)
    np.testing.assert_allclose(formula.reference(as_maps, 0.1), formula.as_maps(y), rtol=1e-13)


@pytest.mark.parametrize("shape", [(), (2, 3), (2, 3, 2, 2, 5, 7)])
def test_other_ranks_are_no_planes(shape):
    with pytest.raises(ShapeError, match=r"takes x of shape \(N, C, L\), .* got \("):
        formula.as_maps(np.zeros(shape))


# The minimum of (2)


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("seed", range(4))
def test_closed_form_is_the_minimum_of_the_energy(seed, e_lambda):
    t, others = split(make("plain", (1, 1, 3, 5), seed), 2)
    w, b = formula.closed_form(t, others, e_lambda)
    lowest = formula.energy(w, b, t, others, e_lambda)
    for start in [(0, 0), (5, -5), (-3, 2), (-w, -b)]:
        found = scipy.optimize.minimize(
            lambda p: formula.energy(*p, t, others, e_lambda),
            start,
            method="Powell",
            options={"xtol": 1e-9, "ftol": 1e-15},
        )
        np.testing.assert_allclose(found.x, (w, b), rtol=1e-5, atol=1e-6)
        assert found.fun == pytest.approx(lowest, rel=1e-9)


@pytest.mark.parametrize("e_lambda", LAMBDAS)
def test_printed_sign_is_no_minimum(e_lambda):
    x = make("plain", (1, 1, 3, 5))
    minima = formula.minimal_energy_leave_one_out(x, e_lambda).ravel()
    for i, minimum in enumerate(minima):
        t, others = split(x, i)
        w, b = formula.closed_form(t, others, e_lambda)
        printed = formula.energy(-w, -b, t, others, e_lambda)  # (4) takes its sign from (3)
        assert printed == pytest.approx(8 - 3 * minimum, rel=1e-12)
        assert printed > formula.energy(0, 0, t, others, e_lambda) == 2


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 3, 2, 2), (2, 3, 5, 7)])
@pytest.mark.parametrize("name", ["plain", "constant", "faint", "outlier"])
def test_leave_one_out_is_the_minimum_for_every_neuron(name, shape, e_lambda):
    x = make(name, shape)
    found = []
    for plane in x.reshape(-1, shape[2] * shape[3]):
        for i in range(plane.size):
            t, others = split(plane, i)
            w, b = least_squares(t, others, e_lambda)
            found.append(formula.energy(w, b, t, others, e_lambda))
    # At M = 2 the outlier's energy is 4λ / 10^6: the solver sees it only to the rounding of 1 - (w t + b).
    minima = formula.minimal_energy_leave_one_out(x, e_lambda)
    np.testing.assert_allclose(minima.ravel(), found, rtol=1e-7, atol=1e-14)


def test_leave_one_out_of_a_plane_that_one_neuron_makes():
    x = np.array([1e3, 0, 0, 0]).reshape(1, 1, 2, 2)  # σ_t² is 0 up to rounding, and must not be below
    np.testing.assert_allclose(formula.minimal_energy_leave_one_out(x)[0, 0, 0, 0], 4e-4 / (1e6 + 2e-4), rtol=1e-6)


@pytest.mark.parametrize("w", [-3.0, 0.2, 1.0])
def test_lines_of_the_derivation(w):
    t, others = split(make("plain", (1, 1, 3, 5)), 2)
    lam, mu, var = 0.1, others.mean(), others.var()
    delta = t - mu
    b = -0.5 * (t + mu) * w
    assert np.mean((-1 - (w * others + 0.7)) ** 2) == pytest.approx((1 + w * mu + 0.7) ** 2 + w**2 * var)  # 1
    assert [1 + w * mu + b, 1 - w * t - b] == pytest.approx([1 - 0.5 * w * delta] * 2)  # 5
    parabola = 2 - 2 * w * delta + 0.5 * w**2 * (delta**2 + 2 * var + 2 * lam)
    assert formula.energy(w, b, t, others, lam) == pytest.approx(parabola)  # 6
    minimum = formula.energy(*formula.closed_form(t, others, lam), t, others, lam)
    assert minimum == pytest.approx(2 - formula.closed_form(t, others, lam)[0] * delta)  # 9
    assert minimum == pytest.approx(4 * (var + lam) / (delta**2 + 2 * var + 2 * lam))  # 10
    assert sigmoid(0.5) == pytest.approx(0.622, abs=5e-4)


# The approximation (5)


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize(
    ("side", "plain", "outlier"),
    [((1, 2), 0.36, 0.36), ((7, 7), 0.035, 1e-4), ((14, 14), 0.008, 1.5e-5), ((56, 56), 5e-4, 4e-6)],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_whole_plane_statistics_approximate_the_minimum(side, plain, outlier, e_lambda):
    for name, bound in (("plain", plain), ("outlier", outlier)):
        x = make(name, (1, 64, *side))
        exact = sigmoid(1 / formula.minimal_energy_leave_one_out(x, e_lambda))
        assert bound / 5 < np.abs(formula.gate(x, e_lambda) - exact).max() < bound


def test_table_in_the_docs_is_what_the_benchmark_prints():
    command = [sys.executable, "-m", "benchmarks.leave_one_out"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed in (ROOT / "docs/explanation/derivation.md").read_text(encoding="utf-8")


# The reference


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("name", INPUTS)
def test_reference_is_the_gate_of_the_minimal_energy_times_x(name, e_lambda):
    x = make(name, (2, 3, 5, 7))
    np.testing.assert_allclose(
        formula.reference(x, e_lambda), sigmoid(1 / formula.minimal_energy(x, e_lambda)) * x, rtol=1e-14
    )


def test_reference_by_hand():
    # mean 2, d = 4, 0, 4 and v = 4: with λ = 1, d / (4 (v + λ)) = 0.2, 0, 0.2
    x = np.array([0.0, 2.0, 4.0]).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        formula.reference(x, 1.0).ravel(), [0, 2 / (1 + np.exp(-0.5)), 4 / (1 + np.exp(-0.7))], rtol=1e-15
    )
    np.testing.assert_allclose(formula.minimal_energy(x, 1.0).ravel(), [20 / 14, 2, 20 / 14], rtol=1e-15)


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_instance_norm_identity(name, shape, e_lambda):
    x = make(name, shape).astype(np.float64)
    m = shape[2] * shape[3]
    biased = x.var(axis=(2, 3), keepdims=True)
    z2 = (m - 1) / (4 * m) * (x - x.mean(axis=(2, 3), keepdims=True)) ** 2 / (biased + e_lambda * (m - 1) / m)
    np.testing.assert_allclose(sigmoid(z2 + 0.5), formula.gate(x, e_lambda), rtol=1e-13)


FUNCTIONS = [
    formula.minimal_energy,
    formula.minimal_energy_leave_one_out,
    formula.gate,
    formula.reference,
    lambda x: formula.tolerance(x, np.float32),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unusable_shapes_are_refused(function):
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\); got 3-D \(3, 5, 7\)"):
        function(np.zeros((3, 5, 7)))
    with pytest.raises(ShapeError, match=r"1x1 map is 0/0 .* shape \(1, 8, 1, 1\); leave SimAM out"):
        function(np.zeros((1, 8, 1, 1)))
    assert issubclass(ShapeError, ValueError)
    assert issubclass(ShapeError, SimAMDeployError)
