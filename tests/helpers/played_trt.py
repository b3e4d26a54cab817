"""A TensorRT that runs engines on a played GPU: each class has the names of its version alone.

An engine is a header, a line of JSON and an ONNX file, which ONNX Runtime computes. It checks types of arguments as
the signatures of the bindings do, and order: shapes in the profile, shapes before addresses are read, one stream.
"""

import importlib.machinery
import inspect
import json
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from helpers.played_engine import Profile
from helpers.played_gpu import Fault, PlayedGpu
from simam_deploy.engines import header as headers
from simam_deploy.engines.api_table import Api, FlavorName

TYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16"}


class Named:
    """A member of an enum."""

    def __init__(self, name: str) -> None:
        self.name = name


class Dims:
    """As the bindings give it: iterable, and no tuple."""

    def __init__(self, sizes: Any) -> None:
        self._sizes = tuple(sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._sizes)


def typed(value: object, *kinds: type) -> None:
    assert type(value) in kinds, f"incompatible function arguments: {value!r} is no {kinds}"


def module(gpu: PlayedGpu, flavor: FlavorName, version: str) -> Any:
    """tensorrt or tensorrt_rtx of a version. `seen` has what a test may want to know."""
    api = Api.of(flavor, version)
    trt = ModuleType(flavor)
    trt.__spec__ = importlib.machinery.ModuleSpec(flavor, None)
    seen = SimpleNamespace(registered=[], strategies=[], executed=[], enter=lambda: None, contexts=0)

    class Limited:
        """Has no name that the class of this version lacks."""

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                _refuse(type(self).__name__, name)
            return object.__getattribute__(self, name)

        def __getattr__(self, name: str) -> Any:
            raise NotImplementedError(f"{type(self).__name__}.{name} is not played")

        def __setattr__(self, name: str, value: object) -> None:
            if not name.startswith("_"):
                _refuse(type(self).__name__, name)
            object.__setattr__(self, name, value)

    def _refuse(holder: str, name: str) -> None:
        try:
            there = api.has(f"{holder}.{name}")
        except KeyError:
            there = False
        if not there:
            raise AttributeError(f"{flavor} {version} has no {holder}.{name}")

    class ILogger:
        def __init__(self) -> None:
            self.made = True

        def log(self, severity: Any, text: str) -> None: ...

    class IOutputAllocator:
        def __init__(self) -> None:
            self.made = True

    class Runtime(Limited):
        def __init__(self, logger: Any) -> None:
            assert logger.made, "the base of the logger was not initialised"
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
            found = headers.read(serialized_engine[: headers.LENGTH], len(serialized_engine))
            if found.flavor != flavor or found.version.split(".")[:3] != version.split(".")[:3]:
                self._logger.log(Named("ERROR"), f"the engine is of {found.version}")
                return None
            about, _, model = serialized_engine[headers.LENGTH :].partition(b"\n")
            return ICudaEngine(json.loads(about), model)

    class ICudaEngine(Limited):
        def __init__(self, about: dict[str, Any], model: bytes) -> None:
            self._profiles: list[Profile] = about["profiles"]
            self._later: list[str] = about["later"]
            graph = onnx.load_model_from_string(model).graph
            self._inputs = {value.name: value.type.tensor_type for value in graph.input}
            self._outputs = {value.name: value.type.tensor_type for value in graph.output}
            self._io = self._inputs | self._outputs
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        @property
        def num_io_tensors(self) -> int:
            return len(self._io)

        @property
        def num_optimization_profiles(self) -> int:
            return len(self._profiles)

        def get_tensor_name(self, index: int) -> str:
            typed(index, int)
            return list(self._io)[index]

        def get_tensor_mode(self, name: str) -> Named:
            return Named("INPUT" if name in self._inputs else "OUTPUT")

        def get_tensor_dtype(self, name: str) -> Named:
            return Named(TYPES[self._io[name].elem_type])

        def get_tensor_format(self, name: str) -> Named:
            return Named("LINEAR")

        def get_tensor_location(self, name: str) -> Named:
            return Named("DEVICE")

        def is_shape_inference_io(self, name: str) -> bool:
            return False

        def get_tensor_shape(self, name: str) -> Dims:
            return Dims(d.dim_value if d.HasField("dim_value") else -1 for d in self._io[name].shape.dim)

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
            typed(profile_index, int)
            return [Dims(shape) for shape in self._profiles[profile_index][name]]

        def create_runtime_config(self) -> "IRuntimeConfig":
            return IRuntimeConfig()

        def create_execution_context(self, runtime_config: Any = None) -> "IExecutionContext":
            assert runtime_config is None or isinstance(runtime_config, IRuntimeConfig)
            seen.contexts += 1
            seen.strategies.append(getattr(runtime_config, "cuda_graph_strategy", None))
            return IExecutionContext(self)

    class IRuntimeConfig(Limited):
        pass

    class IExecutionContext(Limited):
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._profile, self._on = -1, 0
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._allocators: dict[str, Any] = {}
            self._set_up: tuple[Any, ...] | None = None

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            typed(profile_index, int)
            typed(stream_handle, int)
            gpu.enqueue(stream_handle, lambda: None)
            self._profile, self._on, self._shapes, self._set_up = profile_index, stream_handle, {}, None
            return profile_index < len(self._engine._profiles)

        def set_input_shape(self, name: str, shape: Any) -> bool:
            typed(shape, tuple, list)
            for size in shape:
                typed(size, int)
            if self._profile < 0 or name not in self._engine._inputs:
                return False
            fixed = [list(self._engine.get_tensor_shape(name))] * 3
            least, _, most = self._engine._profiles[self._profile].get(name, fixed)
            if len(shape) != len(least) or not all(a <= s <= b for a, s, b in zip(least, shape, most, strict=True)):
                return False
            self._shapes[name] = tuple(shape)
            self._set_up = None
            return True

        def infer_shapes(self) -> list[str]:
            return [name for name in self._engine._inputs if name not in self._shapes]

        def get_tensor_shape(self, name: str) -> Dims:
            if name in self._shapes:
                return Dims(self._shapes[name])
            declared = tuple(self._engine.get_tensor_shape(name))
            if self.infer_shapes() or name in self._engine._later:
                return Dims(declared)
            zeros = {
                each: np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(self._engine._inputs[each].elem_type))
                for each, shape in self._shapes.items()
            }
            return Dims(self._engine._session.run([name], zeros)[0].shape)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            typed(memory, int)
            assert name in self._engine._io
            self._addresses[name] = memory
            return memory > 0

        def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
            assert isinstance(output_allocator, IOutputAllocator)
            assert output_allocator.made, "the base of the allocator was not initialised"
            self._allocators[name] = output_allocator
            return name in self._engine._outputs

        def execute_async_v3(self, stream_handle: int) -> bool:
            typed(stream_handle, int)
            seen.enter()
            if self.infer_shapes() or set(self._engine._io) - self._addresses.keys() - self._allocators.keys():
                return False
            if stream_handle != self._on and gpu.waiting[self._on]:
                raise Fault("the profile is set on another stream")
            shapes, addresses = dict(self._shapes), dict(self._addresses)
            capturing = stream_handle in gpu.captured
            if capturing and self._set_up != (shapes,):
                raise Fault("captured before a run of this shape")
            self._set_up = (shapes,)

            def work() -> None:
                seen.executed.append((stream_handle, shapes))
                for name, result in self._computed(shapes, addresses).items():
                    gpu.at(addresses[name], result.nbytes)[:] = result.reshape(-1).view(np.uint8)

            if not self._engine._later:
                gpu.enqueue(stream_handle, work)
                return True
            assert not capturing
            gpu.wait(stream_handle)
            for name, result in self._computed(shapes, addresses).items():
                address = addresses.get(name, 0)
                if name in self._allocators:
                    called = self._allocators[name]
                    address = called.reallocate_output_async(name, address, max(result.nbytes, 1), 256, stream_handle)
                    called.notify_shape(name, Dims(result.shape))
                gpu.at(address, result.nbytes)[:] = result.reshape(-1).view(np.uint8)
            return True

        def _computed(self, shapes: Any, addresses: Any) -> dict[str, Any]:
            feeds = {}
            for name, shape in shapes.items():
                dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self._engine._inputs[name].elem_type))
                size = int(np.prod(shape)) * dtype.itemsize
                feeds[name] = gpu.at(addresses[name], size).copy().view(dtype).reshape(shape)
            results = self._engine._session.run(list(self._engine._outputs), feeds)
            return {n: np.ascontiguousarray(r) for n, r in zip(self._engine._outputs, results, strict=True)}

    class Registry:
        def __init__(self) -> None:
            self.all_creators: list[Any] = []

        def load_library(self, plugin_path: str) -> object:
            seen.registered.append(plugin_path)
            self.all_creators = [SimpleNamespace(plugin_namespace="simam", name="SimAM")]
            return object()

    registry = Registry()
    trt.__dict__.update(
        __version__=version,
        seen=seen,
        ILogger=ILogger,
        IOutputAllocator=IOutputAllocator,
        Runtime=Runtime,
        ICudaEngine=ICudaEngine,
        IExecutionContext=IExecutionContext,
        get_plugin_registry=lambda: registry,
    )
    if flavor == "tensorrt_rtx":
        trt.__dict__["CudaGraphStrategy"] = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="none")
    return trt


def played(trt: Any) -> dict[str, Callable[..., Any]]:
    """The methods that are played, by class and name."""
    return {
        f"{name}.{method}": function
        for name in ("Runtime", "ICudaEngine", "IExecutionContext")
        for method, function in vars(getattr(trt, name)).items()
        if not method.startswith("_") and inspect.isfunction(function)
    }
