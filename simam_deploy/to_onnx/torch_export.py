"""torch.onnx.export with either exporter, without its output. A deviation from the request is an error."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from simam_deploy.errors import InputError, ModelFileError
from simam_deploy.graph import onnx_file
from simam_deploy.to_onnx.axes import DynamicAxes

EXPORTERS = ("dynamo", "torchscript")
OLDEST_DYNAMO_OPSET = 18
BY_VALUES = (
    "its code chooses by values of the inputs, and a file holds one choice: use torch.where in place of the branch, "
    "or leave the choice out of the model; torchscript would keep that of the example for every input"
)
"""Remedy for a refusal of that kind."""


def check_options(opset: int | None, exporter: str) -> None:
    """Raise InputError for an unsupported exporter or opset."""
    if exporter not in EXPORTERS:
        raise InputError(f"there is no exporter {exporter!r}; the exporters are {', '.join(EXPORTERS)}")
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not 1 <= opset <= newest:
        raise InputError(f"there is no opset {opset}; the installed onnx {onnx.__version__} knows 1 to {newest}")
    if exporter == "dynamo" and opset is not None and opset < OLDEST_DYNAMO_OPSET:
        raise InputError(
            f"the dynamo exporter writes opset {OLDEST_DYNAMO_OPSET} and later; asked for {opset}\n"
            "use --exporter torchscript for an older opset"
        )


def torch_export(
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    axes: DynamicAxes,
    *,
    opset: int | None,
    exporter: str,
    folder: Path,
) -> ir.Model:
    """Export `model`, a function from the tensors of `inputs` to a tuple, with these names of inputs and outputs.

    Leaves out unused inputs. The exporter writes to `folder`, which is created; the file is read and checked as any
    other. Large weights stay there.

    Raises InputError if it refuses, writes an invalid file or another opset, or fixes an axis; OSError if the disk is
    full.
    """
    named: dict[str, Any] = {"input_names": list(inputs), "output_names": list(outputs), "opset_version": opset}
    if exporter == "dynamo":
        shapes = (tuple(axes[name] for name in inputs),) if any(axes.values()) else None  # those of *tensors
        named |= {"dynamic_shapes": shapes, "verbose": False, "external_data": False}
    else:
        named |= {"dynamic_axes": {name: of for name, of in axes.items() if of}}
    folder.mkdir()
    file = folder / "raw.onnx"
    other = f"the other exporter may take it: --exporter {EXPORTERS[exporter == 'dynamo']}"
    with _quiet(), torch.no_grad():
        try:  # the name as text: a Path is taken for a stream, which ends at 2 GiB
            torch.onnx.export(model, tuple(inputs.values()), str(file), dynamo=exporter == "dynamo", **named)
        except Exception as error:
            if _interrupted(error):
                raise KeyboardInterrupt from None
            if (lack := _lack_of_room(error)) is not None:
                raise lack from error  # `staging` has the words for it
            mend = BY_VALUES if _by_values(error) else other
            raise InputError(
                f"torch.onnx.export ({exporter}) refused the model:\n{_reason(error, list(inputs))}\n{mend}"
            ) from error
    try:
        result = onnx_file.load(file)
    except ModelFileError as error:
        reason = str(error).replace(str(file), "its file")
        raise InputError(f"torch.onnx.export ({exporter}) went wrong on the model:\n  {reason}\n{other}") from error
    _drop_unused(result)
    _check_result(result, opset, inputs, axes)
    return result


def _drop_unused(model: ir.Model) -> None:
    """Remove unused inputs: one exporter keeps them, and some runtimes lose them."""
    graph = model.graph
    for value in [value for value in graph.inputs if not value.uses() and not value.is_graph_output()]:
        graph.inputs.remove(value)


def _check_result(model: ir.Model, opset: int | None, inputs: Mapping[str, torch.Tensor], axes: DynamicAxes) -> None:
    """Raise InputError for deviations from the request, for which exporters only warn."""
    got = model.opset_imports.get("")
    if opset is not None and got != opset:
        raise InputError(
            f"asked for opset {opset}; the exporter wrote {got}\nleave --opset out, or use another exporter"
        )
    values = {str(value.name): value for value in model.graph.inputs}
    if not [name for name in inputs if name in values] == list(values) != []:
        raise InputError(
            f"the exporter wrote a file with the inputs {', '.join(values) or 'none'}; the model takes "
            f"{', '.join(inputs)}\nuse the other exporter, or check that what it returns depends on its inputs"
        )
    for name, value in values.items():
        shape = value.shape
        fixed = [dim for axis, dim in axes[name].items() if shape is not None and isinstance(shape[axis], int)]
        if fixed:
            raise InputError(
                f"asked for dynamic {', '.join(fixed)}; the exporter fixed it for input {name!r}, as the code of the "
                "model makes the size a constant\nleave it out of --dynamic, or change that code"
            )
    kept = {dim for name in values for dim in axes[name].values()}
    for name in inputs.keys() - values.keys():
        if lost := set(axes[name].values()) - kept:
            raise InputError(
                f"asked for dynamic {', '.join(sorted(lost))}; the model does not use its input {name!r}, so it is "
                "not in the file\nleave it out of --dynamic"
            )


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an exception: torch's imports convert it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or "partially initialized module 'torch" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _by_values(error: BaseException | None) -> bool:
    """Whether data-dependent values stopped an exporter."""
    while error is not None:
        if type(error).__name__.startswith("DataDependent") or "data-dependent" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _lack_of_room(error: BaseException | None) -> OSError | None:
    """The OSError of a full disk behind an exception. Errors of torch's C++ code have its text alone."""
    while error is not None:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if (isinstance(error, OSError) and error.errno == code) or os.strerror(code) in str(error):
                return OSError(code, os.strerror(code))
        error = error.__cause__ or error.__context__
    return None


def _reason(error: BaseException, names: Sequence[str]) -> str:
    """First lines of the exporter's error, without colours and with input names."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    text = re.sub(r"inputs\['tensors'\]\[(\d+)\]", lambda found: f"input {names[int(found[1])]!r}", text)
    lines = text.splitlines() or [type(error).__name__]
    return "\n".join(f"  {line[:300]}" for line in lines[:4])


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress output and warnings of the exporters; later checks cover them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
