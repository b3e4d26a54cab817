"""Equivalence check of a PyTorch module with SimAM: a copy runs by itself in float64 (equivalence.py).

A module passes if it is SimAM with one λ at every size at which it runs, in eval and in training mode, if its
gradient is that of SimAM, and if it has no side effects: it does not change x or itself, is not random, and keeps
the dtype. A float32 computation inside (`x.float()`), as in 16-bit models, runs in float64 here. Rounding to 16
bits inside makes it another function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from simam_deploy.equivalence import Shape4D, check_simam
from simam_deploy.formula import Float64
from simam_deploy.pytorch.adopt.isolate import AttributeWatch, copied, undisturbed
from simam_deploy.pytorch.module import SimAM
from simam_deploy.pytorch.to_float64 import HALF, Widened

SIZES: tuple[Shape4D, ...] = ((2, 3, 5, 7), (1, 3, 8, 8), (1, 2, 33, 65), (1, 65, 3, 5))
"""Shapes for every check, besides those of the calls in the model. One has many channels: a module may treat the
first ones differently."""
MOST_CHANNELS = 4096
"""Upper bound on an integer attribute that may be a channel count."""
OTHER_RANKS = {"(N, C, L)": lambda n, c, h, w: (n, c, h * w), "(N, C, D, H, W)": lambda n, c, h, w: (n, c, h, 1, w)}


@dataclass(frozen=True)
class Seen:
    """Calls of a module in a run of its model: the shapes of x, and differences from `module(x)`."""

    shapes: tuple[tuple[int, ...], ...] = ()
    odd: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialResult:
    """λ if the module computes SimAM. It may be replaced only without reasons against it."""

    e_lambda: float | None
    reasons: tuple[str, ...] = ()
    is_gate: bool = False
    """Whether it is at least a gate on a statistic: y / x in (0, 1), and each y depends on more than its own x."""


class _Unfit(Exception):
    """The module does something that SimAM does not."""


def judge(module: nn.Module, seen: Seen | None = None) -> TrialResult:
    """Check a module. Changes neither it nor torch's random state; runs no hook; never raises.

    seen : its calls in the model. Without them, integer attributes serve as candidates for the number of channels.
    """
    seen = seen or Seen()
    try:
        with undisturbed():
            trial = _Trial(module)
    except Exception as error:
        return TrialResult(None, (f"it cannot be copied, to be tried apart: {_first_line(error)}",))
    try:
        with undisturbed():
            judged = trial.judge(seen)
    except Exception as error:  # code of the module that fails now and then
        return TrialResult(None, (f"it does not run by itself: {_first_line(error)}",))
    others = [s for s in seen.shapes if len(s) != 4]
    against = list(seen.odd)
    if others:
        against.append(f"it is called with {len(others[0])}-D x {others[0]}; our SimAM takes (N, C, H, W)")
    if any(len(s) == 4 and s[2] * s[3] < 2 for s in seen.shapes):
        against.append("it is called with maps of 1x1, where SimAM is 0/0")
    return replace(judged, reasons=(*judged.reasons, *against)) if judged.e_lambda else judged


class _Trial:
    """A copy of a module, without hooks."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copied(module)
        self.layout: Callable[[int, int, int, int], tuple[int, ...]] = lambda *shape: shape
        self.failure = ""
        self.ran_at: Shape4D | None = None

    def judge(self, seen: Seen) -> TrialResult:
        self.module.eval()
        judged = self._in_this_mode(self._sizes(seen), seen)
        if judged.e_lambda is None:
            return judged
        assert self.ran_at is not None
        against = [*judged.reasons, *self._state(), *self._other_dtypes()]
        self.module.train()
        training = self._in_this_mode(iter([self.ran_at]), seen)
        if training.e_lambda != judged.e_lambda or training.reasons:
            reasons = training.reasons or (f"λ is {training.e_lambda:g} there",)
            against.append(f"not in training mode: {'; '.join(reasons)}")
        else:
            against += self._gradient(judged.e_lambda)
        return replace(judged, reasons=tuple(against))

    def _in_this_mode(self, sizes: Iterable[Shape4D], seen: Seen) -> TrialResult:
        watch = AttributeWatch(self.module)
        try:
            judged = self._check_all(sizes, seen)
        except _Unfit as unfit:
            return TrialResult(None, (str(unfit),), self._is_gate())
        # caches of the trial itself aside, a SimAM writes nothing on itself: what it writes, others may read
        written = watch.written()
        if judged.e_lambda is not None and written:
            names = ", ".join(sorted(written))
            return replace(judged, reasons=(f"it writes its attribute {names} when it runs, which others may read",))
        return judged

    def _check_all(self, sizes: Iterable[Shape4D], seen: Seen) -> TrialResult:
        """Check all sizes at which the module runs; they must have one λ."""
        self.ran_at, found = None, None
        for shape in sizes:
            try:
                verdict = check_simam(self, [shape])
            except _Unfit:
                raise
            except Exception as error:
                self.failure = self.failure or f"it does not run on x of shape {shape}: {_first_line(error)}"
                continue
            self.ran_at = self.ran_at or shape
            if verdict.e_lambda is None:
                self._refuse_random()
                return TrialResult(None, self._at_seen_sizes(seen) or verdict.reasons, self._is_gate())
            if found is not None and abs(verdict.e_lambda / found - 1) > 1e-6:
                raise _Unfit(f"λ depends on the size of the map: {found:g} and {verdict.e_lambda:g}")
            found = verdict.e_lambda if found is None else found
        if found is None:
            reasons = self._at_other_ranks()
            return TrialResult(None, reasons or (self.failure,), bool(reasons))
        self._refuse_random()
        return TrialResult(_stored(found))

    def _sizes(self, seen: Seen) -> Iterator[Shape4D]:
        """Sizes for the check, small ones first. Lazy: the next depends on the results so far."""
        yield from SIZES
        shapes: list[Shape4D] = [s for s in dict.fromkeys(seen.shapes) if len(s) == 4 and s[2] * s[3] > 1]
        for channels in dict.fromkeys(s[1] for s in shapes):
            yield 2, channels, 3, 4
        for h, w in dict.fromkeys(s[2:] for s in shapes):
            yield 1, 2, h, w
        attributes = [v for m in self.module.modules() for v in vars(m).values() if type(v) is int]
        for channels in dict.fromkeys(v for v in attributes if 0 < v <= MOST_CHANNELS):
            if self.ran_at is None:
                yield 2, channels, 3, 4
                yield 1, channels, 8, 8
        for n, c, h, w in shapes:
            if self.ran_at is None:
                yield min(n, 2), c, h, w

    def _at_seen_sizes(self, seen: Seen) -> tuple[str, ...]:
        """Reason for a module that is SimAM only at the sizes of its calls."""
        maps = dict.fromkeys(s[1:] for s in seen.shapes if len(s) == 4 and s[2] * s[3] > 1)
        for c, h, w in maps if self._is_gate() else ():
            try:
                verdict = check_simam(self, [(1, min(c, 4), h, w)])
            except Exception:  # of no interest: that it fails at another size is the reason
                continue
            if verdict.e_lambda is not None:
                where = f"with λ = {_stored(verdict.e_lambda):g} on maps of {h}x{w}"
                return (f"it is SimAM {where} and not on others: its M - 1 is a constant",)
        return ()

    def _at_other_ranks(self) -> tuple[str, ...]:
        for name, layout in OTHER_RANKS.items():
            self.layout = layout
            try:
                verdict = check_simam(self, [SIZES[0]])
            except Exception:  # of no interest: that it does not run on (N, C, H, W) is the reason
                continue
            finally:
                self.layout = lambda *shape: shape
            if verdict.e_lambda is not None:
                where = f"with λ = {_stored(verdict.e_lambda):g} for x of shape {name}"
                return (f"it is SimAM {where}; our SimAM takes (N, C, H, W)",)
        return ()

    def __call__(self, x: Float64) -> Float64:
        """Run the module: what `check_simam` runs."""
        shape: Shape4D = x.shape
        tensor = torch.from_numpy(x.reshape(self.layout(*shape)).copy())
        widened = Widened()
        with torch.no_grad():
            y = self._forward(tensor, widened)
        if not np.array_equal(tensor.numpy(), x.reshape(tensor.shape), equal_nan=True):
            raise _Unfit("it writes into its input, which others may read")
        if widened.narrowed:
            raise _Unfit("it rounds to 16 bits inside")
        return np.array(y.numpy()).reshape(shape) if y.shape == tensor.shape else y.numpy()

    def _forward(self, x: Tensor, widened: TorchFunctionMode) -> Tensor:
        with widened:
            y = self.module.forward(x)
        if not isinstance(y, Tensor):
            raise _Unfit(f"it returns {type(y).__name__}, not one tensor")
        if y.dtype != x.dtype:
            raise _Unfit(f"it returns {y.dtype} for x of {x.dtype}")
        return y

    def _refuse_random(self) -> None:
        if self.ran_at is not None:
            x = np.random.default_rng(2).standard_normal(self.ran_at)
            before = torch.get_rng_state()
            if not np.array_equal(self(x), self(x), equal_nan=True):
                raise _Unfit("it gives different results for the same x (random, or with a memory)")
            if not torch.equal(torch.get_rng_state(), before):  # a dropout that dropped nothing by chance
                raise _Unfit("it draws random numbers")

    def _other_dtypes(self) -> Iterator[str]:
        """Reasons for narrower types of x that the module accepts but does not return."""
        assert self.ran_at is not None
        for dtype in (torch.float32, *HALF):
            try:
                with torch.no_grad():
                    got = self.module.forward(torch.ones(self.ran_at, dtype=dtype)).dtype
            except Exception:  # there is nothing to keep
                continue
            if got != dtype:
                yield f"it returns {got} for x of {dtype}; let its forward end with .to(x.dtype)"

    def _state(self) -> Iterator[str]:
        held = dict.fromkeys(
            name for kind in ("named_parameters", "named_buffers") for name, _ in getattr(self.module, kind)()
        )
        if names := list(dict.fromkeys((*held, *self.module.state_dict()))):
            yield f"{', '.join(names)} of it may change, in training or with a checkpoint; ours has constants only"

    def _gradient(self, e_lambda: float) -> Iterator[str]:
        """Reason for a gradient other than that of SimAM, as with a detached gate."""
        assert self.ran_at is not None
        rng = np.random.default_rng(3)
        x, weight = (torch.from_numpy(rng.standard_normal(self.ran_at)) for _ in "xw")
        x.requires_grad_()
        ours = SimAM(e_lambda=e_lambda)
        with torch.enable_grad():
            expected = torch.autograd.grad((ours(x) * weight).sum(), x)[0]
            try:
                got = torch.autograd.grad((self._forward(x, Widened()) * weight).sum(), x)[0]
            except Exception as error:
                yield f"no gradient flows through it: {_first_line(error)}"
                return
        if not torch.allclose(got, expected, rtol=1e-5, atol=1e-5):
            yield "its gradient is not that of SimAM (something is detached)"

    def _is_gate(self) -> bool:
        if self.ran_at is None:
            return False
        rng = np.random.default_rng(4)
        x = rng.standard_normal(self.ran_at)
        other = rng.standard_normal(self.ran_at)
        other[..., 0, 0] = x[..., 0, 0]
        try:
            y, z = self(x), self(other)
        except Exception:
            return False
        if y.shape != x.shape:
            return False
        ratio = y / x
        return bool((ratio > 0).all() and (ratio < 1).all() and (y[..., 0, 0] != z[..., 0, 0]).any())


def _stored(e_lambda: float) -> float:
    """Round λ to float32, as stored in files: 9.99999999e-5 becomes 1e-4."""
    return float(str(np.float32(e_lambda)))


def _first_line(error: Exception) -> str:
    text: Sequence[str] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
