"""Is this piece of a graph SimAM, at every size that it may meet?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simam_deploy.equivalence import NOT_OF_DEVIATIONS, Verdict, prove
from simam_deploy.errors import InputError
from simam_deploy.formula import Float64
from simam_deploy.graph.shapes import Dims, Shapes
from simam_deploy.match.dataflow import Flow
from simam_deploy.match.fixed_size import CLIPPED, described, eps, map_of, maps_for, scaled
from simam_deploy.match.half_constants import guesses, has_rounded
from simam_deploy.match.probe_shapes import MOST_VALUES, PROBES, Size, same, sizes, smaller
from simam_deploy.match.run_subgraph import Piece
from simam_deploy.match.subgraph import Cut
from simam_deploy.match.unverifiable import may_hide, period

CHANNELS_LAST = (
    "it is SimAM of x with the channels last, (N, H, W, C), where it takes (N, C, H, W): "
    "put a Transpose on each side of it, or export the model with the channels behind N"
)


@dataclass(frozen=True)
class Judgement:
    """λ of a SimAM, or the reasons why it is none."""

    e_lambda: float | None
    reasons: tuple[str, ...] = ()
    once_n_is_right: float | None = None
    """λ of what it is once M - 1, a constant that is right at another size of the map only, comes from the shape."""


TOO_MANY = "it was not judged: those before it, all different, took all the time that one file gets"
MOST_WORK_IN_ALL = 3 * 2**29
"""For the pieces of one model, in the unit of `run_subgraph`: 3 seconds, or some 300 small blocks that all differ. On
maps of 10^5 values and more a unit takes up to four times as long, as they do not fit into the caches."""
FEW_VALUES = 2**14
"""An x of more is judged briefly where a piece of its kind was proved: 60 blocks of large maps, each with a λ of its
own, are judged within MOST_WORK_IN_ALL then."""
FIXED_WORK = 2**21
"""Of a piece that is not like another."""


class Judge:
    """Judges the pieces of one model. Pieces that are alike are run once."""

    def __init__(self, flow: Flow, shapes: Shapes) -> None:
        self._flow = flow
        self._shapes = shapes
        self._pieces: dict[bytes, Piece] = {}
        self._known: dict[tuple[object, ...], tuple[Verdict, bool]] = {}
        self._proved: set[bytes] = set()
        """Kinds of pieces of which one was proved at all its sizes."""
        self._work = 0

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
        if cut.uniform and not cut.two_sided and variants:
            self._proved.add(piece.kind)
        return Judgement(None if hidden else e_lambda, tuple(hidden))

    def _judge_at(self, piece: Piece, cut: Cut, dims: Dims) -> Judgement:
        fixed = all(isinstance(d, int) for d in dims)
        if cut.picks and not fixed:
            return Judgement(
                None, ("it picks out a part of x, and the sizes of x are not fixed, so that cannot be judged",)
            )
        verdict = Verdict(None, ("the sizes of x could not be inferred for all input sizes that matter",))
        e_lambda = None
        for size, measured in self._tried(cut, dims):
            if not fixed and not all(
                np.ptp(numbers) == 0 for numbers in piece.numbers(size, measured) if numbers.size
            ):
                return Judgement(None, ("channels or positions get numbers computed from sizes that are not fixed",))
            verdict = self._verdict(piece, cut, size, measured)
            if verdict.reasons == (NOT_OF_DEVIATIONS,) and _is_channels_last(piece, size, measured):
                return Judgement(None, (CHANNELS_LAST,))
            if verdict.e_lambda is None:
                return self._explained(piece, cut, dims, size, verdict)
            if e_lambda is not None and abs(verdict.e_lambda / e_lambda - 1) > 1e-6:
                return Judgement(None, (f"λ depends on the size of the map: {e_lambda:g} and {verdict.e_lambda:g}",))
            e_lambda = verdict.e_lambda
        return Judgement(e_lambda, verdict.reasons)

    def _tried(self, cut: Cut, dims: Dims) -> list[tuple[Size, list[Size]]]:
        """Sizes of x to judge at; none if not all remainders that its numbers depend on can be tried."""
        found = list(sizes(cut, dims, self._shapes.trials if cut.sizes else []))
        times = period(cut)
        if times == 1:
            return found
        remainders = self._shapes.residues(times)
        more = list(sizes(cut, dims, remainders))
        return found + more if len(more) == len(remainders) > 0 else []

    def _verdict(self, piece: Piece, cut: Cut, size: Size, measured: list[Size]) -> Verdict:
        verdict = Verdict(None)
        brief = piece.kind in self._proved and math.prod(size) > FEW_VALUES
        for tried in smaller(piece, cut, size, measured, 1 if brief else 2):
            verdict, runs = self._at(piece, cut, tried, measured, brief)
            if runs:
                break
        return verdict

    def _at(self, piece: Piece, cut: Cut, size: Size, measured: list[Size], brief: bool) -> tuple[Verdict, bool]:
        key = (piece.key, *piece.sized(size, measured))
        if key not in self._known:
            if self._work > MOST_WORK_IN_ALL:
                return Verdict(None, (TOO_MANY,)), False
            before = piece.spent
            verdict, runs = _prove(piece, size, measured, brief=brief)
            for instead in guesses(cut, math.prod(size[2:])) if runs and verdict.e_lambda is None else ():
                before_rounding, _ = _prove(piece, size, measured, instead)
                if before_rounding.e_lambda is not None:
                    verdict = before_rounding
                    break
            self._work += FIXED_WORK + piece.spent - before
            self._known[key] = verdict, runs
        return self._known[key]

    def _explained(self, piece: Piece, cut: Cut, dims: Dims, size: Size, verdict: Verdict) -> Judgement:
        """Where M - 1 is a constant for another size of the map, that is the reason."""
        m = math.prod(size[2:])
        population = all(isinstance(d, int) for d in dims[2:]) and abs((verdict.divisor or 0) - m) < 1e-3
        if verdict.divisor is not None and not cut.sizes and not population:
            if round(verdict.divisor) == CLIPPED < m - 1 and has_rounded(cut):
                at = self._verdict(piece, cut, (*size[:2], *map_of(CLIPPED + 1, len(size) - 2)), [])
                reason = f"M - 1 is {CLIPPED} and should be {m - 1}: some float16 converters clip constants so"
                return Judgement(None, (f"{reason}; fuse --repair takes M from the shape of x",), at.e_lambda)
            for other in (m0 for m0 in maps_for(verdict.divisor, m, eps(cut)) if scaled(m0, dims)):
                at = self._verdict(piece, cut, (*size[:2], *map_of(other, len(size) - 2)), [])
                if at.e_lambda is not None and same(piece.numbers(size), piece.numbers(PROBES[len(size)][-1])):
                    return Judgement(None, (described(other, dims),), at.e_lambda)
        unknown = all(d is None for d in dims[2:]) and not cut.sizes
        guessed = f"it was judged at {'x'.join(map(str, size[2:]))}, as the file does not tell the size of x"
        return Judgement(None, (*verdict.reasons, guessed) if unknown else verdict.reasons)


def _prove(
    piece: Piece,
    size: Size,
    measured: list[Size],
    instead: Mapping[int, float] | None = None,
    *,
    brief: bool = False,
) -> tuple[Verdict, bool]:
    """What equivalence.py says of the piece at one size, and whether it ran."""
    if math.prod(size) > MOST_VALUES:
        shown = "x".join(map(str, size))
        return Verdict(None, (f"x of {shown} is too large to be judged: more than {MOST_VALUES:,} values",)), False
    failure = piece.reason_against(size, measured)
    if failure is not None:
        return Verdict(None, (failure,)), False

    def run(x: Float64) -> Float64:
        y = piece.run(x.reshape(size), measured, instead)
        return y.reshape(x.shape) if y.shape == size else y

    try:
        return prove(run, [(size[0], size[1], math.prod(size[2:-1]), size[-1])], brief=brief), True
    except Exception as error:  # whatever the evaluator says of a piece that does not fit
        return Verdict(None, (f"it does not run by itself: {error}",)), False


def _is_channels_last(piece: Piece, size: Size, measured: list[Size]) -> bool:
    """Whether the piece is SimAM where the last axis of x is that of the channels."""
    if math.prod(size) > MOST_VALUES or math.prod(size[1:-1]) < 2:
        return False
    moved = (size[0], size[-1], *size[1:-1])
    planes = (size[0], size[-1], math.prod(size[1:-2]), size[-2])

    def run(x: Float64) -> Float64:
        y = piece.run(np.moveaxis(x.reshape(moved), 1, -1), measured)
        return np.moveaxis(y, -1, 1).reshape(x.shape) if y.shape == size else y

    try:
        return prove(run, [planes]).e_lambda is not None
    except Exception:  # whatever the evaluator says of a piece that does not fit
        return False
