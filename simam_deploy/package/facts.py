"""Facts about an ONNX file that recipes need: inputs, outputs, shapes, precision, SimAM nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from simam_deploy.engines.int8_parsing import unparsed_int8
from simam_deploy.engines.profiles import WantedShapes, profiles_of
from simam_deploy.engines.shape_ranges import ShapeRange
from simam_deploy.errors import InputError
from simam_deploy.formula import BLOCKED_DOMAIN, INT8_DOMAIN, OP_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.graph.traverse import nodes
from simam_deploy.match.half_sums import half_note
from simam_deploy.package.quoting import printable
from simam_deploy.text import counted, on_one_line

FOR_ONE_CPU = (BLOCKED_DOMAIN, INT8_DOMAIN)
KNOWN = ("", "ai.onnx", OP_DOMAIN, *FOR_ONE_CPU)
OUR_DOMAINS = (OP_DOMAIN, *FOR_ONE_CPU)
NAMESPACE = "plugin_namespace"
"""Attribute by which TensorRT's parser finds the plugin of a node."""


@dataclass(frozen=True)
class TensorFacts:
    """An input or output. dtype : a number of onnx.TensorProto.  dims : None where the file has no shape, and in it
    for a dynamic axis."""

    name: str
    dtype: int
    dims: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Facts:
    """profiles : the shapes of the dynamic inputs, if they were asked for.  weights : other files with weights.

    simam : number of SimAM nodes, functions included.  bare : those without a fallback definition in the file.
    named : whether each of them names its namespace, so that TensorRT's parser looks for a plugin.
    notes : on the shapes.  batched : whether the first axis is dynamic, by one name, in all inputs and outputs.
    one_cpu : number of nodes for one kind of CPU.  foreign : operators of other domains without a definition.
    """

    path: Path
    opset: int
    precision: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    profiles: Mapping[str, ShapeRange]
    weights: tuple[Path, ...]
    simam: int
    bare: int
    named: bool
    one_cpu: int
    foreign: tuple[str, ...]
    notes: tuple[str, ...] = ()
    batched: bool = False
    unparsed: str = ""
    primitive: int = 0
    half: str = ""

    @property
    def title(self) -> str:
        """The file in a comment."""
        parts = [counted(self.simam, "SimAM node")] if self.simam or not self.primitive else []
        if self.primitive:
            parts.append(f"{counted(self.primitive, 'SimAM block')} in primitive operators")
        return f"{self.path} ({self.precision}, opset {self.opset}, {', '.join(parts)})"

    @property
    def remarks(self) -> list[str]:
        """The notes on the shapes as comments, since these shapes are in the lines too."""
        return [f"# Shapes: {on_one_line(note)}" for note in self.notes]

    @property
    def warnings(self) -> list[str]:
        """A note on blocks that overflow; none without any."""
        return [self.half] if self.half else []

    def best(self, tensor: TensorFacts) -> tuple[int, ...]:
        """Shape of an input: that of the profile to be fastest at, or the fixed one."""
        if tensor.name in self.profiles:
            return self.profiles[tensor.name].opt
        return tuple(size or 1 for size in tensor.dims or ())


def read(path: Path, shapes: WantedShapes | None, *, with_profiles: bool) -> Facts:
    """Read a file. Raises InputError (ModelFileError), also for a missing shape, as `build_engine` does.

    with_profiles : every dynamic input needs its shape.
    """
    from simam_deploy.match.find import find  # the search is loaded when it is used

    printable("the file", path)
    proto, graph = onnx_file.both(path)
    with onnx_file.blaming(path):
        profiles, notes = profiles_of(proto, graph, shapes) if with_profiles else ({}, [])
        unparsed = unparsed_int8(graph)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = _tensors("input", (value for value in proto.graph.input if value.name not in weights))
    defined = {(function.domain, function.name) for function in proto.functions}
    everything = list(nodes(proto))
    ours = [node for node in everything if node.domain == OP_DOMAIN]
    with onnx_file.blaming(path):  # the search takes its time, and a fused file needs none
        others = () if any(node.domain in OUR_DOMAINS for node in everything) else find(graph).blocks
    one_cpu = sum(node.domain in FOR_ONE_CPU for node in everything)
    bare = one_cpu + sum((node.domain, node.op_type) not in defined for node in ours)
    given = (value for value in (*proto.graph.input, *proto.graph.output) if value.name not in weights)
    first = {next((dim.dim_param for dim in value.type.tensor_type.shape.dim), "") for value in given}
    outside = sorted(onnx_file.weight_files(proto, path))
    for other in outside:
        printable("a file of weights", other)
    return Facts(
        path=path,
        opset=graph.opset_imports.get("", 0),
        precision=precision(graph),
        inputs=inputs,
        outputs=_tensors("output", proto.graph.output),
        profiles=profiles,
        notes=tuple(notes),
        unparsed=unparsed,
        primitive=len(others),
        half=half_note(others, path),
        batched=len(first) == 1 and "" not in first,
        weights=tuple(outside),
        simam=len(ours) + one_cpu,
        bare=bare,
        named=all(any(given.name == NAMESPACE for given in node.attribute) for node in ours),
        one_cpu=one_cpu,
        foreign=tuple(
            sorted(
                {
                    on_one_line(f"{node.domain}::{node.op_type}")
                    for node in everything
                    if node.domain not in KNOWN and (node.domain, node.op_type) not in defined
                }
            )
        ),
    )


def refuse_without_library(facts: Facts, library: Path | None, what: str) -> None:
    """Raise InputError if nodes need our library and none is named, or one is named and no node needs it.

    what : the library in messages.
    """
    if facts.one_cpu and library is None:
        raise InputError(
            f"{facts.path} is specialised for one kind of CPU, so this host needs {what}; name it with --plugin"
        )
    if facts.bare and library is None:
        raise InputError(
            f"{facts.path} has {counted(facts.bare, 'SimAM node')} without a fallback definition (form custom_op), "
            f"so this host needs {what}; name it with --plugin\n"
            f"or put the definition in: simam-deploy fuse {facts.path} -o OUT.onnx --form function"
        )
    if not facts.simam and library is not None:
        raise InputError(
            f"{facts.path} has no SimAM node, so {library} has nothing to do; leave --plugin out\n"
            f"or write the nodes first: simam-deploy fuse {facts.path} -o OUT.onnx"
        )


def refuse_for_one_cpu(facts: Facts, host: str) -> None:
    """Raise InputError for a file that was specialised for a CPU."""
    if facts.one_cpu:
        raise InputError(
            f"{facts.path} is specialised for one kind of CPU, and {host} cannot run it\n"
            "take the file that it was made of"
        )


def _tensors(what: str, values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorFacts, ...]:
    found = []
    for value in values:
        name = printable(f"the name of an {what}", value.name)
        if not value.type.HasField("tensor_type"):
            raise InputError(f"{what} {name!r} is no tensor, and recipes take tensors alone")
        kind = value.type.tensor_type
        dims = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim)
        found.append(TensorFacts(name, kind.elem_type, dims if kind.HasField("shape") else None))
    return tuple(found)
