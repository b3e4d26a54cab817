"""Compare ONNX files with the float64 truth."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir

from simam_deploy.api.engine import verify_engine
from simam_deploy.api.given import Inputs, OnePath, cases_of, paths_of, refuse_nothing, runtimes_of
from simam_deploy.api.true_sessions import TrueSessions
from simam_deploy.compare import sizes as compared_at
from simam_deploy.compare import verify as parity
from simam_deploy.compare.inputs import DEFAULT, Case, specs
from simam_deploy.compare.limits import OwnLimits, Precision
from simam_deploy.compare.matrix import Candidates, gather
from simam_deploy.compare.pictures import Statistics
from simam_deploy.compare.runnable import NOT_SHOWN, precision_of, runtimes_for
from simam_deploy.compare.verify import Report
from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
from simam_deploy.engines.inspection import is_engine
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.round_low import to_float32
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.match.find import find
from simam_deploy.precision.layer_errors import LayersOf, layers_or_why
from simam_deploy.precision.low_types import LOW_TYPES
from simam_deploy.report.pages import parity_page
from simam_deploy.report.writing import page_at
from simam_deploy.rewrite.restore_lambda import near_rounding, rounded_lambda
from simam_deploy.runtimes import ROUNDING
from simam_deploy.text import Say, on_one_line


def verify(
    *files: OnePath | Sequence[OnePath],
    against: Any = None,
    weights: OnePath | None = None,
    runtimes: Sequence[str] | None = None,
    forms: Sequence[str] = (),
    inputs: Inputs = DEFAULT,
    shape: Sequence[StaticShape] | None = None,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    gates: bool = False,
    threads: int = 0,
    provider: str | None = None,
    kernel: str | None = None,
    limits: bool = True,
    min_snr: float | None = None,
    atol: float | None = None,
    max_drop: float | None = None,
    cuda_graph: bool = False,
    report: OnePath | None = None,
    on_progress: Say | None = None,
) -> Report:
    """Run the same inputs through ONNX files, forms and runtimes, and compare each output with the float64 truth.

    files : paths, or lists of them, all with the same inputs and outputs, of any precision. Name the float32 file
    first: its float64 results are the truth. The tolerance is that of each file's precision: see compare/limits.py.
    against : the model whose results are the truth: a torch.nn.Module, or text as `package.module:callable`; by
    default the first file, in float64.  weights : a checkpoint for a model named by text.
    runtimes : "onnx_reference", "ort", "openvino", "onnx_half", "trt_network"; by default those of the first three
    that are installed, for 16-bit files onnx_half and ort, for quantised files ort.
    forms : names of rewrite.forms.FORMS to convert each file to first, or "all"; by default the files as they are.
    inputs : names and paths as in `inputs.cases`, or one array for each input, by its name.
    shape : a size for each input. Without it, dynamic axes are compared at two sizes, and `notes` tells them.
    mean, std : of pictures from 0 to 1, a number or one per channel; by default those of ImageNet. 0 and 1 for YOLOs.
    gates : also judge the gate of each SimAM block against the formula, on the x that it got; 16-bit files always do.
    threads, provider, kernel : as in `open_session`.
    limits : refuse a file of more nodes than networks have, and try one that may take much in a process with limits.
    An engine is given alone, with its ONNX file as `against`, and run on the GPU: see `verify_engine`.
    cuda_graph : for an engine, as in `open_session`.
    min_snr, atol, max_drop : your own limits for every row, in dB, absolute, and in percent of the labels.
    report : where to write a page with the tables, and for each file the error of each layer, and histogram and gate
    maps of each block, against the first file in float32.
    Returns a Report: `passed`, `rows`, `gates`, `notes`; print it for its tables.
    Raises InputError when files, inputs or the model do not fit each other, or if the first file is quantised;
    RuntimeUnavailable; FormError; with a report, OutputError.
    """
    say = on_progress or (lambda _: None)
    own = OwnLimits(min_snr, atol, max_drop)
    paths = paths_of(files)
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if any(map(is_engine, paths)) or cuda_graph:
        models_only = {"weights": weights, "runtimes": runtimes, "forms": forms, "gates": gates, "threads": threads}
        models_only |= {"provider": provider, "kernel": kernel, "report": report}
        return verify_engine(
            _engine_alone(paths, against, models_only),
            against,
            inputs=inputs,
            shape=shape,
            mean=mean,
            std=std,
            limits=limits,
            own=own,
            cuda_graph=cuda_graph,
            on_progress=on_progress,
        )
    if weights is not None and not isinstance(against, str):
        raise InputError("--weights are for a PyTorch model; name it with --against package.module:callable")
    names = runtimes_of(runtimes, provider)
    models: dict[Path, ir.Model] = {}
    for file in paths:
        proto, models[file] = onnx_file.both(file)
        if limits:
            refuse_many_parts(file, proto)
    kinds = {file: precision_of(model) for file, model in models.items()}
    if against is None:
        _refuse_as_truth(paths, kinds)
    run_on = {file: names if runtimes else runtimes_for(kind, names, provider) for file, kind in kinds.items()}
    with page_at(report, _read_files(models, inputs)) as page, tempfile.TemporaryDirectory() as folder:
        chosen = gather(
            paths,
            list(forms),
            run_on,
            Path(folder),
            threads=threads,
            provider=provider,
            kernel=kernel,
            taps=paths if gates else [file for file, kind in kinds.items() if kind.half],
            on_progress=lambda node: say(f"check the block at {node}"),
        )
        refuse_nothing(chosen)
        if gates and not any(chosen.taps.values()):
            reasons = "\n  ".join(chosen.skipped)
            raise InputError(
                f"--gates finds no gate to judge:\n  {reasons}\nleave --gates out to compare outputs alone"
            )
        taken = list(specs(paths[0]))
        notes: list[str] = []
        if shape is None:
            taken, notes = compared_at.agreed({str(file): specs(file) for file in paths})
        given = cases_of(inputs, taken, shape, mean, std)
        made = shape is None and not isinstance(inputs, Mapping)
        made = made and any(Path(name).suffix != ".npz" for name in inputs)
        others = compared_at.others(taken) if made else []
        if any(not isinstance(size, int) for spec in taken for size in spec.shape or [None]):
            told = dict.fromkeys(compared_at.told(taken, case) for case in given)
            notes.append(f"sizes: {'; '.join(told)}{'' if made or shape else '; no other size was tried'}")
        for file in paths if limits else []:
            tried = [*run_on[file], "onnx_reference"] if file == paths[0] and against is None else run_on[file]
            say(f"look at the work of {file}")
            for case in [*given[:1], *others]:
                refuse_without_end(file, case.feeds[0], tried)
        truth = TrueSessions(paths[0], models[paths[0]], _module(against, weights, notes), given, Path(folder))
        found = parity.verify(
            chosen.open,
            given,
            truth=partial(truth.open, "float64"),
            twin=partial(truth.open, None),
            inputs=[spec.name for spec in taken],
            taps=chosen.taps,
            others=others,
            precisions={label: kinds[file] for label, file in chosen.files.items()},
            references={low: partial(truth.low, low) for low in LOW_TYPES},
            limits=own,
            on_progress=say,
        )
        notes += [note for file in paths if (note := _branches(file, models[file]))]
        low = [label for label, file in chosen.files.items() if kinds[file].half and file != paths[0]]
        notes += _about_lambdas(found, None if against else models[paths[0]], chosen, low)
        for label, file in chosen.files.items():
            if kinds[file].low and not label.endswith((*ROUNDING, "onnx_reference")) and provider is None:
                notes.append(f"{label}: {NOT_SHOWN.format(kinds[file].low)}")
        found.notes += [*dict.fromkeys(notes), *(f"left out: {reason}" for reason in chosen.skipped)]

        def drawn(say: Say) -> str:
            layers = _beside(paths, models, kinds, given[0], say)
            return parity_page(found, [file.name for file in paths], layers, say)

        page(drawn, say)
    return found


def _engine_alone(paths: Sequence[Path], against: Any, options: Mapping[str, Any]) -> Path:
    """The engine. options : those for ONNX files. Raises InputError for one of them, other files, or no engine."""
    engine = next(filter(is_engine, paths), None)
    if engine is None:
        raise InputError("cuda_graph is for engines, and none is given")
    if len(paths) > 1 or not isinstance(against, str | os.PathLike):
        raise InputError(
            f"{engine} is an engine, and is compared alone with the ONNX file that it was built from: "
            f"simam-deploy verify {engine} --against model.onnx"
        )
    if given := [f"--{name}" for name, value in options.items() if value]:
        raise InputError(f"{', '.join(given)} is for ONNX files, and {engine} is an engine; leave it out")
    return engine


def _read_files(models: Mapping[Path, ir.Model], inputs: Inputs) -> list[Path]:
    """All files that a comparison reads."""
    held = [each for file, model in models.items() for each in onnx_file.weight_files(model, file)]
    named = [] if isinstance(inputs, Mapping) else [Path(name) for name in inputs]
    return [*models, *held, *(name for name in named if name.is_file())]


def _refuse_as_truth(paths: Sequence[Path], kinds: Mapping[Path, Precision]) -> None:
    """Raise InputError if the first file, the truth of the others, is less precise than one of them."""
    first, name = kinds[paths[0]], paths[0].name
    if first.quantised:
        raise InputError(
            f"{paths[0]} is quantised, and its roundings are a part of it: nothing says what it should compute\n"
            f"compare it with the float file that it was made of: verify FLOAT.onnx {name}"
        )
    wider = next((file for file in paths if not (kinds[file].low or kinds[file].quantised)), None)
    if first.low and wider is not None:
        raise InputError(
            f"{paths[0]} is {first.name}, and {wider} is float32: the first file is the truth of the others\n"
            f"name the float32 file first: verify {wider.name} {name}"
        )


def _beside(
    paths: Sequence[Path], models: Mapping[Path, ir.Model], kinds: Mapping[Path, Precision], case: Case, say: Say
) -> list[LayersOf]:
    """Each file beside the first one in float32; the first itself if it is low, or alone."""
    first = paths[0]
    if kinds[first].quantised:
        why = "its layers are not shown, as no float file is given"
        return [LayersOf(first.name, notes=(why,))]
    source = to_float32(models[first]) if kinds[first].low else models[first]
    made = [file for file in dict.fromkeys(paths) if file != first or kinds[first].low or len(models) == 1]
    return [layers_or_why(file.name, source, models[file], case.feeds, say) for file in made]


def _branches(file: Path, model: ir.Model) -> str:
    """A note on what no input may have reached, or ""."""
    branch = next((node for node in model.graph.all_nodes() if node.op_type == "If"), None)
    if branch is None:
        return ""
    where = on_one_line(branch.name or str(branch.outputs[0].name))
    return f"{file.name} branches (If at {where}); a branch that no input takes was not compared"


def _about_lambdas(found: Report, first: ir.Model | None, chosen: Candidates, low: Collection[str]) -> list[str]:
    """Notes on λ. Fails the gates whose λ is another than that of the first file, beyond a rounding to 16 bits.

    low : labels of the other 16-bit files.
    """
    notes = [rounded_lambda(tap.block, tap.e_lambda) for taps in chosen.taps.values() for tap in taps]
    ours = [block.e_lambda for block in find(first).blocks] if first is not None and low else []
    for label, taps in ((label, chosen.taps[label]) for label in low):
        if len(taps) != len(ours):
            continue
        for tap, e_lambda in zip(taps, ours, strict=True):
            if not near_rounding(e_lambda, tap.e_lambda):
                notes.append(f"{label}: {tap.block}: λ is {tap.e_lambda:g}, and {e_lambda:g} in the first file")
                found.gates = [
                    replace(row, passed=False) if (row.session, row.block) == (label, tap.block) else row
                    for row in found.gates
                ]
    return list(filter(None, notes))


def _module(against: Any, weights: OnePath | None, notes: list[str]) -> Any:
    if not isinstance(against, str):
        return against
    from simam_deploy.pytorch import load_model

    return load_model.load(against, None if weights is None else Path(weights), notes)[0]
