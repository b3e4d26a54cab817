"""A stand-in for `tensorrt.plugin` of TensorRT 10.9 and newer, as its Python API behaves: loaded by fake_tensorrt.py.

It is as strict as the original about signatures, and calls what was registered with the same arguments.
"""

import inspect
import typing
from typing import Any

import numpy as np
import tensorrt as trt


class _Op:
    pass


op = _Op()


class SymInt32:
    builder: Any = None

    def __init__(self, value: Any = None) -> None:
        assert value is None or isinstance(value, int | SymInt32 | trt.IDimensionExpr), "the original drops others"
        if isinstance(value, SymInt32):
            value = value.expr
        self.expr: Any = SymInt32.builder.constant(value) if isinstance(value, int) and SymInt32.builder else value

    def __call__(self) -> Any:
        made = trt.ISymExpr()
        made.type, made.dtype, made.expr = trt.PluginArgType.INT, trt.PluginArgDataType.INT32, self.expr
        return made


class SymExprs:
    def __init__(self, length: int) -> None:
        self.items: list[Any] = [None] * length

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Any:
        return iter(self.items)


class SymIntExprs(SymExprs):
    pass


class TensorDesc:
    def __init__(self) -> None:
        self.dtype: Any = None
        self.shape_expr: Any = None
        self._shape: Any = None
        self._format: Any = None

    def like(self) -> "TensorDesc":
        other = TensorDesc()
        other.__dict__.update(self.__dict__)
        return other

    @property
    def shape(self) -> Any:
        if self._shape is None:
            raise ValueError("no shape yet")
        return self._shape

    @property
    def format(self) -> Any:
        if self._shape is None:
            raise ValueError("no shape yet")
        return self._format


class AutoTuneCombination:
    def __init__(self, io_types: str, layouts: str, tactics: Any = None) -> None:
        names = {"FP32": "FLOAT", "FP16": "HALF"}
        self.types = [trt.DataType[names.get(each.strip(), each.strip())] for each in io_types.split(",")]
        self.layouts = [trt.TensorFormat[each.strip()] for each in layouts.split(",")]
        assert len(self.layouts) == len(self.types)
        assert all(tactic > 0 for tactic in tactics), "tactics are positive"
        self.tactics = list(tactics)


class KernelLaunchParams:
    _NAMES = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")

    def __init__(self) -> None:
        for name in self._NAMES:
            setattr(self, name, 0 if name == "shared_mem" else 1)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._NAMES:
            raise AttributeError(name)
        self.__dict__[name] = SymInt32(value)


_defined: dict[str, Any] = {}


class _Definition:
    def __init__(self, function: Any) -> None:
        self.register = function
        parameters = inspect.signature(function).parameters
        self.tensors = [key for key, each in parameters.items() if each.annotation is TensorDesc]
        self.attributes = {key: each.annotation for key, each in parameters.items() if key not in self.tensors}
        for key, each in parameters.items():
            assert each.kind is each.POSITIONAL_OR_KEYWORD
            assert each.default is each.empty
            assert each.annotation is not each.empty, key
        assert list(parameters) == [*self.tensors, *self.attributes], "tensors come first"
        assert not {"outputs", "stream", "tactic"} & set(self.attributes)
        assert inspect.signature(function).return_annotation is TensorDesc
        self.autotune: Any = None
        self.aot_impl: Any = None


def register(identity: str) -> Any:
    namespace, name = identity.split("::")
    assert namespace not in ("", "trt", "tensorrt", "std")

    def decorator(function: Any) -> Any:
        if hasattr(op, identity):
            raise ValueError(f"there is a definition for {identity}")
        setattr(op, identity, True)
        definition = _defined[identity] = _Definition(function)
        trt.get_plugin_registry().register_creator(_Creator(name, definition), namespace)
        return function

    return decorator


def autotune(identity: str) -> Any:
    def decorator(function: Any) -> Any:
        definition = _defined[identity]
        assert list(inspect.signature(function).parameters) == [
            *definition.tensors,
            *definition.attributes,
            "outputs",
        ]
        definition.autotune = function
        return function

    return decorator


