"""An engine on a GPU, with TensorRT 10, TensorRT 11 or TensorRT-RTX.

The calls were tested against the names and signatures of the bindings of 10.0 to 11.4 and of TensorRT-RTX 1.7, on a
device that a test plays in host memory. They never ran on a GPU.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.runtimes.session import KernelUse, Session, TensorSpec
from simam_deploy.runtimes.trt_context import EngineContext
from simam_deploy.runtimes.trt_engine import LoadedEngine, load
from simam_deploy.runtimes.trt_network import STORED

DTYPES = {**STORED, "UINT8": np.uint8}
"""TensorRT's type -> that of NumPy."""
Ranges = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


class TrtSession(Session):
    """An engine file.

    contexts : number of runs at once; each has memory of its own on the GPU.
    cuda_graph : replay the work as a CUDA graph. TensorRT-RTX captures graphs itself. For TensorRT the second run of
            a shape captures one, and another shape drops it.
    profiles : for each profile of the engine the smallest, best and largest shape of each input with dynamic sizes.
    A run takes the first profile that its shapes fit, and copies inputs to the GPU and outputs back.
    """

    def __init__(self, artifact: object, *, contexts: int = 1, cuda_graph: bool = False) -> None:
        self._loaded = loaded = load(artifact)
        super().__init__(f"trt[{loaded.flavor.name} {loaded.version}, {loaded.gpu.name}]")
        self.notes += loaded.notes
        trt, engine = loaded.trt, loaded.engine
        names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
        self.inputs = tuple(_spec(loaded, name) for name in names if _mode(engine, name) == "INPUT")
        self.outputs = tuple(_spec(loaded, name) for name in names if _mode(engine, name) == "OUTPUT")
        self.profiles = tuple(self._ranges(at) for at in range(max(1, engine.num_optimization_profiles)))
        self._free: queue.LifoQueue[EngineContext | None] = queue.LifoQueue()
        self._count = contexts
        itself = cuda_graph and loaded.flavor.name == "tensorrt_rtx"
        for _ in range(contexts):
            context = _capturing(trt, engine) if itself else engine.create_execution_context()
            if context is None:
                said = "".join(f"\n  {line}" for line in loaded.log[-3:])
                raise RuntimeUnavailable(f"no context of the engine can be made; is its GPU's memory full?{said}")
            graph = cuda_graph and not itself
            self._free.put(EngineContext(trt, context, loaded.gpu.stream(), self.inputs, self.outputs, graph=graph))

    def shapes(self, which: Literal["least", "best", "most"]) -> list[tuple[int, ...]]:
        """For each input its size in the first profile."""
        at = ("least", "best", "most").index(which)
        ranges = self.profiles[0]
        found = (ranges[spec.name][at] if spec.name in ranges else spec.shape or () for spec in self.inputs)
        return [tuple(int(size) for size in shape if size is not None) for shape in found]

    def kernel_use(self, feeds: Mapping[str, Array]) -> KernelUse:
        """The blocks that were built as our plugin, by the manifest."""
        del feeds
        blocks = (self._loaded.record or {}).get("blocks")
        if not isinstance(blocks, list):
            return KernelUse(None, 0, why="the engine has no manifest with its blocks")
        ours = [block.get("built") for block in blocks if isinstance(block, dict)]
        return KernelUse(ours.count("plugin"), len([built for built in ours if built]), "plugin")

    def _ranges(self, profile: int) -> Ranges:
        dynamic = [spec.name for spec in self.inputs if None in (spec.shape or ())]
        held = {name: self._loaded.engine.get_tensor_profile_shape(name, profile) for name in dynamic}
        return {name: tuple(tuple(shape) for shape in shapes) for name, shapes in held.items()}  # type: ignore[misc]

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        arrays = [np.require(feeds[spec.name], requirements=("C", "W")) for spec in self.inputs]
        profile = self._profile([array.shape for array in arrays])
        context = self._free.get()
        if context is None:
            self._free.put(None)
            raise AttributeError("closed")  # as in every session: see run
        try:
            results = context.run(arrays, profile)
        finally:
            self._free.put(context)
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def _profile(self, shapes: Sequence[tuple[int, ...]]) -> int:
        given = dict(zip((spec.name for spec in self.inputs), shapes, strict=True))
        for at, ranges in enumerate(self.profiles):
            if all(_within(given[name], least, most) for name, (least, _, most) in ranges.items()):
                return at
        told = [f"profile {at}: {_told(ranges)}" for at, ranges in enumerate(self.profiles, 1)]
        asked = ", ".join(f"{name} {given[name]}" for name in self.profiles[0])
        raise InputError(
            "\n  ".join((f"{self.label} cannot run {asked}: it is outside of every profile of the engine:", *told))
            + "\nrun a size in one of them, or build the engine with --shapes for this one"
        )

    def _close(self) -> None:
        for _ in range(self._count):
            context = self._free.get()  # after its run
            assert context is not None
            context.close()
        self._free.put(None)
        del self._loaded.engine, self._loaded.runtime


def _mode(engine: Any, name: str) -> str:
    return str(engine.get_tensor_mode(name).name)


def _spec(loaded: LoadedEngine, name: str) -> TensorSpec:
    """Raises RuntimeUnavailable for a type, a format or a place that NumPy arrays cannot fill."""
    engine = loaded.engine
    dtype, form = engine.get_tensor_dtype(name).name, engine.get_tensor_format(name).name
    if dtype not in DTYPES:
        raise RuntimeUnavailable(f"trt cannot exchange {name}: its type is {dtype}, which NumPy lacks")
    if form != "LINEAR":
        raise RuntimeUnavailable(f"trt cannot exchange {name}: its format is {form}, and arrays are LINEAR")
    if engine.get_tensor_location(name).name == "HOST" or engine.is_shape_inference_io(name):
        raise RuntimeUnavailable(f"trt cannot exchange {name}: its values are shapes, which trt does not set")
    shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
    return TensorSpec(name, np.dtype(DTYPES[dtype]), shape)


def _capturing(trt: Any, engine: Any) -> Any:
    """A context of TensorRT-RTX that captures graphs itself."""
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    if config.cuda_graph_strategy != trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE:
        raise RuntimeUnavailable(
            f"TensorRT-RTX {trt.__version__} does not take the CUDA graph strategy that was asked for"
        )
    return engine.create_execution_context(config)


def _within(shape: Sequence[int], least: Sequence[int], most: Sequence[int]) -> bool:
    return len(shape) == len(least) and all(a <= size <= b for a, size, b in zip(least, shape, most, strict=True))


def _told(ranges: Ranges) -> str:
    return ", ".join(
        f"{name} {'x'.join(map(str, least))} to {'x'.join(map(str, most))}"
        for name, (least, _, most) in ranges.items()
    )


SESSION = TrtSession
