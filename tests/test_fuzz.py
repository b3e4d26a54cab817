"""Small valid files with a few bytes or fields changed: fuse works, or says that the file is at fault."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import CHAIN, model

from simam_deploy.errors import InputError
from simam_deploy.forms import alone
from simam_deploy.fuse import fuse_file

SEEDS = 60
OPERATORS = (
    "Mul",
    "Div",
    "Sigmoid",
    "If",
    "Loop",
    "Shape",
    "Cast",
    "Reshape",
    "Concat",
    "SimAM",
    "Constant",
    "Range",
    "",
)
NUMBERS = (0, -1, 1, 2, 7, 2**31, 2**63 - 1, -(2**63))


def seeds() -> list[bytes]:
    """Files to start from: spelled out, dynamic, and with a function."""
    shape = CHAIN.replace("(s, n)", "(s, n2)").replace(
        "   mean =",
        "   size = Shape (x)\n   at = Gather (size, hw)\n   m = ReduceProd <keepdims: int = 0> (at)\n"
        "   mf = Cast <to: int = 1> (m)\n   one = Constant <value_float = 1.0> ()\n   n2 = Sub (mf, one)\n   mean =",
    )
    models = (model(), model(shape, shape="n, 3, h, w"), alone("function", (2, 3, 5, 7)))
    return [ir.to_proto(m).SerializeToString() for m in models]


def flipped(whole: bytes, rng: np.random.Generator) -> bytes:
    broken = bytearray(whole)
    for at in rng.integers(len(whole), size=rng.integers(1, 5)):
        broken[at] = rng.integers(256)
    return bytes(broken)


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes of fields: what a node reads, does and makes; sizes, types and values."""
    proto = onnx.ModelProto.FromString(whole)
    for _ in range(rng.integers(1, 4)):
        scope = proto.functions[0] if proto.functions and rng.random() < 0.7 else proto.graph
        node = scope.node[rng.integers(len(scope.node))] if scope.node else onnx.NodeProto()
        names = [name for other in scope.node for name in (*other.input, *other.output)] or [""]
        name = names[rng.integers(len(names))]
        number = NUMBERS[rng.integers(len(NUMBERS))]
        tensors = proto.graph.initializer
        dims = [d for v in (*proto.graph.input, *proto.graph.output) for d in v.type.tensor_type.shape.dim]
        match rng.integers(11):
            case 0 if node.input:
                node.input[rng.integers(len(node.input))] = name
            case 1 if node.output:
                node.output[rng.integers(len(node.output))] = name
            case 2:
                node.op_type = OPERATORS[rng.integers(len(OPERATORS))]
            case 3 if scope.node:
                del scope.node[rng.integers(len(scope.node))]
            case 4:
                scope.node.add().CopyFrom(node)
            case 5 if dims:
                dims[rng.integers(len(dims))].dim_value = number
            case 6 if node.attribute:
                attribute = node.attribute[0]
                attribute.i = number
                attribute.type = int(rng.integers(15))  # type: ignore[assignment]
            case 7 if tensors:
                tensors[rng.integers(len(tensors))].dims.append(number)
            case 8 if tensors:
                tensors[rng.integers(len(tensors))].data_type = int(rng.integers(30))
            case 9 if tensors:
                tensors[rng.integers(len(tensors))].raw_data = rng.bytes(int(rng.integers(9)))
            case _ if proto.graph.input:
                proto.graph.input[0].type.tensor_type.elem_type = int(rng.integers(30))
    return proto.SerializeToString()


@pytest.mark.parametrize("change", [flipped, mutated])
def test_changed_files_leave_no_trace(change: object, tmp_path: Path) -> None:
    outcomes = set()
    for seed in range(SEEDS):
        outcomes |= {outcome(change, seed, whole, tmp_path) for whole in seeds()}
    assert outcomes >= {"works", "ModelFileError", "NoBlockError"}


def outcome(change: object, seed: int, whole: bytes, folder: Path) -> str:
    assert callable(change)
    (folder / "broken.onnx").write_bytes(change(whole, np.random.default_rng(seed)))
    try:
        fuse_file(folder / "broken.onnx", folder / "out.onnx", "primitive")
    except InputError as error:
        return type(error).__name__
    except Exception as error:
        raise AssertionError(f"seed {seed}, file {seeds().index(whole)}") from error
    return "works"
