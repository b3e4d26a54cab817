"""Compare an engine with the float64 truth of its ONNX file, on a GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from simam_deploy.api.given import Inputs, OnePath, cases_of
from simam_deploy.api.true_sessions import TrueSessions
from simam_deploy.compare import sizes as compared_at
from simam_deploy.compare import verify as parity
from simam_deploy.compare.inputs import DEFAULT, cases, specs
from simam_deploy.compare.limits import NO_LIMITS, OwnLimits
from simam_deploy.compare.matching import Names
from simam_deploy.compare.pictures import Statistics
from simam_deploy.compare.runnable import precision_of
from simam_deploy.compare.verify import Report
from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
from simam_deploy.engines.inspection import inspect
from simam_deploy.errors import InputError, ModelFileError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.precision.low_types import LOW_TYPES
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import Session, TensorSpec
from simam_deploy.runtimes.trt import TrtSession
from simam_deploy.text import Say

TF32 = "TensorRT may multiply float32 as TF32, of 10 bits behind the point; an engine built with --no-tf32 does not"


def verify_engine(
    engine: OnePath,
    against: OnePath,
    *,
    inputs: Inputs = DEFAULT,
    shape: Sequence[StaticShape] | None = None,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    limits: bool = True,
    own: OwnLimits = NO_LIMITS,
    cuda_graph: bool = False,
    on_progress: Say | None = None,
) -> Report:
    """Run an engine on the GPU of this machine, and compare each output with that of its ONNX file in float64.

    against : the ONNX file, whose precision sets the tolerance.
    shape : a size for each input. By default those that the first profile is best at, and its smallest ones.
    own : limits of the user's own.  cuda_graph : as in `open_session`.  The others : as in `verify`.
    Raises InputError if engine and file do not belong together, or if the file is quantised; RuntimeUnavailable
    without a GPU that runs the engine, or its TensorRT.
    """
    say = on_progress or (lambda _: None)
    path, file = Path(engine), Path(against)
    seen = inspect(path, against=file, on_progress=say)
    if seen.disagreements:
        raise ModelFileError("\n  ".join((f"{path} and {file} disagree:", *seen.disagreements)))
    proto, model = onnx_file.both(file)
    if limits:
        refuse_many_parts(file, proto)
    precision = precision_of(model)
    if precision.quantised:
        raise InputError(
            f"{file} is quantised, and its roundings are a part of it: nothing says what it should compute, so the "
            f"outputs of {path} have no truth\nfor the files alone: simam-deploy inspect {path} --against {file}"
        )
    say(f"load {path}")
    open_engine = partial(open_session, path, "trt", cuda_graph=cuda_graph)
    taken = list(specs(file))
    with open_engine() as session:
        best, least = sizes_of(session, taken)
    given = cases_of(inputs, taken, best if shape is None else shape, mean, std)
    others = []
    if shape is None and least != best and not isinstance(inputs, Mapping):
        (smallest,) = cases(["plain"], taken, sizes=least)
        others.append(replace(smallest, name="smallest size"))
    for case in [*given[:1], *others] if limits else []:
        refuse_without_end(file, case.feeds[0], ["onnx_reference"])
    label = f"{path.name} · trt"
    with tempfile.TemporaryDirectory() as folder:
        truth = TrueSessions(file, model, None, given, Path(folder))
        found = parity.verify(
            {label: open_engine},
            given,
            truth=partial(truth.open, "float64"),
            twin=partial(truth.open, None),
            inputs=[spec.name for spec in taken],
            others=others,
            precisions={label: precision},
            references={low: partial(truth.low, low) for low in LOW_TYPES},
            limits=own,
            on_progress=say,
        )
    options = (seen.manifest or {}).get("options")
    if precision.name == "fp32" and not (isinstance(options, dict) and options.get("tf32") is False):
        found.notes.append(TF32)
    found.notes.append(
        "sizes: " + "; ".join(dict.fromkeys(compared_at.told(taken, case) for case in [*given, *others]))
    )
    return found


def sizes_of(session: Session, taken: Sequence[TensorSpec]) -> tuple[list[StaticShape], list[StaticShape]]:
    """For each input the best size of an engine's first profile, and the smallest. taken : of the ONNX file."""
    assert isinstance(session, TrtSession)
    names = [spec.name for spec in session.inputs]
    order, _ = Names("inputs", "the ONNX file", [spec.name for spec in taken]).match(session.label, names)
    by_name = dict(zip(names, zip(session.shapes("best"), session.shapes("least"), strict=True), strict=True))
    return [by_name[name][0] for name in order], [by_name[name][1] for name in order]
