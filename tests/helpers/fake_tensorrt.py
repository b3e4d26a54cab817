"""A TensorRT without a GPU: as much of its Python API as an ahead-of-time plugin meets, and a builder that asks it.

`module(version)` makes a module `tensorrt` whose `tensorrt.plugin` is fake_tensorrt_plugin.py; or, if the environment
variable SIMAM_TENSORRT_SOURCE names a checkout of NVIDIA/TensorRT, the plugin code in there, on this same core.
"""

import enum
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

SOURCE = os.environ.get("SIMAM_TENSORRT_SOURCE")
_REAL = "python/packaging/bindings_wheel/tensorrt/plugin/__init__.py"


def _enum(name: str, members: str) -> Any:
    return enum.IntEnum(name, members, start=0)


class IDimensionExpr:
    """A number, or None where it is dynamic."""

    def __init__(self, value: int | None) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return self.value is not None

    def get_constant_value(self) -> int:
        assert self.value is not None
        return self.value


class _ExprBuilder:
    def constant(self, value: int) -> IDimensionExpr:
        return IDimensionExpr(value)

    def operation(self, op: Any, a: IDimensionExpr, b: IDimensionExpr) -> IDimensionExpr:
        assert op.name == "SUM", "only the + 0 of a clone is expected"
        return IDimensionExpr(None if a.value is None or b.value is None else a.value + b.value)


class _Dims(list):  # type: ignore[type-arg]
    MAX_DIMS = 8

    def __init__(self, sizes: Any = ()) -> None:
        super().__init__([None] * sizes if isinstance(sizes, int) else sizes)


class PluginTensorDesc:
    def __init__(self, dims: Any = (), type: Any = None, format: Any = None) -> None:
        self.dims, self.type, self.format, self.scale = _Dims(dims), type, format, 1.0


class DynamicPluginTensorDesc:
    def __init__(self, desc: PluginTensorDesc) -> None:
        self.desc = desc
        self.opt = self.min = self.max = desc.dims


class PluginField:
    def __init__(self, name: str, data: Any = None, type: Any = None) -> None:
        self.name, self.data, self.type = name, data, type


class ISymExpr:
    """Has `type`, `dtype` and `expr`."""


class _Interface:
    """What a plugin's classes derive from."""

    def __init__(self) -> None:
        pass


