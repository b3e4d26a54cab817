"""Which layer costs how much in int8, and which go back to float32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.precision.calibrate import Calibration
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.quantised import Quantised
from simam_deploy.precision.samples import Samples
from simam_deploy.runtimes import Session, open_session
from simam_deploy.runtimes.session import is_float
from simam_deploy.text import Say

Metric = Callable[[Session], float]
"""Quality of an open session; higher is better."""
FEW = 32
"""Samples that layers are judged on. Their order settles long before."""


@dataclass(frozen=True)
class Sensitivity:
    """snr_db : of the outputs, with this layer alone in int8; the least over all outputs."""

    node: str
    op: str
    snr_db: float


def sensitivity(
    calibration: Calibration,
    samples: Samples,
    target: str = "cpu",
    *,
    keep_float: Collection[str] = (),
    few: int = FEW,
    on_progress: Say | None = None,
) -> list[Sensitivity]:
    """The layers that become integer, worst first. Runs each on `few` samples, in ONNX Runtime.

    keep_float : names of nodes that stay float32.
    """
    say = on_progress or (lambda _: None)
    whole = quantise(calibration, target, keep_float=keep_float)
    part = samples.fewer(few)
    with opened(calibration.float32()) as session:
        exact = [session.run(feed) for feed in part]
    found = []
    for number, row in enumerate(layers := [row for row in whole.rows if not row.reason], start=1):
        say(f"layer {number} of {len(layers)} alone in int8: {row.node}")
        with opened(quantise(calibration, target, only=row.node).model) as session:
            found.append(Sensitivity(row.node, row.op, snr(exact, map(session.run, part))))
    return sorted(found, key=lambda layer: layer.snr_db)


def fall_back(
    calibration: Calibration,
    samples: Samples,
    target: str = "cpu",
    *,
    min_snr: float | None = None,
    max_drop: float | None = None,
    metric: Metric | None = None,
    keep_float: Collection[str] = (),
    few: int = FEW,
    on_progress: Say | None = None,
) -> Quantised:
    """Quantise, with as few layers in float32 as the bounds need; those of lowest SNR go back first.

    min_snr  : least SNR of the outputs against the float32 model, in dB.
    max_drop : largest loss of `metric` against the float32 model.
    metric   : by default the share of samples with the largest output at the same class, for one output (N, classes).
    keep_float : names of nodes that stay float32 in any case.
    few      : samples for SNR and the default metric.
    Takes some log2(layers) trials. Raises InputError without a bound, and if `max_drop` needs a metric.
    """
    if min_snr is None and max_drop is None:
        raise InputError("layers fall back to float32 until a bound holds; give min_snr or max_drop")
    say = on_progress or (lambda _: None)
    part = samples.fewer(few)
    with opened(calibration.float32()) as session:
        exact = [session.run(feed) for feed in part]
        judge = metric or (agreement(exact, part) if max_drop is not None else _nothing)
        best = judge(session)

    def shortfall(made: Quantised) -> str:
        with opened(made.model) as session:
            got = snr(exact, map(session.run, part)) if min_snr is not None else np.inf
            if min_snr is not None and got < min_snr:
                return f"{got:.1f} dB, below {min_snr:g}"
            drop = best - judge(session)
            return f"a drop of {drop:.4g}, above {max_drop:g}" if max_drop is not None and drop > max_drop else ""

    def trial(count: int) -> Quantised:
        return quantise(calibration, target, keep_float=[*keep_float, *(layer.node for layer in order[:count])])

    say("all layers in int8")
    order: list[Sensitivity] = []
    made = trial(0)
    why = shortfall(made)
    if not why:
        return made
    order = sensitivity(calibration, samples, target, keep_float=keep_float, few=few, on_progress=on_progress)
    low, high = 0, len(order)  # too few in float32, and enough
    while high - low > 1:
        count = (low + high) // 2
        say(f"{count} of {len(order)} layers in float32")
        if shortfall(trial(count)):
            low = count
        else:
            high = count
    made = trial(high)
    reasons = {layer.node: f"alone in int8 it gives {layer.snr_db:.1f} dB; all give {why}" for layer in order[:high]}
    return replace(made, rows=tuple(replace(r, reason=reasons.get(r.node, r.reason)) for r in made.rows))


def _nothing(session: Session) -> float:
    del session
    return 0.0


@contextmanager
def opened(model: ir.Model) -> Iterator[Session]:
    """A session of ONNX Runtime for a model in memory."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="simam-deploy-"))
        path = Path(folder, "model.onnx")
        onnx_file.save(model, path)
        yield stack.enter_context(open_session(path, "ort"))


RunOutputs = dict[str, Array]


def snr(exact: Sequence[RunOutputs], got: Iterator[RunOutputs]) -> float:
    """Signal-to-noise ratio in dB over all runs; the least of all float outputs. -inf for NaN."""
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for truth, run in zip(exact, got, strict=True):
        for name, array in truth.items():
            if is_float(array.dtype):
                wide, other = array.astype(np.float64), run[name].astype(np.float64)
                signal[name] = signal.get(name, 0) + float(np.sum(wide**2))
                noise[name] = noise.get(name, 0) + float(np.sum((wide - other) ** 2))
    return min((decibels(signal[name], noise[name]) for name in signal), default=np.inf)


def decibels(signal: float, noise: float) -> float:
    """Signal-to-noise ratio from sums of squares. -inf for NaN, inf without noise."""
    if not np.isfinite(noise):
        return -np.inf
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(signal / noise)) if noise else np.inf


def agreement(exact: Sequence[RunOutputs], samples: Samples) -> Metric:
    """The share of samples whose largest output is at the same class as in `exact`.

    Raises InputError if the model has no single float output (N, classes).
    """
    arrays = [array for run in exact[:1] for array in run.values()]
    if len(arrays) != 1 or arrays[0].ndim != 2 or not is_float(arrays[0].dtype):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise InputError(
            f"labels are compared for one output (N, classes); this model gives {shapes}: "
            "give a metric of your own, or min_snr instead of max_drop"
        )

    def metric(session: Session) -> float:
        same = []
        for truth, feed in zip(exact, samples, strict=True):
            (label,), (got,) = ([array.argmax(1) for array in run.values()] for run in (truth, session.run(feed)))
            same.append(label == got)
        return float(np.concatenate(same).mean())

    return metric
