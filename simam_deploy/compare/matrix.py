"""Which sessions to compare or to time: files x forms x runtimes, as functions that open them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir

from simam_deploy import native
from simam_deploy.block import Found
from simam_deploy.compare.gates import Tap
from simam_deploy.engines.plugin_host import PLUGIN
from simam_deploy.errors import FormError, InputError, SimAMDeployError
from simam_deploy.formula import BLOCKED_DOMAIN, OP_DOMAIN, OPS
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.match.int8_nodes import opened
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.rewrite.fused import Fused
from simam_deploy.runtimes import ENGINES, OPTIONS, ROUNDING, RUNTIMES, open_session
from simam_deploy.runtimes.session import Session
from simam_deploy.text import on_one_line

T = TypeVar("T")
NOT_FOR_FILES = ("eager", *ENGINES)
NO_KERNEL = (
    "form custom_op has no body; besides onnx_reference only ort runs it, with the kernel library, "
    "and trt_network, with the TensorRT plugin"
)


@dataclass
class Candidates:
    """What can be opened, by label; the tapped SimAM blocks of each, and its file; what was left out, and why."""

    open: dict[str, Callable[[], Session]] = field(default_factory=dict)
    taps: dict[str, list[Tap]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def gather(
    files: Sequence[Path],
    forms: Sequence[str],
    runtimes: Sequence[str] | Mapping[Path, Sequence[str]],
    folder: Path,
    *,
    threads: int = 0,
    provider: str | None = None,
    kernel: str | None = None,
    taps: bool | Collection[Path] = False,
    on_progress: Callable[[str], None] | None = None,
) -> Candidates:
    """One candidate for each file, form and runtime.

    Of several files, each is named in its label by the shortest end of its path that no other has, as in
    `a/model · ort`. What is named twice is run once; `skipped` says so.
    forms : names of FORMS, to convert each file to; "all" for those that fit it; none for the files as they are.
    runtimes : names of RUNTIMES without "eager", for all files or for each.
    folder : where converted and tapped files are put, under numbers of this call; give each call a folder of its own.
    provider, kernel : for ort, as in open_session.
    taps : expose x and y of every SimAM block as outputs; of all files or of these.
    Raises FormError when a form that was asked for by name cannot carry a file.
    """
    run_on = dict(runtimes) if isinstance(runtimes, Mapping) else dict.fromkeys(files, runtimes)
    asked_for = [name for names in run_on.values() for name in names]
    unknown = [name for name in dict.fromkeys(asked_for) if name not in RUNTIMES or name in NOT_FOR_FILES]
    if unknown:
        known = ", ".join(name for name in RUNTIMES if name not in NOT_FOR_FILES)
        raise InputError(f"no such runtime for ONNX files: {', '.join(unknown)}; there are {known}")
    result = Candidates()
    forms = _once(forms, forms, result)
    run_on = {file: _once(names, names, result) for file, names in run_on.items()}
    files = _once(files, [_place(file) for file in files], result)
    for at, (file, name) in enumerate(zip(files, _short([_place(file) for file in files]), strict=True)):
        stem = f"{name} · " if len(files) > 1 else ""
        with onnx_file.blaming(file):
            lowered, refused = _in_forms(file, forms, folder / str(at), on_progress)
        result.skipped += [f"{stem}{reason}" for reason in refused]
        wanted = taps if isinstance(taps, bool) else file in taps
        for form, path, fused in lowered:
            with onnx_file.blaming(path):
                target = folder / f"{at}.{form or 'given'}.taps.onnx"
                watched, tapped, left = _tapped(path, fused, target) if wanted else (path, [], [])
                outside_numpy = wanted and "BFLOAT16" in onnx_file.half_types(onnx_file.load(path))
            whose = f"{stem}{form}: " if form else stem.replace(" · ", ": ")
            result.skipped += [f"{whose}{reason}" for reason in left]
            for runtime in run_on[file]:
                label = f"{stem}{form} · {runtime}" if form else f"{stem}{runtime}"
                if form == "custom_op" and not _has_kernel(runtime, kernel):
                    result.skipped.append(f"{label}: {NO_KERNEL}")
                    continue
                seen = not outside_numpy or runtime in ROUNDING  # others cannot give bfloat16
                opened = watched if seen else path
                asked = {"threads": threads, "provider": provider, "kernel": kernel}
                options = {k: v for k, v in asked.items() if v and runtime in OPTIONS[k]}
                result.open[label] = partial(_open, opened, runtime, "" if opened == file else label, options)
                result.taps[label] = tapped if seen else []
                result.files[label] = file
    result.skipped = list(dict.fromkeys(result.skipped))
    return result


def _once(named: Sequence[T], keys: Sequence[object], result: Candidates) -> list[T]:
    """The first of those that have one key."""
    kept = [value for at, value in enumerate(named) if keys[at] not in keys[:at]]
    result.skipped += [f"{value}: named before" for at, value in enumerate(named) if keys[at] in keys[:at]]
    return kept


def _place(file: Path) -> Path:
    """Where it is. A link to a file is another one, as weights are looked for beside the link."""
    return Path(os.path.realpath(file.parent), file.name)


def _short(files: Sequence[Path]) -> list[str]:
    """For each file the shortest end of its path, without .onnx, that no other has."""
    bare = [path.with_suffix("") if path.suffix == ".onnx" else path for path in files]
    ends = [(own if bare.count(own) == 1 else path).parts for own, path in zip(bare, files, strict=True)]
    least = [next(n for n in count(1) if sum(other[-n:] == own[-n:] for other in ends) == 1) for own in ends]
    return [str(Path(*own[-n:])) for own, n in zip(ends, least, strict=True)]


def _open(path: Path, runtime: str, label: str, options: Mapping[str, Any]) -> Session:
    """label : what to call a file of ours in errors; "" for the user's own."""
    try:
        return open_session(path, runtime, **options)
    except SimAMDeployError as error:
        raise type(error)(f"{label}: {error}") if label else error from error


