"""One call for each job, on what people have: paths of ONNX files, PyTorch modules, arrays.

`simam_deploy` offers these functions by name; the command line makes one such call and prints what it returns.
`adopt`, `export`, `build_engine` and `open_session` are such calls already, and live in their own rooms.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simam_deploy.block import Found
from simam_deploy.compare import bench as clock
from simam_deploy.compare import sizes as compared_at
from simam_deploy.compare import verify as parity
from simam_deploy.compare.bench import Timing
from simam_deploy.compare.inputs import DEFAULT, Case, cases, of_arrays, specs
from simam_deploy.compare.matching import Names
from simam_deploy.compare.matrix import Candidates, gather
from simam_deploy.compare.truth import run_once
from simam_deploy.compare.verify import Report
from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.match import find as search
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.rewrite.fused import Fused
from simam_deploy.runtimes import OPTIONS, installed, open_session
from simam_deploy.text import Say

OnePath = str | os.PathLike[str]
Inputs = Sequence[str] | Mapping[str, Any]


def find_blocks(file: OnePath, *, on_progress: Say | None = None) -> Found:
    """The SimAM blocks of an ONNX file with their λ, shapes and forms, and the near misses with their reasons.

    Nothing of the file is run. on_progress is called with the name of a node before the block there is judged.
    Raises ModelFileError for what cannot be read.
    """
    model = onnx_file.load(file)
    with onnx_file.blaming(file):
        return search.find(model, on_progress)


def fuse(
    file: OnePath,
    output: OnePath,
    *,
    form: str = "function",
    repair: bool = False,
    epilogue: bool = False,
    on_progress: Say | None = None,
) -> Fused:
    """Write each SimAM block of the ONNX file `file` in `form`, to `output`, with a manifest at `<output>.json`.

    Everything else keeps its nodes, names, weights, opset and metadata. form, repair, epilogue : as in
    `rewrite.fuse.fuse`, which takes a model in memory.
    Raises ModelFileError, NoBlockError, FormError, InputError and OutputError; nothing is written then.
    """
    return fuse_file(file, output, form, on_progress, repair=repair, epilogue=epilogue)


def specialise(
    file: OnePath,
    output: OnePath,
    *,
    epilogue: bool = True,
    check: bool = True,
    shape: Sequence[StaticShape] | None = None,
    on_progress: Say | None = None,
) -> Fused:
    """Lay the ONNX file `file` out for ONNX Runtime on the CPU of this machine; it runs on such CPUs alone.

    check, shape : compare with the portable file, at these sizes, one per input.
    Raises as `ort_cpu.specialise.specialise`; nothing is written then.
    """
    from simam_deploy.ort_cpu.specialise import specialise_file

    return specialise_file(file, output, on_progress, epilogue=epilogue, check=check, sizes=shape)


def verify(
    *files: OnePath | Sequence[OnePath],
    against: Any = None,
    weights: OnePath | None = None,
    runtimes: Sequence[str] | None = None,
    forms: Sequence[str] = (),
    inputs: Inputs = DEFAULT,
    shape: Sequence[StaticShape] | None = None,
    gates: bool = False,
    threads: int = 0,
    provider: str | None = None,
    kernel: str | None = None,
    limits: bool = True,
    on_progress: Say | None = None,
) -> Report:
    """Run the same inputs through ONNX files, forms and runtimes, and compare each output with the float64 truth.

    files : paths, or lists of them, of float32 models, all with the same inputs and outputs.
    against : the model whose results are the truth: a torch.nn.Module, or text as `package.module:callable`; by
    default the first file, in float64.  weights : a checkpoint for a model named by text.
    runtimes : "onnx_reference", "ort", "openvino"; by default those that are installed.
    forms : names of rewrite.forms.FORMS to convert each file to first, or "all"; by default the files as they are.
    inputs : names and paths as in `inputs.cases`, or one array for each input, by its name.
    shape : a size for each input. Without it, dynamic axes are compared at two sizes, and `notes` tells them.
    gates : also judge the gate of each SimAM block against the formula.
    threads, provider, kernel : as in `open_session`.
    limits : refuse a file of more nodes than networks have, and try one that may take much in a process with limits.
    Returns a Report: `passed`, `rows`, `gates`, `notes`; print it for its tables.
    Raises InputError when files, inputs or the model do not fit each other; RuntimeUnavailable; FormError.
    """
    say = on_progress or (lambda _: None)
    paths = _paths(files)
    if weights is not None and not isinstance(against, str):
        raise InputError("--weights are for a PyTorch model; name it with --against package.module:callable")
    names = _runtimes(runtimes, provider)
    for file in paths:
        proto, model = onnx_file.both(file)
        if half := onnx_file.half_types(model):
            raise InputError(
                f"verify compares float32 files; {file} holds {', '.join(half)}\n"
                "compare the float32 file that it was converted from; inspect, fuse and bench take this one"
            )
        if limits:
            refuse_many_parts(file, proto)
    with tempfile.TemporaryDirectory() as folder:
        chosen = gather(
            paths,
            list(forms),
            names,
            Path(folder),
            threads=threads,
            provider=provider,
            kernel=kernel,
            taps=gates,
            on_progress=lambda node: say(f"check the block at {node}"),
        )
        _refuse_nothing(chosen)
        if gates and not any(chosen.taps.values()):
            reasons = "\n  ".join(chosen.skipped)
            raise InputError(
                f"--gates finds no gate to judge:\n  {reasons}\nleave --gates out to compare outputs alone"
            )
        taken = list(specs(paths[0]))
        notes: list[str] = []
        if shape is None:
            taken, notes = compared_at.agreed({str(file): specs(file) for file in paths})
        given = _cases(inputs, taken, shape)
        made = shape is None and not isinstance(inputs, Mapping)
        made = made and any(Path(name).suffix != ".npz" for name in inputs)
        others = compared_at.others(taken) if made else []
        if any(not isinstance(size, int) for spec in taken for size in spec.shape or [None]):
            told = dict.fromkeys(compared_at.told(taken, case) for case in given)
            notes.append(f"sizes: {'; '.join(told)}{'' if made or shape else '; no other size was tried'}")
        for file in paths if limits else []:
            tried = [*names, "onnx_reference"] if file == paths[0] and against is None else names
            say(f"look at the work of {file}")
            for case in [*given[:1], *others]:
                refuse_without_end(file, case.feeds[0], tried)
        module = _module(against, weights, notes)
        report = parity.verify(
            chosen.open,
            given,
            truth=partial(_baseline, paths[0], module, "float64"),
            twin=partial(_baseline, paths[0], module, None),
            inputs=[spec.name for spec in taken],
            taps=chosen.taps,
            others=others,
            on_progress=say,
        )
    report.notes += [*notes, *(f"left out: {reason}" for reason in chosen.skipped)]
    return report


def bench(
    *files: OnePath | Sequence[OnePath],
    runtimes: Sequence[str] | None = None,
    forms: Sequence[str] = (),
    inputs: Inputs = ("plain",),
    shape: Sequence[StaticShape] | None = None,
    threads: int = 0,
    provider: str | None = None,
    kernel: str | None = None,
    limits: bool = True,
    seconds: float = 10.0,
    on_progress: Say | None = None,
) -> Timing:
    """Time ONNX files, forms and runtimes against each other, call by call in turn, and against a plain copy.

    files, forms, shape, threads, provider, kernel, limits : as in `verify`.
    inputs : one kind, as in `verify`; the first of them are timed.
    runtimes : by default those that are installed, without onnx_reference.  seconds : for all sessions together.
    Returns a Timing: `rows`, `left_out`; print it for its table.
    Raises InputError when files or inputs do not fit each other; RuntimeUnavailable; FormError.
    """
    say = on_progress or (lambda _: None)
    paths = _paths(files)
    names = [name for name in _runtimes(runtimes, provider) if runtimes is not None or name != "onnx_reference"]
    for file in paths if limits else []:
        refuse_many_parts(file, onnx_file.read(file))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = gather(paths, list(forms), names, Path(folder), threads=threads, provider=provider, kernel=kernel)
        _refuse_nothing(chosen)
        given = _cases(inputs, specs(paths[0]), shape)
        if len(given) != 1:
            asked = ", ".join(case.name for case in given)
            raise InputError(f"bench times one kind of inputs; asked for {asked}\ngive one, as --inputs plain")
        feed = given[0].feeds[0]
        for file in paths if limits else []:
            say(f"look at the work of {file}")
            refuse_without_end(file, feed, names)
        sessions = []
        for label, open_candidate in chosen.open.items():
            say(f"open {label}")
            session = stack.enter_context(open_candidate())
            session.label = label
            sessions.append(session)
        match = Names("inputs", sessions[0].label, (spec.name for spec in sessions[0].inputs))
        for session in sessions:
            order, _ = match.match(session.label, [spec.name for spec in session.inputs])
            run_once(session, feed, order)
        rows = clock.bench(sessions, feed, seconds=seconds, on_progress=lambda done: say(f"measure: {done:.0%}"))
    return Timing(tuple(rows), tuple(chosen.skipped), threads)


def _paths(files: Sequence[OnePath | Sequence[OnePath]]) -> list[Path]:
    """One path after another, or lists of them."""
    paths = [Path(file) for given in files for file in ([given] if isinstance(given, str | os.PathLike) else given)]
    if not paths:
        raise InputError("no file is given; give one ONNX file or more")
    return paths


def _runtimes(asked: Sequence[str] | None, provider: str | None) -> list[str]:
    """The runtimes that are named, or all that are installed. Raises InputError if a provider has none to go to."""
    names = [name for name in installed() if name != "eager"] if asked is None else list(asked)
    if not names:
        raise InputError("--runtimes names none; leave it out for all that are installed")
    if provider is not None and not set(names) & set(OPTIONS["provider"]):
        raise InputError(f"--provider {provider} is for ort, which is not among {', '.join(names)}")
    return names


def _cases(inputs: Inputs, taken: Sequence[Any], shape: Sequence[StaticShape] | None) -> list[Case]:
    if not isinstance(inputs, Mapping):
        return list(cases(list(inputs), taken, sizes=shape))
    return [of_arrays({name: np.asarray(array) for name, array in inputs.items()}, taken)]


def _module(against: Any, weights: OnePath | None, notes: list[str]) -> Any:
    if not isinstance(against, str):
        return against
    from simam_deploy.pytorch import load_model

    return load_model.load(against, None if weights is None else Path(weights), notes)[0]


def _baseline(file: Path, module: Any, dtype: str | None) -> Any:
    if module is None:
        return open_session(file, "onnx_reference", dtype=dtype)
    return open_session(module, "eager", dtype=dtype)


def _refuse_nothing(chosen: Candidates) -> None:
    if not chosen.open:
        raise InputError("\n  ".join(("nothing is left to run:", *chosen.skipped)))
