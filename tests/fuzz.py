"""Small valid files with a few bytes or fields changed, and whether fuse and inspect treat them well.

    python tests/fuzz.py 5000

tries so many and prints those that are treated badly.
"""

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper
from onnx_models import CHAIN, model

from simam_deploy import onnx_file
from simam_deploy.blocks import find
from simam_deploy.errors import FormError, InputError
from simam_deploy.forms import alone
from simam_deploy.fuse import fuse_file

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


def a_float(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)


def edited(whole: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes after which most files are valid still: some hold SimAM, some something very like it."""
    proto = onnx.ModelProto.FromString(whole)
    for _ in range(rng.integers(1, 4)):
        scope = proto.functions[0] if proto.functions and rng.random() < 0.7 else proto.graph
        at = int(rng.integers(len(scope.node)))
        node = scope.node[at]
        name, new = (node.output or [""])[0], f"new{len(scope.node)}"
        scalars = [tensor for tensor in proto.graph.initializer if not tensor.dims]
        match rng.integers(7):
            case 0 if scope is proto.graph:  # others see an inner value
                proto.graph.output.append(a_float(name))
            case 1 if scope is proto.graph:
                scope.node.add(op_type="Relu", input=[name], output=[new], name=node.name)
                proto.graph.output.append(a_float(new))
            case 2 if node.input:
                op = ("Identity", "Neg", "Relu", "Sqrt", "Floor")[rng.integers(5)]
                inserted = onnx.NodeProto(op_type=op, input=[node.input[0]], output=[new])
                node.input[0] = new
                scope.node.insert(at, inserted)
            case 3 if len(node.input) == 2:
                node.input[:] = node.input[::-1]
            case 4 if scalars:
                tensor = scalars[rng.integers(len(scalars))]
                value = numpy_helper.to_array(tensor) * np.float32((1 + 1e-6, 1 + 1e-3, 2, -1)[rng.integers(4)])
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
            case 5:
                for other in scope.node:
                    other.name = ("", "n", "x", "y/y", name)[rng.integers(5)]
            case _ if len(node.input) == 2:
                node.op_type = ("Mul", "Add", "Sub", "Div", "Max", "Pow")[rng.integers(6)]
    return proto.SerializeToString()


SEEDS = seeds()
CHANGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (flipped, mutated, edited, edited)
MOST_NUMBERS = 2**20
"""Of the inputs of a mutant that is run."""
TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-4}
"""Of the largest output. Statistics in float16 lose digits, and ours are in float32."""


def outcome(seed: int, folder: Path) -> str:
    """What comes of one mutant. Raises AssertionError where it is a fault of ours."""
    change, whole = CHANGES[seed % 4], SEEDS[seed // 4 % 3]
    source, target = folder / "broken.onnx", folder / "out.onnx"
    source.write_bytes(change(whole, np.random.default_rng(seed)))
    target.unlink(missing_ok=True)
    try:
        with onnx_file.blaming(source):
            find(onnx_file.load(source))
        fuse_file(source, target, ("primitive", "function")[seed // 12 % 2])
    except (InputError, FormError) as error:
        assert not target.exists()
        return type(error).__name__
    before = outputs(source)
    if before is None:
        return "works, and does not run"
    after = outputs(target)
    assert after is not None, "it is not loaded, or does not run, any more"
    for name, value in before.items():
        if value.dtype.name in TOLERANCE:
            limit = TOLERANCE[value.dtype.name] * np.abs(value[np.isfinite(value)]).max(initial=1e-3)
            np.testing.assert_allclose(after[name], value, rtol=0, atol=limit, err_msg=name)
        else:
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    return "works, and computes the same"


def outputs(file: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None:
    """By name, for inputs that are made; None where ONNX Runtime does not load or run it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        feeds = {}
        for value in session.get_inputs():
            kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
            sizes = [size if isinstance(size, int) else 4 + at for at, size in enumerate(value.shape)]
            if np.prod(sizes, dtype=float) > MOST_NUMBERS:
                return None
            feeds[value.name] = rng.standard_normal(sizes).astype(kind[value.type])
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception:  # of ONNX Runtime, in any type, or of an input that is none
        return None


def main(count: int) -> int:
    """Try so many. The number of those that are treated badly."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            try:
                outcomes[outcome(seed, Path(folder))] += 1
            except Exception as error:
                outcomes["fault"] += 1
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(dict(outcomes))
    return outcomes["fault"]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    raise SystemExit(bool(main(int(sys.argv[1]))))
