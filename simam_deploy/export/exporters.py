"""torch.onnx.export by either of its exporters, in silence; what was not made as asked for is an error."""

from __future__ import annotations

import errno
import inspect
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from simam_deploy import onnx_file
from simam_deploy.errors import InputError

Tensors = tuple[torch.Tensor, ...]
EXPORTERS = ("dynamo", "torchscript")
OLDEST_DYNAMO_OPSET = 18
AXES = {"batch": 0, "height": 2, "width": 3}
"""Names for dynamic axes. Height and width are those of 4-D inputs."""


def check_options(opset: int | None, dynamic: Sequence[str], exporter: str) -> None:
    """Raises InputError for an exporter, an axis or an opset that cannot be had."""
    if exporter not in EXPORTERS:
        raise InputError(f"there is no exporter {exporter!r}; the exporters are {', '.join(EXPORTERS)}")
    unknown = [axis for axis in dynamic if axis not in AXES]
    if unknown:
        raise InputError(f"cannot make {', '.join(unknown)} dynamic; the axes are {', '.join(AXES)}")
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not 1 <= opset <= newest:
        raise InputError(f"there is no opset {opset}; the installed onnx {onnx.__version__} knows 1 to {newest}")
    if exporter == "dynamo" and opset is not None and opset < OLDEST_DYNAMO_OPSET:
        raise InputError(
            f"the dynamo exporter writes opset {OLDEST_DYNAMO_OPSET} and later; asked for {opset}\n"
            "use --exporter torchscript for an older opset"
        )


def torch_export(
    model: nn.Module, inputs: Tensors, opset: int | None, dynamic: Sequence[str], exporter: str, folder: Path
) -> ir.Model:
    """What the exporter makes of `model`; weights may lie in `folder`, which is made where the exporter needs one.

    Raises InputError if it refuses, writes another opset or fixes an axis, OSError if the disk is full.
    """
    axes = tuple({AXES[name]: name for name in dynamic if _has_axis(t, AXES[name])} for t in inputs)
    with _quiet():
        try:
            if exporter == "dynamo":
                program = torch.onnx.export(
                    model,
                    inputs,
                    dynamo=True,
                    verbose=False,
                    opset_version=opset,
                    dynamic_shapes=axes if dynamic else None,
                )
                assert program is not None
                result = program.model
            else:
                result = _torchscript(model, inputs, opset, axes, folder)
        except Exception as error:
            if _interrupted(error):
                raise KeyboardInterrupt from None
            if (lack := _lack_of_room(error)) is not None:
                raise lack from error  # `staging` has the words for it
            other = EXPORTERS[exporter == "dynamo"]
            raise InputError(
                f"torch.onnx.export ({exporter}) refused the model:\n{_reason(error)}\n"
                f"the other exporter may take it: --exporter {other}"
            ) from error
    _check_result(result, opset, axes)
    return result


def _torchscript(model: nn.Module, inputs: Tensors, opset: int | None, axes: Any, folder: Path) -> ir.Model:
    """Goes through a file, as weights beyond 2 GiB must."""
    folder.mkdir()
    names = list(inspect.signature(model.forward).parameters)[: len(inputs)]
    named = {name: dims for name, dims in zip(names, axes, strict=True) if dims}
    torch.onnx.export(
        model,
        inputs,
        str(folder / "raw.onnx"),  # as text: a Path is taken for a stream, which ends at 2 GiB
        dynamo=False,
        opset_version=opset,
        input_names=names,
        dynamic_axes=named,
    )
    return onnx_file.load(folder / "raw.onnx")


def _has_axis(tensor: torch.Tensor, axis: int) -> bool:
    return tensor.dim() == 4 or (axis == 0 and tensor.dim() > 0)


def _check_result(model: ir.Model, opset: int | None, axes: Sequence[dict[int, str]]) -> None:
    """What was asked for must be what came out: exporters warn and go on."""
    got = model.opset_imports.get("")
    if opset is not None and got != opset:
        raise InputError(
            f"asked for opset {opset}; the exporter wrote {got}\nleave --opset out, or use another exporter"
        )
    for value, dims in zip(model.graph.inputs, axes, strict=False):
        fixed = [
            name for axis, name in dims.items() if value.shape is not None and isinstance(value.shape[axis], int)
        ]
        if fixed:
            raise InputError(
                f"asked for dynamic {', '.join(fixed)}; the exporter fixed it for input {value.name!r}, as the code "
                "of the model makes the size a constant\nleave it out of --dynamic, or change that code"
            )


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: torch's imports catch it and fail otherwise."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or "partially initialized module 'torch" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _lack_of_room(error: BaseException | None) -> OSError | None:
    """The OSError of a full disk that is behind an exception. What torch writes in C++ has its words alone."""
    while error is not None:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if (isinstance(error, OSError) and error.errno == code) or os.strerror(code) in str(error):
                return OSError(code, os.strerror(code))
        error = error.__cause__ or error.__context__
    return None


def _reason(error: BaseException) -> str:
    """The first lines of what the exporter was stopped by, without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines() or [type(error).__name__]
    return "\n".join(f"  {line[:300]}" for line in lines[:4])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporters print and warn of themselves; what matters is checked afterwards."""
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
