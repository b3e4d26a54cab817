"""One execution context of an engine, with its stream and buffers. One thread at a time uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.runtimes.session import TensorSpec
from simam_deploy.runtimes.trt_cuda import UNCAPTURED, GpuStream

InputShapes = tuple[tuple[int, ...], ...]


class EngineContext:
    """Runs an engine. Buffers grow and are kept from run to run.

    graph : replay a CUDA graph from the second run of a shape on. One is kept, of the last shape.
    """

    def __init__(
        self,
        trt: Any,
        context: Any,
        stream: GpuStream,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        graph: bool,
    ) -> None:
        self._trt, self._context, self._stream = trt, context, stream
        self._inputs, self._outputs, self._wants_graph = inputs, outputs, graph
        self._profile = -1
        self._ready: tuple[int, InputShapes] | None = None
        self._replay: Any = None
        self._warm = False
        self._buffers: dict[str, tuple[int, int]] = {}
        self._fixed: dict[str, tuple[int, ...]] = {}
        self._allocators: dict[str, Any] = {}

    def run(self, arrays: Sequence[Array], profile: int) -> list[Array]:
        """Outputs for one contiguous array for each input, whose shapes are in the profile."""
        try:
            self._prepare(profile, tuple(array.shape for array in arrays))
            for spec, array in zip(self._inputs, arrays, strict=True):
                self._stream.copy_in(self._buffers[spec.name][0], array)
            self._execute()
            results = [self._result(spec) for spec in self._outputs]
        finally:
            self._stream.wait()
        return results

    def close(self) -> None:
        """Release context, stream and buffers."""
        del self._context
        self._replay = None
        self._stream.close()

    def _prepare(self, profile: int, shapes: InputShapes) -> None:
        """Profile, shapes and addresses. The state of the context belongs to one shape, and so does a graph of it."""
        if self._ready == (profile, shapes):
            return
        self._ready = self._replay = None
        context = self._context
        if profile != self._profile:
            self._profile = -1
            _true(context.set_optimization_profile_async(profile, self._stream.handle), f"profile {profile + 1}")
            self._profile = profile
        for spec, shape in zip(self._inputs, shapes, strict=True):
            _true(context.set_input_shape(spec.name, shape), f"shape {shape} of {spec.name}")
            self._address(spec, shape)
        if missing := context.infer_shapes():
            raise RuntimeUnavailable(f"TensorRT infers no shapes: {', '.join(missing)} is not specified")
        for spec in self._outputs:
            shape = tuple(context.get_tensor_shape(spec.name))
            if all(size >= 0 for size in shape):
                self._fixed[spec.name] = shape
                self._address(spec, shape)
            else:
                self._allocate_later(spec)
        self._warm, self._ready = False, (profile, shapes)

    def _address(self, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * spec.dtype.itemsize
        address, held = self._buffers.get(spec.name, (0, -1))
        if size > held:
            if self._buffers.pop(spec.name, None):
                self._stream.free(address)
            address = self._stream.allocate(size)
            self._buffers[spec.name] = (address, size)
        _true(self._context.set_tensor_address(spec.name, address), f"address of {spec.name}")

    def _allocate_later(self, spec: TensorSpec) -> None:
        """For a size that depends on the data: TensorRT asks for the memory during the run."""
        if self._wants_graph:
            raise RuntimeUnavailable(f"the size of {spec.name} depends on the data: {UNCAPTURED}")
        if spec.name not in self._allocators:
            self._allocators[spec.name] = _allocator(self._trt, self._stream)
            allocator = self._allocators[spec.name]
            _true(self._context.set_output_allocator(spec.name, allocator), f"allocator of {spec.name}")

    def _execute(self) -> None:
        if self._replay is None and self._wants_graph and self._warm:
            try:
                self._replay = self._stream.capture(self._enqueue)
            except (RuntimeError, RuntimeUnavailable) as error:
                raise RuntimeUnavailable(f"{error}\n{UNCAPTURED}") from error
        if self._replay is not None:
            self._replay()
            return
        self._enqueue()
        self._warm = True  # TensorRT sets up a shape in its first run, which must not be part of a graph

    def _enqueue(self) -> None:
        _true(self._context.execute_async_v3(self._stream.handle), "this run; its log has the reason")

    def _result(self, spec: TensorSpec) -> Array:
        if allocator := self._allocators.get(spec.name):
            shape, address = allocator.shape, allocator.address
        else:
            shape, address = self._fixed[spec.name], self._buffers[spec.name][0]
        result = np.empty(shape, spec.dtype)
        self._stream.copy_out(result, address)
        return result


def _true(done: bool, what: str) -> None:
    if not done:
        raise RuntimeUnavailable(f"TensorRT refuses {what}")


def _allocator(trt: Any, stream: GpuStream) -> Any:
    """The memory of one output, which grows."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.address, self.size = 0, -1
            self.shape: tuple[int, ...] = ()

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            if size > self.size:
                if self.address:
                    stream.free(self.address)
                self.address, self.size = stream.allocate(size), size
            return self.address

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, on: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()
