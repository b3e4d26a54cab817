"""The numerical judge: SimAM is recognised with its λ, and everything near it is refused with what is wrong."""

from collections.abc import Callable

import numpy as np
import pytest

from simam_deploy import equivalence
from simam_deploy.formula import Float64, reference

SHAPES = [(2, 3, 5, 7), (2, 3, 8, 8)]
Run = Callable[[Float64], Float64]


def variant(
    *, factor: float = 4, more: float = 0, half: float = 0.5, axes: tuple[int, ...] = (2, 3), e_lambda: float = 1e-4
) -> Run:
    """SimAM with one thing changed. more : what is added to M - 1."""

    def run(x: Float64) -> Float64:
        d = (x - x.mean(axis=axes, keepdims=True)) ** 2
        n = np.prod([x.shape[axis] for axis in axes]) - 1 + more
        return np.asarray(x / (1 + np.exp(-(d / (factor * (d.sum(axis=axes, keepdims=True) / n + e_lambda)) + half))))

    return run


@pytest.mark.parametrize("e_lambda", [1e-10, 1e-6, 1e-4, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("shapes", [SHAPES, [(1, 1, 1, 2)], [(1, 2, 160, 160)]], ids=str)
def test_simam_is_found_with_its_lambda(e_lambda: float, shapes: list[equivalence.Shape4D]) -> None:
    verdict = equivalence.check_simam(lambda x: reference(x, e_lambda), shapes)
    assert verdict.e_lambda == pytest.approx(e_lambda, rel=1e-11)
    assert verdict.reasons == ()


WRONG = {
    "population variance": (variant(more=1), r"by M = 35, not by M - 1 = 34 \(population variance\)"),
    "another divisor": (variant(more=-1), r"or by 33 where M - 1 = 34"),
    "4.001 for 4": (variant(factor=4.001), r"divides \(x - mean\)² by 4.001 "),
    "2 for 4": (variant(factor=2), r"by 2 \(v \+ 0.0001\), SimAM by 4"),
    "no half": (variant(half=0), r"adds 0 in front of the sigmoid; SimAM adds 0.5"),
    "0.501 for half": (variant(half=0.501), r"adds 0.501 in front"),
    "rows only": (variant(axes=(3,)), r"not a function of \(x - mean\)² over H and W alone"),
    "channels too": (variant(axes=(1, 2, 3)), r"not a function of"),
    "batch too": (variant(axes=(0, 2, 3)), r"not a function of"),
    "λ = 0": (
        variant(e_lambda=0.0),
        r"^λ would be 0 \(below 1e-15, which cannot be told from 0\); it must be positive$",
    ),
    "λ = 1e-30": (variant(e_lambda=1e-30), r"^λ would be 0 \(below 1e-15, which cannot be told from 0\); it must be"),
    "λ = 1e-16": (variant(e_lambda=1e-16), r"^λ would be 0 \(below 1e-15, which cannot be told from 0\); it must be"),
    "λ = -1e-14": (variant(e_lambda=-1e-14), r"λ would be -.*e-1\d; it must be positive"),
    "λ < 0": (variant(e_lambda=-1e-3), r"λ would be -0.001; it must be positive"),
    "identity": (lambda x: x, r"not a gate between 0 and 1"),
    "SiLU": (lambda x: np.asarray(x / (1 + np.exp(-x))), r"not a function of"),
    "half": (lambda x: x / 2, r"^the gate does not depend on \(x - mean\)²$"),
    "the plane's mean": (
        lambda x: np.asarray(x / (1 + np.exp(-x.mean(axis=(2, 3), keepdims=True)))),
        r"^the gate does not depend on",
    ),
    "gate of -x": (lambda x: -reference(x), r"not a gate between 0 and 1"),
    "scaled": (lambda x: 0.9 * reference(x), r"."),
    "bent at 1e5": (
        lambda x: np.asarray(reference(x / (1 + (x / 1e5) ** 4)) * (1 + (x / 1e5) ** 4)),
        r"on huge planes",
    ),
    "another shape": (lambda x: reference(x)[:, :1], r"has shape \(2, 1, 5, 7\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_simam_is_refused_with_the_difference(name: str) -> None:
    run, words = WRONG[name]
    verdict = equivalence.check_simam(run, SHAPES)
    assert verdict.e_lambda is None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError("; ".join(verdict.reasons))


def test_population_variance_shows_on_a_large_map() -> None:
    """1/M = 1.6e-4 at 80x80: too little for float32, plain in float64."""
    assert equivalence.check_simam(variant(more=1), [(1, 2, 80, 80)]).e_lambda is None
    assert equivalence.check_simam(variant(), [(1, 2, 80, 80)]).e_lambda is not None


def test_constants_rounded_to_float32_pass() -> None:
    def run(x: Float64) -> Float64:
        d = (x - x.mean(axis=(2, 3), keepdims=True)) ** 2
        s = d.sum(axis=(2, 3), keepdims=True)
        reciprocal = float(np.float32(1 / (x.shape[2] * x.shape[3] - 1)))
        return np.asarray(x / (1 + np.exp(-(d / (4 * (s * reciprocal + float(np.float32(1e-4)))) + 0.5))))

    assert equivalence.check_simam(run, SHAPES).e_lambda == pytest.approx(1e-4, rel=1e-6)


def test_an_inner_error_passes_through() -> None:
    def run(x: Float64) -> Float64:
        raise KeyError("inner")

    with pytest.raises(KeyError, match="inner"):
        equivalence.check_simam(run, SHAPES)
