"""Layers that TensorRT-RTX lacks for some or all targets, told before the builder starts.

The builder tells them in the words of its compiler, and one at a time. Found by building each layer alone for each
target, with TensorRT-RTX 1.7.1: tests/engines/test_target_limits.py repeats that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

TURING = "sm75"
PRODUCTS = ("MATRIX_MULTIPLY", "EINSUM")
CONVOLUTIONS = ("CONVOLUTION", "DECONVOLUTION")
SHAPE = "SHAPE"
ENDS = {
    "CONDITION": ("IConditionLayer", "conditional"),
    "CONDITIONAL_OUTPUT": ("IIfConditionalOutputLayer", "conditional"),
    "TRIP_LIMIT": ("ITripLimitLayer", "loop"),
    "LOOP_OUTPUT": ("ILoopOutputLayer", "loop"),
}
"""Class of each kind of layer, with its attribute of the If or the loop."""
VOLUME = 5
"""Dimensions of the input of a convolution over three axes."""
FEW = 3
"""Layers that the message names."""


def reason_against(network: Any, targets: Sequence[str]) -> str:
    """Reason why TensorRT-RTX would refuse a parsed network for `targets`, with the remedy; "" if none is known.

    Layers that no output needs do not count: the builder removes them.
    """
    if not targets:
        return ""
    needed = _needed(network)
    nowhere = [(layer.name, "a transposed convolution in bfloat16") for layer in needed if _lost(layer)]
    if nowhere:
        kept = " ".join(f"--keep-float {name}" for name, _ in nowhere)
        return (
            f"TensorRT-RTX lacks this for every GPU:{_named(nowhere)}\n"
            f"keep it in float32: simam-deploy convert FLOAT.onnx -o OUT.onnx --to bf16 {kept}"
        )
    if TURING not in targets:
        return ""
    found = [(layer.name, why) for layer in needed if (why := _lacks(layer))]
    if not found:
        return ""
    others = ", ".join(target for target in targets if target != TURING)
    also = f" ({others} can)" if others else ""
    return (
        f"GPUs of the kind {TURING} cannot run these layers in TensorRT-RTX{also}:{_named(found)}\n"
        f"leave {TURING} out of --targets, or use float16, which it runs: "
        "simam-deploy convert FLOAT.onnx -o HALF.onnx --to fp16 (or --to int8+fp16 --target tensorrt)"
    )


def _named(found: Sequence[tuple[str, str]]) -> str:
    lines = [f"\n  {name}: {why}" for name, why in found[:FEW]]
    return "".join(lines) + (f"\n  and {len(found) - FEW} more" if len(found) > FEW else "")


def _lost(layer: Any) -> bool:
    """Whether no target has it."""
    return layer.type.name == "DECONVOLUTION" and "BF16" in _types(layer)


def _lacks(layer: Any) -> str:
    """Name of what TURING lacks, or ""."""
    kind, types = layer.type.name, _types(layer)
    if "BF16" in types and kind != SHAPE:
        return "bfloat16"
    if "FLOAT" not in types:
        return ""
    if kind in PRODUCTS and layer.num_inputs > 1:
        return "a matrix product in float32"
    if kind in CONVOLUTIONS and len(layer.get_input(0).shape) == VOLUME:
        return "a convolution over three axes in float32"
    return ""


def _types(layer: Any) -> set[str]:
    return {tensor.dtype.name for tensor in (*_inputs(layer), *_outputs(layer))}


def _needed(network: Any) -> list[Any]:
    """The layers whose values an output needs, in the order of the network. A shape needs no value."""
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    maker = {tensor.name: at for at, layer in enumerate(layers) for tensor in _outputs(layer)}
    holders = {at: holder for at, layer in enumerate(layers) if (holder := _holder(layer)) is not None}
    waiting = [network.get_output(at).name for at in range(network.num_outputs)]
    seen: set[int] = set()
    while waiting:
        at = maker.get(waiting.pop())
        if at is not None and at not in seen:
            seen.add(at)
            if layers[at].type.name != SHAPE:
                waiting += [tensor.name for tensor in _inputs(layers[at])]
            if at in holders:  # with an output of a branch or a loop, its condition or length
                ends = (layers[end] for end, holder in holders.items() if holder is holders[at])
                waiting += [tensor.name for end in ends if not end.num_outputs for tensor in _inputs(end)]
    return [layer for at, layer in enumerate(layers) if at in seen]


def _holder(layer: Any) -> Any:
    """The If or the loop whose condition, length or output a layer is; None for other layers."""
    if layer.type.name not in ENDS:
        return None
    kind, holder = ENDS[layer.type.name]
    layer.__class__ = getattr(sys.modules[type(layer).__module__], kind)  # the API gives an ILayer
    return getattr(layer, holder)


def _inputs(layer: Any) -> list[Any]:
    held = (layer.get_input(at) for at in range(layer.num_inputs))
    return [tensor for tensor in held if tensor is not None]


def _outputs(layer: Any) -> list[Any]:
    held = (layer.get_output(at) for at in range(layer.num_outputs))
    return [tensor for tensor in held if tensor is not None]
