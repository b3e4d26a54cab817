"""ONNX Runtime's blocked layout NCHWc: offline optimisation, and block size on this machine.

On a CPU, ONNX Runtime runs convolutions on tensors with channels in blocks: (N, C/b, H, W, b) in memory, with shape
(N, C, H, W). It puts a ReorderOutput in front of every operator without support, and a ReorderInput behind.
Supported are operators of the domain `com.microsoft.nchwc` and elementwise operators.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy.errors import ModelFileError, RuntimeUnavailable
from simam_deploy.native import Library
from simam_deploy.runtimes.session import first_line, framework

DOMAIN = "com.microsoft.nchwc"
_CHANNELS = 32
_NO_LOG = 4


def optimise(source: Path, target: Path, library: Library) -> None:
    """Write the graph that ONNX Runtime optimises for the CPU of this machine, in its layout.

    Raises RuntimeUnavailable if ONNX Runtime is not installed, ModelFileError if it refuses the file.
    """
    ort = framework("onnxruntime", "ort", "ort")
    options = ort.SessionOptions()
    options.log_severity_level = _NO_LOG
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{target.name}.data")
    options.register_custom_ops_library(str(library.path))
    try:
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise ModelFileError(
            f"onnxruntime {ort.__version__} cannot optimise the model: {first_line(error)}"
        ) from error


def version() -> str:
    """Version of the installed ONNX Runtime."""
    return str(framework("onnxruntime", "ort", "ort").__version__)


def block_size() -> int:
    """Block size of this machine's layout, from a reordering of 32 channels of two pixels.

    Raises RuntimeUnavailable on processors without this layout, such as those without AVX.
    """
    ort = framework("onnxruntime", "ort", "ort")
    numbers = np.arange(_CHANNELS * 2, dtype=np.float32).reshape(1, _CHANNELS, 1, 2)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(numbers.shape))
    node = ir.node("ReorderInput", [x], domain=DOMAIN)
    y = node.outputs[0]
    y.name, y.type, y.shape = "y", x.type, x.shape
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 17, DOMAIN: 1}, name="layout")
    model = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    try:
        options = ort.SessionOptions()
        options.log_severity_level = _NO_LOG
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        blocked = session.run(None, {"x": numbers})[0].ravel()
    except Exception as error:
        raise RuntimeUnavailable(
            f"onnxruntime {ort.__version__} has no blocked layout on this machine: {first_line(error)}\n"
            "a file cannot be specialised here; the portable one runs everywhere"
        ) from error
    return int(np.flatnonzero(blocked == numbers[0, 0, 0, 1])[0])


def blocked_values(model: ir.Model) -> set[ir.Value]:
    """Values of an optimised graph in the blocked layout.

    ONNX Runtime reorders inputs of operators without support. So an operator of another domain with a blocked input
    is elementwise, and its output is blocked too.
    """
    found: set[ir.Value] = set()
    for node in model.graph:
        if node.domain == DOMAIN and node.op_type == "ReorderOutput":
            continue
        if node.domain == DOMAIN or any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found
