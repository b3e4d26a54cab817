"""Comparison of an exported file with its model, on every runtime."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from simam_deploy import native
from simam_deploy.compare.inputs import Case, cases
from simam_deploy.compare.limits import Precision
from simam_deploy.compare.matrix import Candidates, gather
from simam_deploy.compare.runnable import precision_of, runtimes_for
from simam_deploy.compare.verify import Report, verify
from simam_deploy.errors import InputError, ModelFileError, RuntimeUnavailable
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import nodes
from simam_deploy.precision.low_types import LOW_TYPES
from simam_deploy.precision.reference import low_reference
from simam_deploy.runtimes import for_files, open_session
from simam_deploy.runtimes.eager import EagerSession
from simam_deploy.runtimes.session import Session, TensorSpec
from simam_deploy.to_onnx.arguments import Call, Flat
from simam_deploy.to_onnx.axes import DynamicAxes, shown

MEND = (
    "compute with sizes as tensors, or let forward raise at sizes that it is not for; or leave the axis out of "
    "--dynamic, or try the other exporter"
)
"""Remedy for a size that an exporter fixed."""


def compare(
    model: nn.Module,
    call: Call,
    outputs: Sequence[str],
    axes: DynamicAxes,
    others: Mapping[str, Mapping[str, Tensor]],
    path: Path,
    *,
    form: str,
    runtimes: Sequence[str] | None,
    inputs: Sequence[str],
    seconds: float | None,
    say: Callable[[str], None],
) -> Report:
    """Compare the file at `path` with `model`.

    Inputs are the example of `call`, `inputs` as in inputs.cases, and `others`: inputs of other sizes by case name.
    axes : dynamic axes.  runtimes : None for all installed ones.
    seconds : time limit for starting `inputs`; None for no limit.
    Raises InputError if the file does not run where the model does, or nothing is left to run it; RuntimeUnavailable
    if a runtime cannot load it.
    """
    model_file = onnx_file.load(path)
    kind = precision_of(model_file)
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        candidates = _candidates(path, form, runtimes, kind, Path(folder))
        report = _in_groups(
            candidates, kind, partial(_low_reference, model_file, kind.low, Path(folder)), model, call, outputs,
            axes, others, path, Path(folder), inputs=inputs, seconds=seconds, say=say,
        )  # fmt: skip
    report.notes += [f"left out: {reason}" for reason in candidates.skipped]
    return report


def _in_groups(
    candidates: Candidates,
    kind: Precision,
    reference: Callable[[], Session],
    model: nn.Module,
    call: Call,
    outputs: Sequence[str],
    axes: DynamicAxes,
    others: Mapping[str, Mapping[str, Tensor]],
    path: Path,
    folder: Path,
    *,
    inputs: Sequence[str],
    seconds: float | None,
    say: Callable[[str], None],
) -> Report:
    """As `compare`, for open candidates; input by input if there is a time limit."""
    opens = {label: partial(_opened, path, folder, label, open_) for label, open_ in candidates.open.items()}
    names, flat = list(call.tensors), Flat(model, call)
    truths: list[EagerSession] = []

    def truth() -> EagerSession:
        truths.append(EagerSession(flat, dtype="float64", inputs=names, outputs=outputs))
        return truths[-1]

    example, *more = _cases(call, axes, inputs)
    at_others = [[_at_other_size(name, call, tensors)] for name, tensors in others.items()]
    # sessions are opened for each group anew, so without an end there are few
    groups = [[example, *more]] if seconds is None else [[example], *([case] for case in more)]
    groups[1:1] = at_others
    start, reports, left = time.monotonic(), list[Report](), list[str]()
    for group in groups:
        if reports and group not in at_others and seconds is not None and time.monotonic() - start > seconds:
            left += [case.name for case in group]
            continue
        try:
            report = verify(
                opens,
                group,
                truth=truth,
                twin=lambda: EagerSession(flat, inputs=names, outputs=outputs),
                taps=candidates.taps,
                precisions=dict.fromkeys(opens, kind),
                references={kind.low: reference} if kind.low else {},
                on_progress=lambda what: say(f"compare with the model: {what}"),
            )
        except InputError as error:
            if group not in at_others:
                raise
            raise InputError(
                f"{error}\nthe model runs on these sizes: the exporter fixed one that is to be dynamic\n{MEND}"
            ) from error
        reports.append(report)
    notes = [note for report in reports for note in report.notes]
    notes += [f"{session.label}: {note}" for session in truths for note in session.notes if "casts" in note]
    if left:
        notes.append(f"not compared, as the {seconds:g} s of the check were over: {', '.join(left)}")
    for report in reports[1:]:
        reports[0].rows += report.rows
        reports[0].gates += report.gates
    reports[0].notes = list(dict.fromkeys(notes))
    return reports[0]


def _low_reference(model: ir.Model, low: str, folder: Path) -> Session:
    made = folder / "reference.onnx"
    if not made.exists():
        onnx_file.save(low_reference(model, LOW_TYPES[low]), made)
    return open_session(made, "onnx_half")


def _candidates(path: Path, form: str, runtimes: Sequence[str] | None, kind: Precision, folder: Path) -> Candidates:
    chosen = runtimes_for(kind, for_files()) if runtimes is None else list(runtimes)
    if not chosen:
        raise InputError("no runtime is named to compare the file on; leave runtimes out for all that are installed")
    if (
        form == "custom_op" and runtimes is None
    ):  # the formula stands in for the node, and the kernel where it is built
        chosen = [name for name in chosen if name == "onnx_reference" or (name == "ort" and native.library())]
    return gather([path], [], chosen, folder, taps=bool(kind.low))


def _opened(path: Path, folder: Path, runtime: str, open_: Callable[[], Session]) -> Session:
    """Open the file at `path`, a temporary name, or its copy in `folder`, in a runtime."""
    try:
        return open_()
    except (ModelFileError, RuntimeUnavailable) as error:
        said = re.sub(rf"{re.escape(str(folder))}/[^ :]*", str(path), str(error).removeprefix(f"{runtime}: "))
        if str(path) not in said:
            raise
        narrow = _narrow(path)
        other = "onnx_half" if narrow else "onnx_reference" if runtime != "onnx_reference" else "ort"
        held = said.replace(f"{path.parent}/", "")
        text = f"{runtime} cannot run what the model does, so it is not compared there:\n  {held}\n"
        if narrow:
            text += f"the model computes in {narrow}; "
            text += "export it without autocast (enabled=False), or with .float()\n"
        text += f"or compare it on another runtime (--runtimes {other}), or not at all (--no-check)"
        raise RuntimeUnavailable(text) from error


def _narrow(path: Path) -> str:
    """16-bit float types that the file casts to."""
    casts = [node for node in nodes(onnx_file.read(path)) if node.op_type == "Cast"]
    to = {ir.DataType(a.i) for node in casts for a in node.attribute if a.name == "to"}
    return " and ".join(kind.name.lower() for kind in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) if kind in to)


def _at_other_size(name: str, call: Call, tensors: Mapping[str, Tensor]) -> Case:
    sizes = {given: tuple(tensor.shape) for given, tensor in tensors.items()}
    return Case(name, (_arrays(tensors[given] for given in call.tensors),), f"{name}: {shown(sizes)}")


def _cases(call: Call, axes: DynamicAxes, inputs: Sequence[str]) -> list[Case]:
    """The example, and other inputs of its size with the integers of the example, which may be indices."""
    example = _arrays(call.tensors.values())
    shapes = [tuple(axes[n].get(i, d) for i, d in enumerate(t.shape)) for n, t in call.tensors.items()]
    specs = [TensorSpec(n, a.dtype, shape) for n, a, shape in zip(call.tensors, example, shapes, strict=True)]
    made = cases(inputs, specs, sizes=[a.shape for a in example])
    others = [replace(c, feeds=tuple(_with_integers_of(example, feed) for feed in c.feeds)) for c in made]
    return [Case("example", (example,)), *others]


def resized(tensor: Tensor, size: Sequence[int], seed: int = 0) -> Tensor:
    """Random numbers of that size; integers and booleans repeat those of the tensor."""
    if tensor.is_floating_point():
        return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(tensor.device, tensor.dtype)
    count = int(np.prod(size))
    return tensor.flatten().repeat(-(-count // max(tensor.numel(), 1)))[:count].reshape(tuple(size))


def _arrays(tensors: Any) -> tuple[Any, ...]:
    """As NumPy arrays; bfloat16, which NumPy lacks, as float32."""
    held = (tensor.detach().cpu() for tensor in tensors)
    return tuple((t.float() if t.dtype == torch.bfloat16 else t).numpy() for t in held)


def _with_integers_of(example: tuple[Any, ...], feed: tuple[Any, ...]) -> tuple[Any, ...]:
    fits = [old.dtype.kind in "biu" and old.shape == new.shape for old, new in zip(example, feed, strict=True)]
    return tuple(old if fit else new for old, new, fit in zip(example, feed, fits, strict=True))
