"""Export a PyTorch model to an ONNX file, checked against it: `adopt`, torch.onnx.export, `fuse`, `verify`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import staging
from simam_deploy.compare.inputs import DEFAULT
from simam_deploy.compare.verify import Report
from simam_deploy.errors import InputError, VerificationError
from simam_deploy.pytorch.adopt import adopted
from simam_deploy.pytorch.adopt.isolate import uncompiled
from simam_deploy.pytorch.adopt.report import Adopted
from simam_deploy.pytorch.module_state import (
    leave_inference_mode,
    opened,
    preserved,
    refuse_without_weights,
    to_eval,
    uncompile,
)
from simam_deploy.rewrite.for_runtime import OPSET, Choice, choice
from simam_deploy.rewrite.forms import form_named
from simam_deploy.rewrite.fuse import fuse, write
from simam_deploy.rewrite.fused import BlockRow, Fused
from simam_deploy.text import Say, on_lines
from simam_deploy.to_onnx import lambdas
from simam_deploy.to_onnx.arguments import Call, Flat, call_of, outputs_of
from simam_deploy.to_onnx.axes import (
    DynamicAxes,
    InputSizes,
    RequestedAxes,
    odd_sizes,
    other_sizes,
    parsed,
    resolved,
    shown,
)
from simam_deploy.to_onnx.check import MEND, compare, resized
from simam_deploy.to_onnx.conversions import refused
from simam_deploy.to_onnx.memory import same_answer
from simam_deploy.to_onnx.torch_export import check_options, torch_export

COMPILED = "the model is compiled by torch.compile: the file was made of, and compared with, the model before that"


@dataclass(frozen=True, repr=False)
class Exported:
    """Result of an export: the file, the parity report, the adopted modules (None if off), and notes."""

    path: Path
    fused: Fused
    parity: Report | None
    adopted: Adopted | None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The adopted modules, the blocks, the notes, and the parity report."""
        adopted = () if self.adopted is None else (repr(self.adopted),)
        parity = "not compared with the model" if self.parity is None else str(self.parity)
        return "\n".join((str(self.path), *adopted, repr(self.fused), *map(on_lines, self.notes), parity))


