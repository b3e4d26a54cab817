"""Is this piece of a graph SimAM, at every size that it may meet?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from simam_deploy.errors import InputError
from simam_deploy.formula import Float64
from simam_deploy.proof import Verdict, prove
from simam_deploy.recognise.cut import Cut, may_hide
from simam_deploy.recognise.flow import Flow, constant
from simam_deploy.recognise.piece import Piece
from simam_deploy.recognise.rounded import guesses, has_rounded
from simam_deploy.shapes import Dims, Shapes

Size = tuple[int, ...]
"""A shape of x, all numbers."""
MOST_VALUES = 2**22
"""A probe of more values than this is not run: it would take seconds, and hundreds of megabytes."""
FLOAT32_EPS = 2.0**-23
HALF_EPS = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}
CLIPPED = 10000
"""What some float16 converters make of every constant above it."""
PROBES = {
    3: ((2, 3, 42), (5, 7, 45), (3, 12, 3000)),
    4: ((2, 3, 6, 7), (5, 7, 9, 5), (3, 12, 60, 50)),
    5: ((2, 3, 3, 4, 5), (5, 7, 2, 9, 3), (3, 12, 10, 20, 15)),
}
"""Sizes to try where an axis is dynamic, by rank."""


@dataclass(frozen=True)
class Judgement:
    """λ of a SimAM, or the reasons why it is none."""

    e_lambda: float | None
    reasons: tuple[str, ...] = ()
    once_n_is_right: float | None = None
    """λ of what it is once M - 1, a constant that is right at another size of the map only, comes from the shape."""


class Judge:
    """Judges the pieces of one model. Pieces that are alike are run once."""

    def __init__(self, flow: Flow, shapes: Shapes) -> None:
        self._flow = flow
        self._shapes = shapes
        self._pieces: dict[bytes, Piece] = {}
        self._known: dict[tuple[object, ...], Verdict] = {}

    def judge(self, cut: Cut, variants: list[Dims]) -> Judgement:
        """variants : the shapes of x, one for each call of the function that the piece is in; one outside functions.

        Where an axis is not fixed, the piece is judged at sizes of our choice.
        """
        try:
            piece = Piece(cut, self._flow)
        except InputError as error:
            return Judgement(None, (str(error),))
        except Exception as error:  # whatever is said of a node that is no valid one
            return Judgement(None, (f"it does not run by itself: {error}",))
        piece = self._pieces.setdefault(piece.key, piece)
        e_lambda = None
        for dims in variants:
            found = self._judge_at(piece, cut, dims)
            if found.e_lambda is None:
                return found
            if e_lambda is not None and abs(found.e_lambda / e_lambda - 1) > 1e-6:
                return Judgement(None, (f"λ depends on the size of x: {e_lambda:g} and {found.e_lambda:g}",))
            e_lambda = found.e_lambda
        hidden = [may_hide(cut.two_sided[i]) for i in piece.unseen()]
        return Judgement(None if hidden else e_lambda, tuple(hidden))

    def _judge_at(self, piece: Piece, cut: Cut, dims: Dims) -> Judgement:
        fixed = all(isinstance(d, int) for d in dims)
        if cut.picks and not fixed:
            return Judgement(
                None, ("it picks out a part of x, and the sizes of x are not fixed, so that cannot be judged",)
            )
        verdict = Verdict(None, ("the sizes of x could not be inferred for any input size tried",))
        e_lambda = None
        for size, measured in self._sizes(cut, dims):
            verdict = self._verdict(piece, cut, size, measured)
            if verdict.e_lambda is None:
                return self._explained(piece, cut, dims, size, verdict)
            if e_lambda is not None and abs(verdict.e_lambda / e_lambda - 1) > 1e-6:
                return Judgement(None, (f"λ depends on the size of the map: {e_lambda:g} and {verdict.e_lambda:g}",))
            e_lambda = verdict.e_lambda
        return Judgement(e_lambda, verdict.reasons)

    def _sizes(self, cut: Cut, dims: Dims) -> Iterator[tuple[Size, list[Size]]]:
        """Sizes of x to judge at, each with the shapes of what the piece measures elsewhere."""
        if not cut.sizes:
            probes = PROBES[len(dims)]
            for probe in probes[: 1 if all(isinstance(d, int) for d in dims) else None]:
                yield tuple(d if isinstance(d, int) else p for d, p in zip(dims, probe, strict=True)), []
            return
        for trial in self._shapes.trials:
            at = trial.get(str(cut.x.name), ())
            measured = [trial.get(str(node.inputs[0].name), ()) for node in cut.sizes if node.inputs[0] is not None]
            fits = math.prod((1, 2, *at[2:]) if cut.uniform else at) <= MOST_VALUES
            if len(at) == len(dims) and math.prod(at[2:]) > 1 and all(measured) and fits:
                yield at, measured

    def _verdict(self, piece: Piece, cut: Cut, size: Size, measured: list[Size]) -> Verdict:
        key = (piece.key, size, tuple(measured))
        if key not in self._known:
            verdict = _prove(piece, cut, size, measured)
            for instead in () if verdict.e_lambda is not None else guesses(cut, math.prod(size[2:])):
                before_rounding = _prove(piece, cut, size, measured, instead)
                if before_rounding.e_lambda is not None:
                    verdict = before_rounding
                    break
            self._known[key] = verdict
        return self._known[key]

    def _explained(self, piece: Piece, cut: Cut, dims: Dims, size: Size, verdict: Verdict) -> Judgement:
        """Where M - 1 is a constant for another size of the map, that is the reason."""
        m = math.prod(size[2:])
        population = all(isinstance(d, int) for d in dims[2:]) and abs((verdict.divisor or 0) - m) < 1e-3
        if verdict.divisor is not None and not cut.sizes and not population:
            if round(verdict.divisor) == CLIPPED < m - 1 and has_rounded(cut):
                at = self._verdict(piece, cut, (*size[:2], *_map_of(CLIPPED + 1, len(size) - 2)), [])
                reason = f"M - 1 is {CLIPPED} and should be {m - 1}: some float16 converters clip constants so"
                return Judgement(None, (f"{reason}; --repair takes it from the shape of x",), at.e_lambda)
            for other in _maps_for(verdict.divisor, m, _eps(cut)):
                at = self._verdict(piece, cut, (*size[:2], *_map_of(other, len(size) - 2)), [])
                if at.e_lambda is not None:
                    return Judgement(None, (_frozen(other, dims),), at.e_lambda)
        unknown = all(d is None for d in dims[2:]) and not cut.sizes
        guessed = f"it was judged at {'x'.join(map(str, size[2:]))}, as the file does not tell the size of x"
        return Judgement(None, (*verdict.reasons, guessed) if unknown else verdict.reasons)


def _prove(
    piece: Piece, cut: Cut, size: Size, measured: list[Size], instead: Mapping[int, float] | None = None
) -> Verdict:
    """Where all planes are treated alike, a few batch elements of three channels are enough, if they fit."""
    failure: str | None = None
    for tried in [(min(size[0], 5), 3, *size[2:]), size] if cut.uniform else [size]:
        thinned = _thinned(tried) if cut.uniform else tried
        if math.prod(thinned) > MOST_VALUES:
            shown = "x".join(map(str, size))
            return Verdict(None, (f"x of {shown} is too large to be judged: more than {MOST_VALUES:,} values",))

        def run(x: Float64, size: Size = thinned) -> Float64:
            y = piece.run(x.reshape(size), measured, instead)
            return y.reshape(x.shape) if y.shape == size else y

        failure = piece.reason_against(thinned, measured)
        if failure is not None:
            continue
        try:
            return prove(run, [(thinned[0], thinned[1], math.prod(thinned[2:-1]), thinned[-1])])
        except Exception as error:  # whatever the evaluator says of a piece that does not fit
            failure = f"it does not run by itself: {error}"
    return Verdict(None, (failure or "",))


def _thinned(size: Size) -> Size:
    """Fewer planes of a large map; where planes are alike, two show all."""
    fits = math.prod(size) <= MOST_VALUES // 4
    return size if fits else (1, 2, *size[2:])


def _eps(cut: Cut) -> float:
    """How far a constant of the piece may be from what it was."""
    types = {tensor.dtype for tensor in map(constant, cut.constants) if tensor is not None}
    return max((HALF_EPS[dtype] for dtype in types if dtype in HALF_EPS), default=FLOAT32_EPS)


def _maps_for(divisor: float, m: int, eps: float) -> list[int]:
    """Values in a map for which a constant is right that acts as `divisor` in the place of M - 1 on maps of m values.

    The constant may be M - 1, or M / (M - 1) behind a mean. Of several that it may be, the squarest is taken. None
    where M fits better than M - 1: then it is a population variance.
    """
    found = []
    if not divisor < MOST_VALUES:
        return []
    slack = max(eps * divisor, 1e-4)
    if slack >= 1:
        found.append(min(range(math.ceil(divisor - slack) + 1, math.floor(divisor + slack) + 2), key=_squareness))
    elif abs(divisor - round(divisor)) < slack and _squareness(round(divisor) + 1) <= _squareness(round(divisor)):
        found.append(round(divisor) + 1)
    excess = m / divisor - 1
    if excess > 2 * eps:
        low, high = 1 + 1 / (excess + eps), 1 + 1 / (excess - eps)
        found += sorted(
            range(math.ceil(low - 1e-3), min(math.floor(high + 1e-3), int(low) + 1000) + 1), key=_squareness
        )[:1]
    return [other for other in found if 2 <= other <= MOST_VALUES // 2 and other != m]


def _squareness(m: int) -> float:
    """W / H of the squarest map of m values, W >= H."""
    h, w = _factors(m)
    return w / h


def _factors(m: int) -> tuple[int, int]:
    h = next(h for h in range(math.isqrt(max(m, 1)), 0, -1) if m % h == 0)
    return h, m // h


def _map_of(m: int, axes: int) -> Size:
    return (m,) if axes == 1 else (*(1,) * (axes - 2), *_factors(m))


def _frozen(m: int, dims: Dims) -> str:
    h, w = _factors(m)
    spatial = dims[2:]
    if all(isinstance(d, int) for d in spatial):
        here = f"here H*W = {np.prod([d for d in spatial if isinstance(d, int)])}"
    elif all(d is None for d in spatial):
        here = "the file does not tell the size of x"
    else:
        here = "the size of x is not fixed"
    return (
        f"M - 1 is a constant, right only where H*W = {m} (as {h}x{w}), and {here}; "
        "--repair takes it from the shape of x"
    )
