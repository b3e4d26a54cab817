"""What a parser made of each SimAM block: one plugin layer, or the layers of its fallback definition."""

from __future__ import annotations

from collections import Counter
from typing import Any


def parsed_blocks(
    trt: Any, network: Any, names: list[str], settled: list[str], *, kinds: bool = False
) -> list[dict[str, Any]]:
    """A record for each block of `names`, the names of its nodes: node, built, layers, types.

    settled : of our_functions.settle.  kinds : count the layers of each by kind too, as `kinds_of`.
    built : "plugin", "fallback", or "" for blocks in operators of their own, as in the form primitive.
    """
    layers = layers_of(network)
    found = []
    for name in names:
        mine = [layer for layer in layers if _is_of(layer, name)]
        plugins = [layer for layer in mine if layer.type == trt.LayerType.PLUGIN_V3]
        types = sorted({layer.get_output(0).dtype.name for layer in mine if layer.num_outputs})
        fallback = any(call == name or call.startswith(f"{name}/") for call in settled)
        built = "plugin" if plugins else "fallback" if fallback else ""
        found.append({"node": name, "built": built, "layers": len(mine), "types": types})
        if kinds:
            found[-1]["kinds"] = kinds_of(mine)
    return found


def layers_of(network: Any) -> list[Any]:
    """All layers of a network."""
    return [network.get_layer(at) for at in range(network.num_layers)]


def kinds_of(layers: list[Any]) -> dict[str, int]:
    """Number of layers by kind and type of the first result, as "CONVOLUTION HALF"."""
    found: Counter[str] = Counter()
    for layer in layers:
        dtype = layer.get_output(0).dtype.name if layer.num_outputs else "-"
        found[f"{layer.type.name} {dtype}"] += 1
    return dict(sorted(found.items()))


def _is_of(layer: Any, node: str) -> bool:
    """By the metadata, as `[ONNX Layer: node_mul_2/mean]`, or the name, of a plugin."""
    words = f"{layer.metadata or ''}"
    return layer.name == node or f"[ONNX Layer: {node}/" in words or f"[ONNX Layer: {node}]" in words