def aot_impl(identity: str) -> Any:
    def decorator(function: Any) -> Any:
        definition = _defined[identity]
        signature = inspect.signature(function)
        expected = [*definition.tensors, *definition.attributes, "outputs", "tactic"]
        assert list(signature.parameters) == expected
        for key, annotation in definition.attributes.items():
            assert signature.parameters[key].annotation == annotation
        assert typing.get_origin(signature.return_annotation) is tuple
        name, code, launch, extra = typing.get_args(signature.return_annotation)
        assert {name, code} <= {str, bytes}
        assert issubclass(launch, KernelLaunchParams)
        assert issubclass(extra, SymExprs)
        definition.aot_impl = function
        return function

    return decorator


class _Creator:
    def __init__(self, name: str, definition: _Definition) -> None:
        self.name, self.definition = name, definition
        self.field_names = [trt.PluginField(key) for key in definition.attributes]

    def create_plugin(self, name: str, namespace: str, fields: Any, phase: Any, request: Any = None) -> "_Plugin":
        assert request == trt.QuickPluginCreationRequest.STRICT_AOT, "not asked for ahead of time"
        attributes = {}
        for field in fields:
            wanted = self.definition.attributes[field.name]
            element = typing.get_args(typing.get_args(wanted)[1])[0]  # a numpy array; `float` would be float(array)
            attributes[field.name] = field.data.astype(element)
        return _Plugin(self.definition, attributes)


class _Plugin:
    def __init__(self, definition: _Definition, attributes: dict[str, np.ndarray[Any, Any]]) -> None:
        self.definition, self.attributes = definition, attributes
        self.kernels: dict[Any, Any] = {}

    def _describe(self, types: Any, shapes: Any) -> Any:
        self.inputs = [TensorDesc() for _ in types]
        for desc, kind, shape in zip(self.inputs, types, shapes, strict=True):
            desc.dtype, desc.shape_expr = kind, shape
        self.output = self.definition.register(*self.inputs, **self.attributes)
        return self.output

    def get_output_data_types(self, types: Any, ranks: Any) -> Any:
        self.types = types
        return [self._describe(types, [None] * len(types)).dtype]

    def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> Any:
        return [self._describe(self.types, inputs).shape_expr]

    def _look(self, described: Any) -> None:
        for desc, seen in zip([*self.inputs, self.output], described, strict=True):
            desc.dtype, desc._shape, desc._format = seen.desc.type, seen.desc.dims, seen.desc.format

    def get_supported_format_combinations(self, described: Any, count: int) -> Any:
        self._look(described)
        made = self.definition.autotune(*self.inputs, *self.attributes.values(), [self.output])
        self.tactics = {(tuple(each.types), tuple(each.layouts)): each.tactics for each in made}
        return [
            trt.PluginTensorDesc((), kind, layout)
            for each in made
            for kind, layout in zip(each.types, each.layouts, strict=True)
        ]

    def _key(self, described: Any) -> Any:
        return tuple(each.desc.type for each in described), tuple(each.desc.format for each in described)

    def configure_plugin(self, inputs: Any, outputs: Any) -> None:
        self.current = self._key([*inputs, *outputs])

    def get_valid_tactics(self) -> Any:
        return self.tactics[self.current]

    def set_tactic(self, tactic: int) -> None:
        self.tactic = tactic

    def get_launch_params(
        self, exprs: Any, described: Any, count: int, launch: Any, setter: Any, builder: Any
    ) -> None:
        SymInt32.builder = builder
        self._look(described)
        name, code, params, extra = self.definition.aot_impl(
            *self.inputs, *self.attributes.values(), [self.output], self.tactic
        )
        assert isinstance(name, str | bytes)
        assert isinstance(code, str | bytes)
        for key, value in vars(params).items():
            setattr(launch, key, value())
        self.kernels[self._key(described), self.tactic] = name, code
        setter.nbSymExprs = len(extra)
        for i, each in enumerate(extra):
            setter[i] = each()
        SymInt32.builder = None

    def get_kernel(self, inputs: Any, outputs: Any) -> Any:
        every = [*inputs, *outputs]
        key = tuple(each.type for each in every), tuple(each.format for each in every)
        name, code = self.kernels[key, self.tactic]
        return name, code.encode() if isinstance(code, str) else code