def export(
    model: nn.Module,
    args: Any,
    path: str | os.PathLike[str],
    *,
    kwargs: Mapping[str, Any] | None = None,
    form: str | None = None,
    for_runtime: str | None = None,
    opset: int | None = None,
    dynamic: RequestedAxes = (),
    exporter: str = "dynamo",
    check: bool = True,
    runtimes: Sequence[str] | None = None,
    inputs: Sequence[str] = DEFAULT,
    check_seconds: float | None = None,
    adopt: bool = True,
    epilogue: bool = False,
    source: str | None = None,
    on_progress: Say | None = None,
) -> Exported:
    """Export `model` to `path` with its SimAM blocks in one form, and a manifest at `<path>.json`.

    args, kwargs : example inputs, as `model(*args, **kwargs)`; a list of args counts as a tuple, anything else as one
    argument. Inputs and results may be nested tuples, lists, dicts and dataclasses of tensors. None is left out;
    plain values become constants, or are left out of the outputs, with a note. Inputs have the names of the
    parameters of forward; outputs are `output`, `output_0`, ... or have their keys (pytorch/nested.py). Unused
    inputs are not in the file.
    form, for_runtime : as in `fuse`; a runtime's row also chooses the opset.
    opset : None for that of the runtime, or the exporter's own default.
    dynamic : "batch", "height", "width", "depth", "time" (or "length") of inputs (N, C, H, W), (N, C, D, H, W) and
    (N, C, T) or (N, T, C); "x:0,2" for any axes of input x; or a mapping as {"x": [0, 2]}, {"x": {0: "batch"}}. Other
    axes have the sizes of the example.
    exporter : "dynamo" (torch.export, opset >= 18) or "torchscript".
    check : compare the file with `model` on the example, on `inputs` (as in inputs.cases), and for dynamic axes at
    two other sizes, one of them odd if the model accepts it; on `runtimes` (all installed ones; for 16-bit models
    onnx_half and ort). Compares the λ of each block with that of its module. The truth is `model` in float64, without
    casts to narrower floats in its code; the tolerance is that of the precision, see compare/limits.py. Starts no
    further inputs after check_seconds, with a note. If a row or a λ fails, nothing is written, and VerificationError
    carries the report or names the λ.
    adopt : replace modules that compute SimAM by ours (pytorch/adopt) during the export. Ours computes 16-bit
    models in float32 and takes M - 1 from the shape of x. The file is compared with the original model.
    epilogue : fold the epilogue of SimAM into its node, see `fuse`.
    source : name of the model in the manifest; its class name by default.
    Exports the model in eval mode and leaves it unchanged: modes, hooks, caches of its forward. Exports a compiled
    model without torch.compile, and the module of a torch.export.ExportedProgram. Weights above 2 GiB go to
    `<path>.<hash>.data`.
    Raises InputError (the model does not run on args or at another size, is random or depends on earlier runs, a
    trace would keep values of args, an axis stayed fixed, the exporter refuses), NoBlockError, FormError,
    OutputError. Nothing is written then.
    """
    say = on_progress or (lambda _: None)
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is of type {type(model).__name__}; give a torch.nn.Module")
    given, model = model, opened(model)
    refuse_without_weights(model)
    call = call_of(model, args, kwargs)
    chosen, form, opset = _chosen(for_runtime, form, opset, epilogue=epilogue)
    check_options(opset, exporter)
    parsed(dynamic)
    if check:
        _refuse_other_floats(model, call)
    with staging(path) as staged, _in_eval_mode(model) as compiled:
        folder = staged.with_name(f"{staged.name}.raw")
        say("run the model")
        output = same_answer(model, call) if check else call.run(model)
        outputs, notes = outputs_of(output, list(call.tensors))
        axes = _axes(dynamic, model, call, chosen)
        others, left_out = _at_other_sizes(model, call, axes) if any(axes.values()) else ({}, [])
        example = call.inputs
        with (
            adopted(model, example.positional, example.keywords, on_progress=say)
            if adopt
            else nullcontext() as swapped
        ):
            say(f"torch.onnx.export ({exporter})")
            held = model if swapped is None else swapped.model
            scripted = isinstance(held, torch.jit.ScriptModule)  # written as it is: it cannot be traced
            with refused(held, call) if check and exporter == "torchscript" else nullcontext():
                raw = torch_export(
                    held if scripted else Flat(held, call), call.tensors, outputs, axes,
                    opset=opset, exporter=exporter, folder=folder,
                )  # fmt: skip
        say("find and fuse SimAM blocks")
        found: list[BlockRow] = []
        with lambdas.kept(model, swapped, found) if exporter == "dynamo" else nullcontext():
            fused = fuse(
                raw, form, lambda node: say(f"check the block at {node}"), for_runtime=for_runtime, epilogue=epilogue
            )
            found += fused.rows
        _keep_example(fused.model, call.tensors, axes)
        origin = {
            "model": source or type(model).__name__,
            "exporter": exporter,
            "dynamic": sorted({name for of_input in axes.values() for name in of_input.values()}),
            "adopted": None if swapped is None else [name for row in swapped.rows for name in row.names],
        }
        made = write(fused, staged, origin, ("torch", "onnx", "onnx-ir", "onnxscript"))
        unused = [name for name in call.tensors if name not in {value.name for value in raw.graph.inputs}]
        parity = None
        if check:
            same = lambdas.compare(model, call.inputs, swapped, fused.rows)
            parity = compare(
                model, call.without(unused), outputs, axes, others, staged,
                form=form, runtimes=runtimes, inputs=inputs, seconds=check_seconds, say=say,
            )  # fmt: skip
            if not parity.passed:
                raise VerificationError(f"{Path(path).name} {_why_not(parity, others)}", parity)
            parity.notes += [*left_out, *same]
            manifest.write({**made, "parity": [asdict(row) for row in parity.rows]}, staged)
        _drop(folder)
    notes = [*call.notes, *notes]
    notes += [COMPILED] if compiled or given is not model else []
    notes += (
        [f"the model does not use its inputs {', '.join(unused)}, so the file does not have them"] if unused else []
    )
    fused = replace(fused, notes=(*fused.notes, *manifest.stale(Path(path))))
    return Exported(Path(path), fused, parity, swapped and replace(swapped, model=given), tuple(notes))


