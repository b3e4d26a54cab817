"""What the files made to do harm are put together from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from helpers.onnx_models import model as simam
from onnx import TensorProto, helper

F = TensorProto.FLOAT
Build = Callable[[], onnx.ModelProto]
Beside = Callable[[Path], object]


class Files(dict[str, Callable[[], bytes]]):
    """ONNX files by name: each a function that returns the bytes. `beside` : what lies in the folder of some."""

    def __init__(self, *others: "Files") -> None:
        super().__init__({name: make for other in others for name, make in other.items()})
        self.beside: dict[str, Beside] = {name: make for other in others for name, make in other.beside.items()}

    def add(self, build: Build, name: str = "", beside: Beside | None = None) -> Build:
        """One more, by the name of the function that builds it if it is given no other.

        beside : given the folder of the file, puts there what belongs to it."""
        self[name or build.__name__] = lambda: build().SerializeToString()
        if beside is not None:
            self.beside[name or build.__name__] = beside
        return build

    def write(self, name: str, folder: Path) -> Path:
        """Write one, and what belongs to it, into a new folder of its own below `folder`."""
        path = folder / name / f"{name}.onnx"
        path.parent.mkdir()
        path.write_bytes(self[name]())
        if name in self.beside:
            self.beside[name](path.parent)
        return path


def network(nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
    """x, (1, 3, 4, 4), and cond -> y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [1, 3, 4, 4]), helper.make_tensor_value_info("cond", 9, [])],
        [helper.make_tensor_value_info("y", F, ["a", "b", "c", "d"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=9)


def block() -> onnx.ModelProto:
    """SimAM between two Relus."""
    return ir.to_proto(simam())


def row(ops: Sequence[str], domain: str = "", **more: Any) -> list[onnx.NodeProto]:
    """x -> ops one after the other -> y."""
    names = ["x", *(f"t{i}" for i in range(1, len(ops))), "y"]
    return [
        helper.make_node(op, [a], [b], domain="" if op == "Relu" else domain, **more)
        for op, a, b in zip(ops, names, names[1:], strict=False)
    ]


def function(name: str, ops: Sequence[str]) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["x"], ["y"], row(ops, "f"), opsets)
