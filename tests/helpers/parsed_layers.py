"""Layers that TensorRT-RTX parses from a file, in a strongly typed network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Layer:
    """given, made : types of inputs and outputs.  behind : kinds of the layers that make the inputs."""

    kind: str
    given: tuple[str, ...]
    made: tuple[str, ...]
    behind: tuple[str, ...]


def parsed_layers(path: Path) -> list[Layer]:
    """All layers. Raises AssertionError if TensorRT-RTX refuses the file."""
    import tensorrt_rtx as trt

    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse_from_file(str(path))
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    maker: dict[str, str] = {}
    found = []
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        given = [tensor for tensor in inputs if tensor is not None]
        made = [layer.get_output(i) for i in range(layer.num_outputs)]
        kind, behind = layer.type.name, tuple(maker.get(tensor.name, "") for tensor in given)
        found.append(Layer(kind, _types(given), _types(made), behind))
        maker |= {tensor.name: kind for tensor in made}
    return found


def _types(tensors: list[Any]) -> tuple[str, ...]:
    return tuple(tensor.dtype.name for tensor in tensors)