class _Registry:
    def __init__(self) -> None:
        self.creators: dict[tuple[str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> None:
        self.creators[namespace, creator.name] = creator

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators.get((namespace, name)) if version == "1" else None


class _Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.layers: list[Any] = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def module(version: str = "11.1.0.106", name: str = "tensorrt") -> ModuleType:
    """A new `tensorrt` in sys.modules, with `tensorrt.plugin`; the one there, the caller keeps and puts back."""
    trt = ModuleType(name)
    trt.__dict__.update(
        __version__=version,
        DataType=_enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4"),
        TensorFormat=_enum("TensorFormat", "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 HWC HWC16"),
        DimensionOperation=_enum("DimensionOperation", "SUM PROD MAX MIN SUB EQUAL LESS FLOOR_DIV CEIL_DIV"),
        PluginFieldType=_enum("PluginFieldType", "FLOAT16 FLOAT32 FLOAT64 INT8 INT16 INT32 CHAR INT64 UNKNOWN"),
        PluginArgType=_enum("PluginArgType", "INT"),
        PluginArgDataType=_enum("PluginArgDataType", "INT8 INT16 INT32"),
        TensorRTPhase=_enum("TensorRTPhase", "BUILD RUNTIME"),
        QuickPluginCreationRequest=_enum(
            "QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT"
        ),
        LayerType=_enum("LayerType", "CONVOLUTION PLUGIN_V3"),
        NetworkDefinitionCreationFlag=_enum(
            "NetworkDefinitionCreationFlag",
            "EXPLICIT_BATCH STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS PREFER_AOT_PYTHON_PLUGINS",
        ),
        **{
            each.__name__: each
            for each in (IDimensionExpr, PluginTensorDesc, DynamicPluginTensorDesc, PluginField, ISymExpr)
        },
        **{
            each: type(each, (_Interface,), {})
            for each in (
                *("IPluginV3", "IPluginV3QuickCore", "IPluginV3QuickBuild", "IPluginV3QuickAOTBuild"),
                *("IPluginV3QuickRuntime", "IPluginCreatorV3Quick", "ITensor"),
            )
        },
        Dims=_Dims,
        DimsExprs=_Dims,
        PluginFieldCollection=list,
        registry=_Registry(),
        Logger=type("Logger", (), {"WARNING": 2, "__init__": lambda self, severity=2: None, "log": print}),
    )
    trt.get_plugin_registry = lambda: trt.registry  # type: ignore[attr-defined]
    trt.IPluginV3, trt.float32 = trt.__dict__["IPluginV3"], trt.__dict__["DataType"].FLOAT  # type: ignore[attr-defined]
    trt.int32 = trt.__dict__["DataType"].INT32  # type: ignore[attr-defined]
    trt.OnnxParser, trt.Builder = _parser(trt), _builder(trt)  # type: ignore[attr-defined]
    for old in [each for each in sys.modules if each == name or each.startswith(name + ".")]:
        del sys.modules[old]
    sys.modules[name] = trt
    file = Path(SOURCE, _REAL) if SOURCE else Path(__file__).with_name("fake_tensorrt_plugin.py")
    spec = importlib.util.spec_from_file_location(f"{name}.plugin", file)
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    sys.modules[f"{name}.plugin"] = plugin
    spec.loader.exec_module(plugin)
    trt.plugin = plugin  # type: ignore[attr-defined]
    return trt


def _parser(trt: Any) -> Any:
    class OnnxParser:
        num_errors = 1

        def __init__(self, network: _Network, logger: Any) -> None:
            self.network = network

        def get_error(self, index: int) -> str:
            return f"fake error {index}"

        def parse(self, data: bytes, path: str) -> bool:
            """Each node with a `plugin_namespace` is a plugin; only those with `aot` are ahead of time."""
            model = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(data))
            known = [*model.graph.input, *model.graph.value_info, *model.graph.output]
            shapes = {v.name: [d.dim_value or -1 for d in v.type.tensor_type.shape.dim] for v in known}
            types = {v.name: v.type.tensor_type.elem_type for v in known}
            for tensor in model.graph.initializer:
                shapes[tensor.name], types[tensor.name] = list(tensor.dims), tensor.data_type
            kinds = {
                TensorProto.FLOAT: "FLOAT",
                TensorProto.FLOAT16: "HALF",
                TensorProto.BFLOAT16: "BF16",
            }
            for node in model.graph.node:
                attributes = _attributes(node)
                if "plugin_namespace" not in attributes:
                    self.network.layers.append(SimpleNamespace(type=trt.LayerType.CONVOLUTION))
                    continue
                namespace = attributes["plugin_namespace"].decode()
                creator = trt.registry.get_creator(node.op_type, "1", namespace)
                if creator is None:
                    return False
                named = [field.name for field in creator.field_names]
                fields = [
                    PluginField(key, np.array([value], np.float32), trt.PluginFieldType.FLOAT32)
                    for key, value in attributes.items()
                    if key in named
                ]
                request = "STRICT_AOT" if attributes.get("aot") else "UNKNOWN"
                plugin = creator.create_plugin(
                    node.op_type, namespace, fields, trt.TensorRTPhase.BUILD, trt.QuickPluginCreationRequest[request]
                )
                inputs = [(shapes[i], trt.DataType[kinds[types[i]]]) for i in node.input]
                self.network.layers.append(
                    SimpleNamespace(type=trt.LayerType.PLUGIN_V3, plugin=plugin, inputs=inputs, name=node.name)
                )
            return True

    return OnnxParser


def _builder(trt: Any) -> Any:
    class Builder:
        def __init__(self, logger: Any) -> None:
            pass

        def create_network(self, flags: int) -> _Network:
            return _Network(flags)

        def create_builder_config(self) -> Any:
            return None

        def build_serialized_network(self, network: _Network, config: Any) -> bytes | None:
            """The kernels of all plugins in JSON; None where a plugin raised, as TensorRT does."""
            engine = {"flags": network.flags, "kernels": []}
            try:
                for layer in network.layers:
                    if layer.type == trt.LayerType.PLUGIN_V3:
                        engine["kernels"] += ask(trt, layer.plugin, layer.inputs)  # type: ignore[operator]
            except Exception:
                return None
            return json.dumps(engine).encode()

    return Builder


def ask(trt: Any, plugin: Any, inputs: list[tuple[list[int], Any]]) -> list[dict[str, Any]]:
    """What the builder asks a plugin for: the kernel of each layout and tactic, in the order in which it asks."""
    ranks = [len(shape) for shape, _ in inputs]
    (out_type,) = plugin.get_output_data_types([kind for _, kind in inputs], ranks)
    builder = _ExprBuilder()
    exprs = [_Dims([IDimensionExpr(None if size < 0 else size) for size in shape]) for shape, _ in inputs]
    (out,) = plugin.get_output_shapes(exprs, [], builder)
    out_shape = [-1 if each.value is None else each.value for each in out]
    ends = [*inputs, (out_shape, out_type)]
    asked = [DynamicPluginTensorDesc(PluginTensorDesc(shape, kind, trt.TensorFormat.LINEAR)) for shape, kind in ends]
    flat = plugin.get_supported_format_combinations(asked, len(inputs))
    kernels = []
    for start in range(0, len(flat), len(ends)):
        chosen = flat[start : start + len(ends)]
        described = [
            DynamicPluginTensorDesc(PluginTensorDesc(shape, each.type, each.format))
            for (shape, _), each in zip(ends, chosen, strict=True)
        ]
        if any(each.type != kind for each, (_, kind) in zip(chosen, ends, strict=True)):
            continue  # strongly typed
        plugin.configure_plugin(described[:-1], described[-1:])
        for tactic in sorted(plugin.get_valid_tactics()) or [0]:
            plugin.set_tactic(tactic)
            launch, setter = SimpleNamespace(), _Setter()
            plugin.get_launch_params(exprs, described, len(inputs), launch, setter, builder)
            name, code = plugin.get_kernel([d.desc for d in described[:-1]], [described[-1].desc])
            number = {key: value.expr.get_constant_value() for key, value in vars(launch).items()}
            kernels.append(
                {
                    "formats": [each.format.name for each in chosen],
                    "types": [each.type.name for each in chosen],
                    "tactic": tactic,
                    "name": name,
                    "ptx": code.decode() if isinstance(code, bytes) else code,
                    "extra": setter.nbSymExprs,
                    **number,
                }
            )
    return kernels


class _Setter:
    nbSymExprs = 0

    def __setitem__(self, index: int, value: Any) -> None:
        raise AssertionError("no further arguments are expected")
