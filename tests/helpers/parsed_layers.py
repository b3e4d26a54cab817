"""Layers that TensorRT-RTX parses from a file, in a strongly typed network."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IN_A_BLOCK = re.compile(r"\[ONNX Layer: .* \| (.*) \(SimAM\w*\)\]")
FLOATS_AND_INT8 = frozenset({"FLOAT", "HALF", "BF16", "INT8"})


@dataclass(frozen=True)
class Layer:
    """given, made : types of inputs and outputs.  behind : kinds of the layers that make the inputs.

    block : name of the SimAM node whose function it is from, or "".  within : whether its inputs are made there too.
    """

    kind: str
    given: tuple[str, ...]
    made: tuple[str, ...]
    behind: tuple[str, ...]
    block: str = ""
    within: bool = False

    @property
    def computes_in(self) -> str:
        """INT8 between integers, else the type of the first input."""
        return "INT8" if self.behind and set(self.behind) == {"DEQUANTIZE"} else self.given[0]


def parsed_layers(path: Path) -> list[Layer]:
    """All layers. Raises AssertionError if TensorRT-RTX refuses the file."""
    import tensorrt_rtx as trt

    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse_from_file(str(path))
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    maker: dict[str, Layer] = {}
    found = []
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        given = [tensor for tensor in inputs if tensor is not None]
        made = [layer.get_output(i) for i in range(layer.num_outputs)]
        makers = [maker.get(tensor.name) for tensor in given]
        behind = tuple(other.kind if other else "" for other in makers)
        named = IN_A_BLOCK.fullmatch(layer.metadata)
        block = named[1] if named else ""
        within = all(other is not None and other.block == block for other in makers)
        found.append(Layer(layer.type.name, _types(given), _types(made), behind, block, within))
        maker |= {tensor.name: found[-1] for tensor in made}
    return found


def _types(tensors: list[Any]) -> tuple[str, ...]:
    return tuple(tensor.dtype.name for tensor in tensors)


def blocks_in_float32(layers: Iterable[Layer]) -> int:
    """Number of SimAM blocks. Raises AssertionError for a block with other types inside than float32.

    A block casts x, and its y back; sizes are integers. Between those casts nothing may be narrower.
    """
    inside = [layer for layer in layers if layer.block]
    for layer in inside:
        if layer.kind == "CAST":
            narrowed = layer.within and layer.behind == ("CAST",) and layer.made == ("FLOAT",)
            assert not narrowed, f"rounded between two casts: {layer}"
        elif layer.kind != "SHAPE":
            types = FLOATS_AND_INT8 & {*layer.given, *layer.made}
            assert types <= {"FLOAT"}, f"narrower than float32: {layer}"
    blocks = {layer.block for layer in inside}
    for block in blocks:
        sums = [layer for layer in inside if layer.block == block and layer.kind == "REDUCE"]
        assert [layer.given for layer in sums].count(("FLOAT",)) == 2, f"{block} has not two sums: {sums}"
    return len(blocks)
