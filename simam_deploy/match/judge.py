"""Equivalence check of a candidate subgraph with SimAM, at every size that it may meet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simam_deploy.equivalence import NOT_OF_DEVIATIONS, EquivalenceResult, check_simam
from simam_deploy.errors import InputError
from simam_deploy.formula import Float64
from simam_deploy.graph.shapes import Dims, Shapes, StaticShape
from simam_deploy.match.dataflow import Flow
from simam_deploy.match.fixed_size import CLIPPED, described, eps, map_of, maps_for, scaled
from simam_deploy.match.half_constants import guesses, has_rounded
from simam_deploy.match.probe_shapes import MOST_VALUES, PROBES, same, sizes, smaller
from simam_deploy.match.run_subgraph import SubgraphRunner
from simam_deploy.match.subgraph import Subgraph
from simam_deploy.match.unverifiable import may_hide, period

CHANNELS_LAST = (
    "it is SimAM of x with the channels last, (N, H, W, C), where it takes (N, C, H, W): "
    "put a Transpose on each side of it, or export the model with the channels behind N"
)


@dataclass(frozen=True)
class Judgement:
    """λ of a SimAM block, or the reasons against it."""

    e_lambda: float | None
    reasons: tuple[str, ...] = ()
    once_n_is_right: float | None = None
    """λ once M - 1 comes from the shape: in the file it is a constant for another map size."""


TOO_MANY = "it was not checked: those before it, all different, took all the time that one file gets"
MOST_WORK_IN_ALL = 3 * 2**29
"""Upper bound for one model, in the unit of `run_subgraph`: 3 seconds, or some 300 different small blocks.

On maps from 10^5 values on, which exceed the caches, a unit takes up to four times as long."""
FEW_VALUES = 2**14
"""Above this size of x the check is brief, once a subgraph of the same kind has passed the full one.

