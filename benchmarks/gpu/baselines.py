"""Baselines: PyTorch eager, torch.compile, and the primitives on ONNX Runtime's CUDA provider.

Each returns a call on the i-th set of memory, or raises Unavailable with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.rows import INT8_SCALES, Filled
from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.runtimes.session import framework

E_LAMBDA = 1e-4


class Unavailable(RuntimeError):
    """It cannot be run here, and why."""


def first_line(error: Exception) -> str:
    """First line of the message of an error, or its type."""
    said = str(error).strip().partition("\n")[0]
    return said if said and isinstance(error, RuntimeError) else f"{type(error).__name__}: {said}"


def simam(x: Tensor) -> Tensor:
    """As it is published, but for the number of pixels less one being a number."""
    d = (x - x.mean((2, 3), keepdim=True)).pow(2)
    v = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(d / (4 * (v + E_LAMBDA)) + 0.5)


def plain(x: Tensor) -> Tensor:
    """SimAM of floats in their own type."""
    return simam(x)


def int8(x: Tensor) -> Tensor:
    """From int8 to int8, computed in float32."""
    return (simam(x.float() * INT8_SCALES[0]) / INT8_SCALES[2]).round().clamp(-128, 127).to(torch.int8)


def epilogue(x: Tensor, scale: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """A folded BatchNorm, a residual and a ReLU behind it."""
    return torch.relu(simam(x) * scale + bias + residual)


def eager(sets: Sequence[Filled]) -> Callable[[int], object]:
    """PyTorch, operator by operator."""
    return _on(sets, *_function(sets[0]))


def compiled(sets: Sequence[Filled]) -> Callable[[int], object]:
    """torch.compile in its default mode, for these shapes alone.

    Does not keep its autotuning: precompile.py runs on a busy device.
    """
    function, arguments = _function(sets[0])
    torch._dynamo.reset()
    call = _on(sets, torch.compile(function, dynamic=False), arguments)
    try:
        import torch._inductor.config as inductor

        with inductor.patch(autotune_local_cache=False):
            call(0)
    except Exception as error:  # no Triton, no compiler, whatever it may be
        raise Unavailable(first_line(error)) from error
    return call


def _function(of: Filled) -> tuple[Callable[..., Tensor], Callable[[Filled], tuple[Tensor, ...]]]:
    if of.row.op.residual:
        return epilogue, _of_epilogue
    return (int8 if of.row.type == "s8" else plain), lambda each: (each.as_torch(each.x),)


def _of_epilogue(of: Filled) -> tuple[Tensor, ...]:
    assert of.residual is not None
    scale, bias = (each.to(of.x.dtype)[:, None, None] for each in (of.scale, of.bias))
    return of.as_torch(of.x), scale, bias, of.as_torch(of.residual)


def _on(
    sets: Sequence[Filled], function: Callable[..., Tensor], arguments: Callable[[Filled], tuple[Tensor, ...]]
) -> Callable[[int], object]:
    ready = [arguments(each) for each in sets]

    def call(i: int) -> object:
        with torch.inference_mode():
            return function(*ready[i % len(ready)])

    return call


def onnxruntime(sets: Sequence[Filled], stream: int) -> Callable[[int], object]:
    """The primitives of SimAM in ONNX Runtime, on memory of PyTorch."""
    of = sets[0]
    if of.row.type not in ("f32", "f16") or of.row.layout != "NCHW" or of.row.op.affine:
        raise Unavailable("ONNX Runtime: SimAM alone, in float32 and float16, NCHW")
    try:
        ort, model = framework("onnxruntime", "ort", "ort-gpu"), _model(of)
    except (ImportError, RuntimeUnavailable) as error:
        raise Unavailable(f"ONNX Runtime: {error}") from error
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise Unavailable(f"ONNX Runtime {ort.__version__} has no CUDA provider")
    options = {"user_compute_stream": str(stream)}
    session = ort.InferenceSession(model, providers=[("CUDAExecutionProvider", options)])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise Unavailable("ONNX Runtime: its CUDA provider did not load")
    run_options = ort.RunOptions()
    run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    element = "float16" if of.row.type == "f16" else "float32"
    ready = []
    outputs = [torch.empty_like(each.y) for each in sets]
    for each, y in zip(sets, outputs, strict=True):
        binding = session.io_binding()
        binding.bind_input("x", "cuda", 0, element, each.row.shape, each.x.data_ptr())
        binding.bind_output("y", "cuda", 0, element, each.row.shape, y.data_ptr())
        ready.append(binding)

    def call(i: int) -> object:
        session.run_with_iobinding(ready[i % len(ready)], run_options)
        return outputs  # kept alive

    return call


def _model(of: Filled) -> Any:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    images, channels, height, width = of.row.shape
    dtype = np.float16 if of.row.type == "f16" else np.float32
    kind = TensorProto.FLOAT16 if of.row.type == "f16" else TensorProto.FLOAT
    numbers = {"rest": height * width - 1, "four": 4.0, "lambda": E_LAMBDA, "half": 0.5}
    weights = [numpy_helper.from_array(np.asarray(value, dtype), name) for name, value in numbers.items()]
    weights.append(numpy_helper.from_array(np.asarray([2, 3]), "axes"))
    steps = [
        ("ReduceMean", "x axes", "mean"), ("Sub", "x mean", "off"), ("Mul", "off off", "d"),
        ("ReduceSum", "d axes", "s"), ("Div", "s rest", "v"), ("Add", "v lambda", "e"),
        ("Mul", "e four", "f"), ("Div", "d f", "t"),
        ("Add", "t half", "z"), ("Sigmoid", "z", "gate"), ("Mul", "x gate", "y"),
    ]  # fmt: skip
    nodes = [helper.make_node(op, inputs.split(), [output]) for op, inputs, output in steps]
    ends = [helper.make_tensor_value_info(name, kind, (images, channels, height, width)) for name in "xy"]
    graph = helper.make_graph(nodes, "simam", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()
