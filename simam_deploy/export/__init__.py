"""PyTorch model -> one ONNX file, proved equal to it: `adopt`, torch.onnx.export, `fuse`, `verify`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simam_deploy import manifest, native
from simam_deploy.adopt import Adopted, adopted
from simam_deploy.candidates import gather
from simam_deploy.errors import InputError, SimAMDeployError, VerificationError
from simam_deploy.export import lambdas
from simam_deploy.export.exporters import AXES, Tensors, check_options, torch_export
from simam_deploy.files import staging
from simam_deploy.forms import form_named
from simam_deploy.fuse import Fused, fuse, write
from simam_deploy.inputs import DEFAULT, Case
from simam_deploy.inputs import cases as made
from simam_deploy.runtimes import TensorSpec, installed, open_session
from simam_deploy.verify import Report, verify


@dataclass(frozen=True)
class Exported:
    """What was written, the parity report, and what was adopted (None if not asked for)."""

    path: Path
    fused: Fused
    parity: Report | None
    adopted: Adopted | None


def export(
    model: nn.Module,
    args: torch.Tensor | Tensors,
    path: str | os.PathLike[str],
    *,
    form: str = "function",
    opset: int | None = None,
    dynamic: Sequence[str] = (),
    exporter: str = "dynamo",
    check: bool = True,
    adopt: bool = True,
    neighbours: bool = False,
    source: str | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Exported:
    """Export `model` to `path` with its SimAM blocks in `form`, and a manifest at `<path>.json`.

    args : example inputs, as `model(*args)`.  opset : None for the exporter's own default.
    dynamic : any of "batch", "height", "width"; other axes are fixed at the sizes of `args`.
    exporter : "dynamo" (torch.export, opset >= 18) or "torchscript".
    check : compare the file with `model` on every installed runtime, at the example, on inputs.DEFAULT, and at
    another size where axes are dynamic, and the λ of each block with that of its module. For float32 models. If a row
    fails, or a λ, nothing is written, and VerificationError carries the report, or says which λ.
    adopt : put our SimAM in the place of modules that compute SimAM (adopt.py) while torch exports the model. Ours
    computes half models in float32 and takes M - 1 from the shape of x. The file is compared with the model as given.
    neighbours : fold what follows SimAM into its node, see `fuse`.
    source : how to name the model in the manifest; its class name by default.
    The model is not changed; it is exported as in eval mode. Weights beyond 2 GiB go to `<path>.<hash>.data`.
    Raises InputError (the model does not run on args, an axis stayed fixed, the exporter refuses), NoBlockError,
    FormError, OutputError; nothing is written then.
    """
    say = on_progress or (lambda _: None)
    inputs = _inputs(model, args)
    form_named(form, neighbours=neighbours)
    check_options(opset, dynamic, exporter)
    if check:
        _refuse_other_floats(model, inputs)
    with staging(path) as staged, _eval_mode(model):
        say("run the model once")
        _run_once(model, inputs)
        with adopted(model, inputs, on_progress=say) if adopt else nullcontext(None) as swapped:
            say(f"torch.onnx.export ({exporter})")
            folder = staged.with_name(f"{staged.name}.raw")
            exportable = model if swapped is None else swapped.model
            raw = torch_export(exportable, inputs, opset, dynamic, exporter, folder)
        say("find and fuse SimAM blocks")
        fused = fuse(raw, form, lambda node: say(f"prove the block at {node}"), neighbours=neighbours)
        origin = {
            "model": source or type(model).__name__,
            "exporter": exporter,
            "dynamic": list(dynamic),
            "adopted": None if swapped is None else [name for row in swapped.rows for name in row.names],
        }
        made = write(fused, staged, origin, ("torch", "onnx", "onnx-ir", "onnxscript"))
        notes = lambdas.compare(model, inputs, swapped, fused.rows) if check else []
        parity = _check(model, inputs, dynamic, form, staged, say) if check else None
        if parity is not None and not parity.passed:
            raise VerificationError(
                f"{Path(path).name} is not equal to the model, so it was not written; see the table", parity
            )
        if parity is not None:
            parity.notes += notes
            manifest.write({**made, "parity": [asdict(row) for row in parity.rows]}, staged)
        _drop(folder)
    fused = replace(fused, notes=(*fused.notes, *manifest.stale(Path(path))))
    return Exported(Path(path), fused, parity, swapped if swapped is None else replace(swapped, model=model))


def _inputs(model: object, args: object) -> Tensors:
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is of type {type(model).__name__}; give a torch.nn.Module")
    inputs = tuple(args) if isinstance(args, tuple | list) else (args,)
    others = [f"argument {i} is of type {type(a).__name__}" for i, a in enumerate(inputs) if not _is_tensor(a)]
    if others or not inputs:
        raise InputError(
            f"the example inputs must be tensors, at least one; {', '.join(others) or 'there is none'}\n"
            "fix other arguments in a module around the model: def forward(self, x): return self.model(x, 3)"
        )
    return inputs


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _refuse_other_floats(model: nn.Module, inputs: Tensors) -> None:
    """The yardstick of `verify` is float32."""
    held = {t.dtype for t in (*inputs, *model.parameters(), *model.buffers()) if t.is_floating_point()}
    others = sorted(str(dtype) for dtype in held if dtype != torch.float32)
    if others:
        raise InputError(
            f"the comparison with the model is made for float32, and this model holds {', '.join(others)}\n"
            "export it in float32, or without the comparison: --no-check (check=False)"
        )


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """In eval mode inside the block, as it was behind it; sub-modules may differ in mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _run_once(model: nn.Module, inputs: Tensors) -> None:
    """The clearest error for a model that does not run is its own, not an exporter's or a runtime's."""
    try:
        with torch.inference_mode():
            model(*(tensor.clone() for tensor in inputs))
    except SimAMDeployError:
        raise
    except Exception as error:
        sizes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise InputError(f"the model does not run on inputs of shape {sizes}: {error}") from error