def _chosen(
    for_runtime: str | None, form: str | None, opset: int | None, *, epilogue: bool
) -> tuple[Choice | None, str, int | None]:
    """The choice for the runtime, if one is named, the form, and the opset; None for the exporter's own."""
    chosen = None
    if for_runtime is not None:
        chosen = choice(for_runtime, form, OPSET if opset is None else opset)
        form, opset = chosen.form, chosen.opset
    form_named(form or "function", epilogue=epilogue)
    return chosen, form or "function", opset


def _axes(dynamic: RequestedAxes, model: nn.Module, call: Call, chosen: Choice | None) -> DynamicAxes:
    axes = resolved(dynamic, call.tensors, lambda sizes: _runs(model, call, sizes) is None)
    if chosen is not None:
        shapes = {n: tuple(axes[n].get(i, d) for i, d in enumerate(t.shape)) for n, t in call.tensors.items()}
        chosen.refuse_sizes(shapes)
    return axes


def _keep_example(model: ir.Model, tensors: Mapping[str, Tensor], axes: DynamicAxes) -> None:
    """Keep the shapes of the example in a file of dynamic sizes, for commands that need one size."""
    if any(axes.values()):
        shapes = {value.name: list(tensors[str(value.name)].shape) for value in model.graph.inputs}
        model.metadata_props[manifest.EXAMPLE] = json.dumps(shapes, ensure_ascii=False)


def _refuse_other_floats(model: nn.Module, call: Call) -> None:
    """Raise InputError for floats that `verify` has no tolerance for."""
    tensors = (*call.tensors.values(), *model.parameters(), *model.buffers())
    held = {t.dtype for t in tensors if t.is_floating_point()}
    others = sorted(str(dtype) for dtype in held if dtype not in (torch.float32, torch.float16, torch.bfloat16))
    if others:
        raise InputError(
            "the comparison with the model is made for float32, float16 and bfloat16, and this model holds "
            f"{', '.join(others)}\nexport it in float32, or without the comparison: --no-check (check=False)"
        )


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[bool]:
    """Inside, put the model in eval mode, uncompiled; restore it on exit. Yields whether it was compiled."""
    with torch.inference_mode(False), preserved(model, values=True), uncompiled():
        leave_inference_mode(to_eval(model))
        yield uncompile(model)


def _resized(call: Call, sizes: InputSizes) -> dict[str, Tensor]:
    return {name: resized(tensor, sizes[name]) for name, tensor in call.tensors.items()}


def _runs(model: nn.Module, call: Call, sizes: InputSizes) -> InputError | None:
    """Reason why the model does not run at these sizes, or None."""
    try:
        call.run(model, list(_resized(call, sizes).values()))
    except InputError as error:
        return error
    return None


def _why_not(parity: Report, others: Collection[str]) -> str:
    """Reason why the file was not written, and a remedy if it equals the model at the sizes of the example."""
    failed = {row.case for row in parity.rows if not row.passed}
    if not failed:
        return "was not written, as no output tells whether it is equal to the model; see the notes"
    why = "is not equal to the model, so it was not written; see the table"
    if failed <= set(others):
        names = ", ".join(sorted(failed))
        why += f"\nit fails at sizes other than the example's alone ({names}): one is fixed\n{MEND}"
    return why


def _at_other_sizes(
    model: nn.Module, call: Call, axes: DynamicAxes
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Inputs of other sizes, by name of the case, and notes.

    Runs the model on the first of them last. So caches by size are computed again in the export: a cache for the size
    of the example would become a constant in the file.
    """
    others: dict[str, dict[str, Tensor]] = {}
    notes: list[str] = []
    for step, sizes in odd_sizes(axes, call.tensors):
        if _runs(model, call, sizes) is None:
            others["odd size" if step == 1 else f"odd multiple of {step}"] = _resized(call, sizes)
            break
        notes = notes or [f"the model takes no {shown(sizes)}, so the file was not tried at such a size"]
    errors = []
    for sizes in other_sizes(axes, call.tensors):
        if (error := _runs(model, call, sizes)) is None:
            return {"other size": _resized(call, sizes), **others}, notes
        errors.append(error)
    asked = ", ".join(sorted({name for of_input in axes.values() for name in of_input.values()}))
    raise InputError(
        f"asked for dynamic {asked}; {errors[0]}\n"
        "leave the axis that the model fixes out of --dynamic, or give an example of a size with more factors of two"
    ) from errors[0]


def _drop(folder: Path) -> None:
    for file in folder.iterdir() if folder.is_dir() else ():
        file.unlink()
    if folder.is_dir():
        folder.rmdir()
