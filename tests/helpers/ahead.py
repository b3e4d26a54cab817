"""What the tests of ahead-of-time plugins start from."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from simam_deploy.errors import NativeError
from simam_deploy.experimental.ahead_of_time import Device, Options, build, compiler, source
from simam_deploy.formula import OPS
from simam_deploy.rewrite.forms import function

CUDA = Path(__file__).parents[2] / "plugins/cuda"
H200 = Device(132, 90, 60 << 20, (9, 9))
A100 = Device(108, 80, 40 << 20, (9, 9))
TYPES = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


def need_planner() -> None:
    """Skip where libsimam_ahead.so was not built."""
    try:
        source._library()
    except NativeError as error:
        pytest.skip(str(error))


def case(
    name: str = "SimAM", shape: Any = (1, 64, 56, 56), kind: str = "FP16", group: int = 1, tactic: int = 1
) -> Any:
    return source.KernelCase(OPS[name], shape, kind, group, 0.1, tactic)


def number(text: str, name: str) -> int:
    found = re.search(rf"p\.{name} = (?:as_float\()?(\w+?)U?\)?;", text)
    assert found, name
    return int(found[1], 0)


def bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


class Echo(compiler.Compiler):
    """Writes PTX with the entry of the source, and nothing in it."""

    version = "9.0"

    def __init__(self) -> None:
        super().__init__(Path("echo"))

    def __call__(self, source: str, *, entry: str, capability: int, headers: Path) -> compiler.Ptx:
        names = re.search(r"SIMAM_ENTRY\(([^)]*)\)", source)
        cluster = re.search(r"__cluster_dims__\((\d+)", source)
        assert names
        parameters = ",".join(f".param .u64 {entry}_{i}" for i in range(names[1].count(",") + 1))
        lines = [f".version {self.version}", f".target sm_{capability}", f".visible .entry {entry}({parameters})"]
        lines += [f".reqnctapercluster {cluster[1]}, 1, 1"] if cluster else []
        return compiler.read("\n".join([*lines, "{ ret; }"]))


def model(name: str, shape: tuple[Any, ...], kind: str = "FP16", **attributes: Any) -> onnx.ModelProto:
    """One operator, with its fallback definition."""
    op = OPS[name]
    x = helper.make_tensor_value_info("x", TYPES[kind], shape)
    y = helper.make_tensor_value_info("y", TYPES[kind], shape)
    residual = [helper.make_tensor_value_info("r", TYPES[kind], shape)] if op.residual else []
    numbers = [
        helper.make_tensor(each, TensorProto.FLOAT, shape[1:2], [1.0] * shape[1]) for each in "ab" if op.affine
    ]
    inputs = ["x", *(each.name for each in numbers), *(each.name for each in residual)]
    node = helper.make_node(name, inputs, ["y"], name="n", domain="simam", **attributes)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("simam", 1)]
    (body,) = function.functions(17, [name], {ir.DataType(TYPES[kind])})
    graph = helper.make_graph([node], "g", [x, *residual], [y], numbers)
    return helper.make_model(graph, functions=[ir.serde.serialize_function(body)], opset_imports=opsets, ir_version=8)


def built(tmp_path: Path, trt: ModuleType, proto: onnx.ModelProto, options: Options) -> list[dict[str, Any]]:
    onnx.save(proto, tmp_path / "m.onnx")
    build(tmp_path / "m.onnx", tmp_path / "m.engine", tensorrt=trt, options=options)
    kernels: list[dict[str, Any]] = json.loads((tmp_path / "m.engine").read_bytes())["kernels"]
    return kernels