def _check(
    model: nn.Module, inputs: Tensors, dynamic: Sequence[str], form: str, path: Path, say: Callable[[str], None]
) -> Report:
    arrays = tuple(tensor.detach().cpu().numpy() for tensor in inputs)
    specs = [TensorSpec(f"input {i}", a.dtype, a.shape) for i, a in enumerate(arrays)]
    cases = [Case("example", (arrays,)), *made(DEFAULT, specs)]
    if dynamic:
        larger = tuple(_plain(a, _larger(a.shape, dynamic)) for a in arrays)
        _run_once(model, tuple(torch.from_numpy(a) for a in larger))  # dynamic in the model itself
        cases.append(Case("other size", (larger,)))
    chosen = [name for name in installed() if name != "eager"]
    if form == "custom_op":  # the formula itself stands in for the node, and the kernel where it is built
        chosen = [name for name in chosen if name == "onnx_reference" or (name == "ort" and native.library())]
    candidates = gather([path], [], chosen, path.parent)
    return verify(
        candidates.open,
        cases,
        truth=lambda: open_session(model, "eager", dtype="float64"),
        twin=lambda: open_session(model, "eager"),
        on_progress=lambda what: say(f"verify: {what}"),
    )


def _plain(like: Any, shape: tuple[int, ...]) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    if like.dtype.kind in "biu":
        return np.resize(like, shape)
    return rng.standard_normal(shape).astype(like.dtype)


def _larger(shape: tuple[int, ...], dynamic: Sequence[str]) -> tuple[int, ...]:
    """One more in the batch, 32 more rows, 64 more columns: steps that networks with strides take."""
    steps = {AXES["batch"]: 1, AXES["height"]: 32, AXES["width"]: 64}
    chosen = {AXES[name] for name in dynamic}
    fits = len(shape) == 4
    return tuple(d + (steps[i] if i in chosen and (fits or i == 0) else 0) for i, d in enumerate(shape))


def _drop(folder: Path) -> None:
    for file in folder.iterdir() if folder.is_dir() else ():
        file.unlink()
    if folder.is_dir():
        folder.rmdir()
