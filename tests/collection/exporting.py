"""PyTorch -> ONNX as torch itself does it, with both exporters; and whether the file computes what torch does."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

AXES = ("batch", None, "height", "width", "depth")
Shape = tuple[int, ...]


class NotExported(Exception):
    """torch refused; the message is its reason."""


def export(module: nn.Module, shape: Shape, exporter: str, opset: int, dynamic: str, half: bool) -> onnx.ModelProto:
    """dynamic : "static", "batch", "hw" or "all" (batch, height and width)."""
    wanted = {"static": (), "batch": (0,), "hw": range(2, len(shape)), "all": (0, *range(2, len(shape)))}[dynamic]
    names = {axis: str(AXES[axis]) for axis in wanted}
    x = torch.zeros(shape, dtype=torch.float16 if half else torch.float32)
    module = module.half() if half else module
    with quiet():
        try:
            if exporter == "dynamo":
                program = torch.onnx.export(
                    module,
                    (x,),
                    dynamo=True,
                    verbose=False,
                    opset_version=opset,
                    input_names=["image"],
                    dynamic_shapes=(names,) if names else None,
                )
                assert program is not None
                return program.model_proto
            file: Any = io.BytesIO()  # torch takes it, and its annotations do not say so
            torch.onnx.export(
                module,
                (x,),
                file,
                dynamo=False,
                opset_version=opset,
                input_names=["image"],
                dynamic_axes={"image": names},
            )
            return onnx.load_model_from_string(file.getvalue())
        except Exception as error:
            raise NotExported(_reason(error)) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what exporters print and warn of themselves."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else ''}"


def images(shapes: Sequence[Shape], half: bool = False) -> list[np.ndarray]:
    """One standard normal input for each shape."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float16 if half else np.float32) for shape in shapes]


def session(model: bytes, optimised: bool = False) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a CPU, as the file says: without optimisation unless asked."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def agrees(model: onnx.ModelProto, module: nn.Module, shape: Shape) -> bool:
    """Whether the file computes at that size what the module does: to 1e-4, or 3e-2 in float16."""
    half = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    (image,) = images([shape], half)
    with torch.no_grad(), quiet():
        wanted = module.float()(torch.from_numpy(image).float()).numpy()
        try:
            (got,) = session(model.SerializeToString()).run(None, {model.graph.input[0].name: image})
        except Exception as error:
            raise NotExported(f"ONNX Runtime refuses the file: {str(error)[:200]}") from None
    bound = (3e-2 if half else 1e-4) * max(1.0, float(np.abs(wanted).max()))
    return got.shape == wanted.shape and bool((np.abs(got - wanted) <= bound).all())