def _has_kernel(runtime: str, kernel: str | None) -> bool:
    if runtime == "trt_network":
        return PLUGIN.find() is not None
    return runtime == "onnx_reference" or (runtime == "ort" and kernel != "off" and native.library() is not None)


def expose(model: ir.Model, found: Found | None = None) -> tuple[ir.Model, list[Tap], list[str]]:
    """A copy of `model` with x and y of every SimAM block of its main graph among its outputs, and the residual where
    it has one inside; and their names.

    found : the blocks of `model`, where they have been searched for already.
    The third are the gates that are not exposed, with the reason: those inside If, Loop and functions, which cannot
    be seen from outside, those in the blocked layout, and of near misses. Raises InputError when a node of ours is no
    block.
    """
    model = opened(model)
    result = model.clone()
    found = (find(model) if found is None else found).in_clone(model, result)
    _refuse_unlike(result, found)
    taps: list[Tap] = []
    left: list[str] = []
    for block in found.blocks:
        if block.inside[-1].graph is not result.graph:
            left.append(f"the gate at {block.node}, inside an If, a Loop or a function")
            continue
        residual = None if block.epilogue is None else block.epilogue.residual
        for value in (block.x, block.y, *([] if residual is None else [residual])):
            if not value.is_graph_output() and not value.is_graph_input():
                value.type = value.type or ir.TensorType(block.dtype)
                value.shape = value.shape or ir.Shape(block.shape)
                result.graph.outputs.append(value)
        taps.append(Tap(block.node, str(block.x.name), str(block.y.name), block.e_lambda, block.epilogue))
    left += [
        f"the gate at {on_one_line(str(node.name))}, in the blocked layout, where nothing else sees x and y"
        for node in result.graph.all_nodes()
        if node.domain == BLOCKED_DOMAIN
    ]
    left += [f"the gate at {miss.node}, which is no SimAM block: {miss.reasons[0]}" for miss in found.near_misses]
    return result, taps, left or ([] if taps else ["no gate, as no SimAM block was found"])


def _refuse_unlike(model: ir.Model, found: Found) -> None:
    """Raise InputError for nodes that are called SimAM and are no blocks: no gate says whether they are right."""
    blocks = {node for block in found.blocks for node in block.inside}
    near = {miss.node: miss for miss in found.near_misses}
    unlike = [
        str(near.get(name, f"{on_one_line(name)}:\n  it is not recognised"))
        for node in model.graph.all_nodes()
        if node.domain == OP_DOMAIN
        and node.op_type in OPS
        and node not in blocks
        and any(value.uses() or value.is_graph_output() for value in node.outputs)
        for name in [node.name or str(node.outputs[0].name)]
    ]
    if unlike:
        raise InputError(
            "\n".join(("cannot judge the gates of nodes that are called SimAM and are no SimAM block:", *unlike))
            + "\nmake the file anew from the one before fuse; without --gates the outputs alone are compared"
        )


def _tapped(path: Path, fused: Fused | None, target: Path) -> tuple[Path, list[Tap], list[str]]:
    """fused : the model in the file at `path`, where this call wrote it."""
    exposed, taps, left = expose(onnx_file.load(path)) if fused is None else expose(fused.model, fused.found)
    onnx_file.save(exposed, target)
    return target, taps, left


def _in_forms(
    file: Path, forms: Sequence[str], target: Path, on_progress: Callable[[str], None] | None
) -> tuple[list[tuple[str, Path, Fused | None]], list[str]]:
    """The file in each form, as its name, where it is, and the model; and what refused it. It is searched once."""
    if not forms:
        return [("", file, None)], []
    model = opened(onnx_file.load(file))
    found = find(model, on_progress)
    refused: list[str] = []
    made: list[tuple[str, Path, Fused | None]] = []
    for form in FORMS if "all" in forms else forms:
        path = target.with_name(f"{target.name}.{form}.onnx")
        try:
            fused = fuse(model, form, found=found)
        except FormError as error:
            if "all" not in forms:
                raise
            refused.append(str(error).partition("\nexport with")[0])
            continue
        onnx_file.save(fused.model, path)
        made.append((form, path, fused))
    return made, refused
