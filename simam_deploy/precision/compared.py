"""A converted model against its float32 file, on some of the samples: how near, and how fast."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simam_deploy.compare.limits import least_snr
from simam_deploy.compare.outputs import agreement
from simam_deploy.errors import VerificationError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.precision.converted import Converted
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.sensitivity import FEW as JUDGED
from simam_deploy.precision.sensitivity import snr
from simam_deploy.precision.speed import Speed, speed
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import in_types_of
from simam_deploy.text import Say, counted

FEW = 8
"""Samples on which the result is compared with the float32 file."""
FEWEST = 16
"""Samples below which a note says that the ranges are not sure."""
LEAST_LOW = 20.0
"""SNR in dB below which a note warns of a 16-bit file: a tenth of the outputs is noise."""
SECONDS = 2.0
"""For the measurement of the speed of int8."""


def compared(source: Path, made: Converted, samples: Samples, say: Say) -> Converted:
    """With its SNR against the float32 file, by the oracle for 16-bit types, and, of int8 on a CPU, its speed.

    On FEW samples, or with bounds on those that they were judged on.
    """
    bound = made.wanted.min_snr is not None or made.wanted.max_drop is not None
    part = samples.fewer(JUDGED if bound else FEW)
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        path = Path(folder, "converted.onnx")
        onnx_file.save(made.model, path)
        with open_session(source, "ort") as session:
            exact = [session.run(feed) for feed in part]
        with open_session(path, "onnx_half" if onnx_file.half_types(made.model) else "ort") as session:
            given = [session.run(in_types_of(session, feed)) for feed in part]
        found, same = snr(exact, iter(given)), _agreement(exact, given)
        if not found > -math.inf and _finite(exact):
            raise VerificationError(
                f"the {made.wanted.to} file was not written: its outputs hold NaN or infinity on the samples, and "
                "those of the float32 file do not\nsimam-deploy analyze shows what overflows; --keep-float NAME "
                "keeps a node in float32",
                None,
            )
        timed: Speed | None = None
        if made.wanted.to == "int8" and made.wanted.target == "cpu" and made.converted:
            timed = speed(source, path, next(iter(samples)), seconds=SECONDS, on_progress=say)
    notes = [*samples.notes, *made.notes]
    if broken := sorted({name for run in exact for name, a in run.items() if a.dtype.kind == "f" and _broken(a)}):
        notes.append(
            f"the float32 file itself gives NaN or infinity on the samples, in output {', '.join(broken)}: nothing "
            "can be near that; are the samples as in use?"
        )
    elif found < LEAST_LOW and not made.wanted.to.startswith("int8"):
        notes.append(
            f"it keeps {found:.1f} dB of the outputs alone: see simam-deploy analyze and verify, or let layers go "
            "back to float32 with --min-snr or --max-drop"
        )
    if made.wanted.to.startswith("int8"):
        least = least_snr(made.converted)
        if samples.count < FEWEST:
            notes.append(
                f"the ranges come from {counted(samples.count, 'sample')}; 100 to 500 as in use make them sure"
            )
        if found < least:
            notes.append(
                f"verify accepts {least:.1f} dB for {counted(made.converted, 'layer')}, and this file keeps "
                f"{found:.1f}; --min-snr lets layers go back to float32"
            )
    notes += [] if timed is None else [f"on this machine {timed}"]
    return replace(made, snr_db=found, agreement=same, speed=timed, notes=tuple(notes))


def _agreement(exact: Sequence[Mapping[str, Array]], given: Sequence[Mapping[str, Array]]) -> float | None:
    """The least of all outputs."""
    shares = [agreement([(g[name], e[name]) for g, e in zip(given, exact, strict=True)]) for name in exact[0]]
    return min((share for share in shares if share is not None), default=None)


def _broken(array: Array) -> bool:
    return not bool(np.isfinite(array).all())


def _finite(runs: Sequence[Mapping[str, Array]]) -> bool:
    return all(np.isfinite(a).all() for run in runs for a in run.values() if a.dtype.kind == "f")
