"""Which layer costs how much in a lower precision, and which go back to float32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy.compare.limits import NOTHING_TO_DROP
from simam_deploy.compare.outputs import agreement
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.precision.attempts import Try
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
    """snr_db : of the outputs, with this layer alone converted; the least over all outputs."""

    node: str
    op: str
    snr_db: float


def sensitivity(
    float32: ir.Model, convert: Try, samples: Samples, *, few: int = FEW, on_progress: Say | None = None
) -> list[Sensitivity]:
    """The layers that are converted, worst first. Runs each on `few` samples: 16 bits in the oracle, int8 in ort."""
    say = on_progress or (lambda _: None)
    whole = convert({}, None)
    part = samples.fewer(few)
    with opened(float32) as session:
        exact = [session.run(feed) for feed in part]
    found = []
    for number, row in enumerate(whole.layers, start=1):
        say(f"layer {number} of {len(whole.layers)} alone converted: {row.node}")
        with opened(convert({}, row.node).model) as session:
            found.append(Sensitivity(row.node, row.op, snr(exact, map(session.run, part))))
    return sorted(found, key=lambda layer: layer.snr_db)


def fall_back(
    float32: ir.Model,
    convert: Try,
    samples: Samples,
    *,
    min_snr: float | None = None,
    max_drop: float | None = None,
    metric: Metric | None = None,
    few: int = FEW,
    on_progress: Say | None = None,
) -> dict[str, str]:
    """The layers that go back to float32, as few as the bounds need, with reasons; those of lowest SNR go first.

    min_snr  : least SNR of the outputs against the float32 model, in dB.
    max_drop : largest loss of `metric` against the float32 model.
    metric   : by default the share of labels or boxes that are as in float32, see `compare.outputs.agreement`.
    few      : samples for SNR and the default metric.
    Takes some log2(layers) trials, and gives all layers where that is not enough. Raises InputError without a bound,
    and if `max_drop` needs a metric.
    """
    if min_snr is None and max_drop is None:
        raise InputError("layers fall back to float32 until a bound holds; give min_snr or max_drop")
    say = on_progress or (lambda _: None)
    part = samples.fewer(few)
    with opened(float32) as session:
        exact = [session.run(feed) for feed in part]
        judge = metric or (as_in(exact, part) if max_drop is not None else _nothing)
        best = judge(session)

    def shortfall(count: int) -> str:
        with opened(convert(dict.fromkeys((layer.node for layer in order[:count]), "tried"), None).model) as session:
            got = snr(exact, map(session.run, part)) if min_snr is not None else np.inf
            if min_snr is not None and got < min_snr:
                return f"{got:.1f} dB, below {min_snr:g}"
            drop = best - judge(session)
            return f"a drop of {drop:.4g}, above {max_drop:g}" if max_drop is not None and drop > max_drop else ""

    say("all layers converted")
    order: list[Sensitivity] = []
    why = shortfall(0)
    if not why:
        return {}
    order = sensitivity(float32, convert, samples, few=few, on_progress=on_progress)
    low, high = 0, len(order)  # too few in float32, and enough
    while high - low > 1:
        count = (low + high) // 2
        say(f"{count} of {len(order)} layers in float32")
        if shortfall(count):
            low = count
        else:
            high = count
    return {layer.node: f"alone converted it gives {layer.snr_db:.1f} dB; all give {why}" for layer in order[:high]}


def _nothing(session: Session) -> float:
    del session
    return 0.0


@contextmanager
def opened(model: ir.Model) -> Iterator[Session]:
    """A session for a model in memory: of the oracle for 16 bits, else of ONNX Runtime."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="simam-deploy-"))
        path = Path(folder, "model.onnx")
        onnx_file.save(model, path)
        yield stack.enter_context(open_session(path, "onnx_half" if onnx_file.half_types(model) else "ort"))


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
                with np.errstate(invalid="ignore"):  # infinite in both
                    noise[name] = noise.get(name, 0) + float(np.sum((wide - other) ** 2))
    return min((decibels(signal[name], noise[name]) for name in signal), default=np.inf)


def decibels(signal: float, noise: float) -> float:
    """Signal-to-noise ratio from sums of squares. -inf for NaN, inf without noise."""
    if not np.isfinite(noise):
        return -np.inf
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(signal / noise)) if noise else np.inf


def as_in(exact: Sequence[RunOutputs], samples: Samples) -> Metric:
    """The share of labels or boxes that are as in `exact`: see `compare.outputs.agreement`; the least of all outputs.

    Raises InputError if no output holds any.
    """
    names = [name for name in exact[0] if agreement([(run[name], run[name]) for run in exact]) is not None]
    if not names:
        shapes = ", ".join(str(array.shape) for array in exact[0].values())
        raise InputError(NOTHING_TO_DROP.format(f"the outputs {shapes}"))

    def metric(session: Session) -> float:
        runs = [session.run(feed) for feed in samples]
        shares = [agreement([(got[n], true[n]) for got, true in zip(runs, exact, strict=True)]) for n in names]
        return min(share if share is not None else 0.0 for share in shares)

    return metric
