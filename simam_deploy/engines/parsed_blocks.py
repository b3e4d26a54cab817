"""What a parser made of each SimAM block: one plugin layer, or the layers of its fallback definition."""

from __future__ import annotations

from typing import Any


def parsed_blocks(trt: Any, network: Any, names: list[str]) -> list[dict[str, Any]]:
    """A record for each block of `names`, the names of its nodes: node, built, layers, types.

    built : "plugin", "fallback", or "" where no layer names the block, as in the form primitive.
    """
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    found = []
    for name in names:
        mine = [layer for layer in layers if _is_of(layer, name)]
        plugins = [layer for layer in mine if layer.type == trt.LayerType.PLUGIN_V3]
        types = sorted({layer.get_output(0).dtype.name for layer in mine if layer.num_outputs})
        built = "plugin" if plugins else "fallback" if mine else ""
        found.append({"node": name, "built": built, "layers": len(mine), "types": types})
    return found


def _is_of(layer: Any, node: str) -> bool:
    """By the metadata, as `[ONNX Layer: mean | node_mul_2 (SimAM)]`, or the name, of a plugin."""
    words = f"{layer.metadata or ''}"
    return layer.name == node or f"| {node} (" in words or f"[ONNX Layer: {node}]" in words