So 60 blocks on large maps, each with its own λ, stay within MOST_WORK_IN_ALL."""
FIXED_WORK = 2**21
"""Overhead of a check without a cached result."""


class Judge:
    """Checks the candidate subgraphs of one model. Equal subgraphs run once."""

    def __init__(self, flow: Flow, shapes: Shapes) -> None:
        self._flow = flow
        self._shapes = shapes
        self._runners: dict[bytes, SubgraphRunner] = {}
        self._known: dict[tuple[object, ...], tuple[EquivalenceResult, bool]] = {}
        self._checked_kinds: set[bytes] = set()
        """Kinds of subgraphs that passed the full check at all their sizes."""
        self._work = 0

    def judge(self, subgraph: Subgraph, variants: list[Dims]) -> Judgement:
        """Check `subgraph` for every shape of x. Probe sizes stand in for dynamic axes.

        variants : shapes of x, one for each call of the enclosing function; one outside functions.
        """
        try:
            runner = SubgraphRunner(subgraph, self._flow)
        except InputError as error:
            return Judgement(None, (str(error),))
        except Exception as error:  # onnx raises many types for invalid nodes
            return Judgement(None, (f"it does not run by itself: {error}",))
        runner = self._runners.setdefault(runner.key, runner)
        e_lambda = None
        for dims in variants:
            found = self._judge_at(runner, subgraph, dims)
            if found.e_lambda is None:
                return found
            if e_lambda is not None and abs(found.e_lambda / e_lambda - 1) > 1e-6:
                return Judgement(None, (f"λ depends on the size of x: {e_lambda:g} and {found.e_lambda:g}",))
            e_lambda = found.e_lambda
        hidden = [may_hide(subgraph.two_sided[i]) for i in runner.unseen()]
        if subgraph.uniform and not subgraph.two_sided and variants:
            self._checked_kinds.add(runner.kind)
        return Judgement(None if hidden else e_lambda, tuple(hidden))

    def _judge_at(self, runner: SubgraphRunner, subgraph: Subgraph, dims: Dims) -> Judgement:
        fixed = all(isinstance(d, int) for d in dims)
        if subgraph.picks and not fixed:
            return Judgement(
                None, ("it picks out a part of x, and the sizes of x are not fixed, so that cannot be checked",)
            )
        verdict = EquivalenceResult(None, ("the sizes of x could not be inferred for all input sizes that matter",))
        e_lambda = None
        for size, measured in self._tried(subgraph, dims):
            if not fixed and not all(
                np.ptp(numbers) == 0 for numbers in runner.numbers(size, measured) if numbers.size
            ):
                return Judgement(None, ("channels or positions get numbers computed from sizes that are not fixed",))
            verdict = self._verdict(runner, subgraph, size, measured)
            if verdict.reasons == (NOT_OF_DEVIATIONS,) and _is_channels_last(runner, size, measured):
                return Judgement(None, (CHANNELS_LAST,))
            if verdict.e_lambda is None:
                return self._explained(runner, subgraph, dims, size, verdict)
            if e_lambda is not None and abs(verdict.e_lambda / e_lambda - 1) > 1e-6:
                return Judgement(None, (f"λ depends on the size of the map: {e_lambda:g} and {verdict.e_lambda:g}",))
            e_lambda = verdict.e_lambda
        return Judgement(e_lambda, verdict.reasons)

    def _tried(self, subgraph: Subgraph, dims: Dims) -> list[tuple[StaticShape, list[StaticShape]]]:
        """Sizes of x for the check; none if a remainder that its numbers depend on has no probe."""
        found = list(sizes(subgraph, dims, self._shapes.trials if subgraph.sizes else []))
        times = period(subgraph)
        if times == 1:
            return found
        remainders = self._shapes.residues(times)
        more = list(sizes(subgraph, dims, remainders))
        return found + more if len(more) == len(remainders) > 0 else []

    def _verdict(
        self, runner: SubgraphRunner, subgraph: Subgraph, size: StaticShape, measured: list[StaticShape]
    ) -> EquivalenceResult:
        verdict = EquivalenceResult(None)
        brief = runner.kind in self._checked_kinds and math.prod(size) > FEW_VALUES
        for tried in smaller(runner, subgraph, size, measured, 1 if brief else 2):
            verdict, runs = self._at(runner, subgraph, tried, measured, brief)
            if runs:
                break
        return verdict

    def _at(
        self, runner: SubgraphRunner, subgraph: Subgraph, size: StaticShape, measured: list[StaticShape], brief: bool
    ) -> tuple[EquivalenceResult, bool]:
        key = (runner.key, *runner.sized(size, measured))
        if key not in self._known:
            if self._work > MOST_WORK_IN_ALL:
                return EquivalenceResult(None, (TOO_MANY,)), False
            before = runner.spent
            verdict, runs = _check(runner, size, measured, brief=brief)
            for instead in guesses(subgraph, math.prod(size[2:])) if runs and verdict.e_lambda is None else ():
                before_rounding, _ = _check(runner, size, measured, instead)
                if before_rounding.e_lambda is not None:
                    verdict = before_rounding
                    break
            self._work += FIXED_WORK + runner.spent - before
            self._known[key] = verdict, runs
        return self._known[key]

    def _explained(
        self, runner: SubgraphRunner, subgraph: Subgraph, dims: Dims, size: StaticShape, verdict: EquivalenceResult
    ) -> Judgement:
        """The judgement for a failed check. Detects a constant M - 1 for another map size."""
        m = math.prod(size[2:])
        population = all(isinstance(d, int) for d in dims[2:]) and abs((verdict.divisor or 0) - m) < 1e-3
        if verdict.divisor is not None and not subgraph.sizes and not population:
            if round(verdict.divisor) == CLIPPED < m - 1 and has_rounded(subgraph):
                at = self._verdict(runner, subgraph, (*size[:2], *map_of(CLIPPED + 1, len(size) - 2)), [])
                reason = f"M - 1 is {CLIPPED} and should be {m - 1}: some float16 converters clip constants so"
                return Judgement(None, (f"{reason}; fuse --repair takes M from the shape of x",), at.e_lambda)
            for other in (m0 for m0 in maps_for(verdict.divisor, m, eps(subgraph)) if scaled(m0, dims)):
                at = self._verdict(runner, subgraph, (*size[:2], *map_of(other, len(size) - 2)), [])
                if at.e_lambda is not None and same(runner.numbers(size), runner.numbers(PROBES[len(size)][-1])):
                    return Judgement(None, (described(other, dims),), at.e_lambda)
        unknown = all(d is None for d in dims[2:]) and not subgraph.sizes
        guessed = f"it was checked at {'x'.join(map(str, size[2:]))}, as the file does not tell the size of x"
        return Judgement(None, (*verdict.reasons, guessed) if unknown else verdict.reasons)


def _check(
    runner: SubgraphRunner,
    size: StaticShape,
    measured: list[StaticShape],
    instead: Mapping[int, float] | None = None,
    *,
    brief: bool = False,
) -> tuple[EquivalenceResult, bool]:
    """Equivalence check at one size, and whether the subgraph ran."""
    if math.prod(size) > MOST_VALUES:
        shown = "x".join(map(str, size))
        return EquivalenceResult(
            None, (f"x of {shown} is too large to be checked: more than {MOST_VALUES:,} values",)
        ), False
    failure = runner.reason_against(size, measured)
    if failure is not None:
        return EquivalenceResult(None, (failure,)), False

    def run(x: Float64) -> Float64:
        y = runner.run(x.reshape(size), measured, instead)
        return y.reshape(x.shape) if y.shape == size else y

    try:
        return check_simam(run, [(size[0], size[1], math.prod(size[2:-1]), size[-1])], brief=brief), True
    except Exception as error:  # the evaluator raises many types for a subgraph that does not fit
        return EquivalenceResult(None, (f"it does not run by itself: {error}",)), False


def _is_channels_last(runner: SubgraphRunner, size: StaticShape, measured: list[StaticShape]) -> bool:
    """Whether the subgraph computes SimAM with channels on the last axis of x."""
    if math.prod(size) > MOST_VALUES or math.prod(size[1:-1]) < 2:
        return False
    moved = (size[0], size[-1], *size[1:-1])
    planes = (size[0], size[-1], math.prod(size[1:-2]), size[-2])

    def run(x: Float64) -> Float64:
        y = runner.run(np.moveaxis(x.reshape(moved), 1, -1), measured)
        return np.moveaxis(y, -1, 1).reshape(x.shape) if y.shape == size else y

    try:
        return check_simam(run, [planes]).e_lambda is not None
    except Exception:  # the evaluator raises many types for a subgraph that does not fit
        return False
