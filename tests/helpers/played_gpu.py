"""A GPU in host memory, and CUDA's Python over it: `cuda.bindings.runtime` and as much of torch as engines need.

Nothing on a stream runs before the stream is waited for. Memory is filled with 0xCB before it is written, and with
0xDD when it is freed. Work on a pointer outside of what is allocated, or on memory that was freed, is a Fault. So a
forgotten wait, copy or address shows.
"""

import ctypes
import enum
import importlib.machinery
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class Fault(AssertionError):
    """Something that a GPU would answer with garbage or a crash."""


class PlayedGpu:
    """capability : as (8, 6)."""

    def __init__(self, capability: tuple[int, int] = (8, 6)) -> None:
        self.capability = capability
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.waiting: dict[int, list[Callable[[], None]]] = {}
        self.captured: dict[int, list[Callable[[], None]]] = {}
        self.replays = 0
        self.lock = threading.RLock()
        self._last = 100

    def stream(self) -> int:
        with self.lock:
            self._last += 1
            self.waiting[self._last] = []
            return self._last

    def allocate(self, size: int) -> int:
        assert type(size) is int, size
        assert size > 0, "an allocation of nothing has no address"
        with self.lock:
            held = np.full(size, 0xCB, np.uint8)
            self.memory[held.ctypes.data] = held
            return held.ctypes.data

    def free(self, address: int) -> Any:
        with self.lock:
            if address not in self.memory:
                raise Fault(f"{address:#x} is not allocated")
            self.memory.pop(address)[:] = 0xDD

    def at(self, address: int, size: int) -> "np.ndarray[Any, Any]":
        """Bytes on the GPU."""
        for start, held in list(self.memory.items()):
            if start <= address and address + size <= start + held.size:
                return held[address - start :][:size]
        raise Fault(f"{size} bytes at {address:#x} are not allocated")

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        with self.lock:
            if stream not in self.waiting:
                raise Fault(f"{stream} is no stream")
            self.captured.get(stream, self.waiting[stream]).append(work)

    def wait(self, stream: int) -> Any:
        with self.lock:
            if stream in self.captured:
                raise Fault("a wait in a capture")
            work, self.waiting[stream] = self.waiting[stream], []
            for each in work:
                each()

    def copy_in(self, stream: int, to: int, source: int, size: int) -> None:
        def copy() -> None:
            self.at(to, size)[:] = np.frombuffer(ctypes.string_at(source, size), np.uint8)

        self.enqueue(stream, copy)

    def copy_out(self, stream: int, to: int, source: int, size: int) -> None:
        def copy() -> None:
            ctypes.memmove(to, self.at(source, size).tobytes(), size)

        self.enqueue(stream, copy)

    def begin(self, stream: int) -> Any:
        self.captured[stream] = []

    def end(self, stream: int) -> list[Callable[[], None]]:
        return self.captured.pop(stream)

    def launch(self, stream: int, graph: list[Callable[[], None]]) -> Any:
        self.replays += 1
        for work in graph:
            self.enqueue(stream, work)


class Handle:
    """Of a stream or a graph: an object, as in cuda-python."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __int__(self) -> int:
        return int(self.value)


def cuda_python(gpu: PlayedGpu) -> ModuleType:
    """The module cuda.bindings.runtime. Every call returns a tuple that begins with the error."""
    cudaError_t = enum.IntEnum("cudaError_t", {"cudaSuccess": 0, "cudaErrorNoDevice": 100})
    cudaMemcpyKind = enum.IntEnum("cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
    cudaStreamCaptureMode = enum.IntEnum("cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1})
    cudaDeviceAttr = enum.IntEnum(
        "cudaDeviceAttr", {"cudaDevAttrComputeCapabilityMajor": 75, "cudaDevAttrComputeCapabilityMinor": 76}
    )

    def done(result: object = None) -> tuple[Any, ...]:
        return (cudaError_t.cudaSuccess,) if result is None else (cudaError_t.cudaSuccess, result)

    def copy(dst: int, src: int, count: int, kind: Any, stream: Handle) -> tuple[Any, ...]:
        assert isinstance(stream, Handle)
        assert isinstance(kind, cudaMemcpyKind)
        (gpu.copy_in if kind == cudaMemcpyKind.cudaMemcpyHostToDevice else gpu.copy_out)(int(stream), dst, src, count)
        return done()

    def begin(stream: Handle, mode: Any) -> tuple[Any, ...]:
        assert isinstance(mode, cudaStreamCaptureMode)
        return done(gpu.begin(int(stream)))

    def destroy(stream: Handle) -> tuple[Any, ...]:
        if gpu.waiting.pop(int(stream)):
            raise Fault("a stream is destroyed while work waits")
        return done()

    made = ModuleType("cuda.bindings.runtime")
    made.__dict__.update(
        cudaError_t=cudaError_t,
        cudaMemcpyKind=cudaMemcpyKind,
        cudaStreamCaptureMode=cudaStreamCaptureMode,
        cudaDeviceAttr=cudaDeviceAttr,
        cudaStreamNonBlocking=1,
        cudaGetErrorString=lambda error: done(b"no CUDA-capable device is detected"),
        cudaGetDeviceCount=lambda: done(1),
        cudaGetDevice=lambda: done(0),
        cudaSetDevice=lambda device: done(),
        cudaDeviceGetAttribute=lambda attr, device: done(gpu.capability[attr - 75]),
        cudaStreamCreateWithFlags=lambda flags: done(Handle(gpu.stream())),
        cudaStreamDestroy=destroy,
        cudaStreamSynchronize=lambda stream: done(gpu.wait(int(stream))),
        cudaMalloc=lambda size: done(gpu.allocate(size)),
        cudaFree=lambda devPtr: done(gpu.free(devPtr)),
        cudaMemcpyAsync=copy,
        cudaStreamBeginCapture=begin,
        cudaStreamEndCapture=lambda stream: done(Handle(gpu.end(int(stream)))),
        cudaGraphInstantiate=lambda graph, flags: done(Handle(list(graph.value))),
        cudaGraphDestroy=lambda graph: done(graph.value.clear()),
        cudaGraphLaunch=lambda graphExec, stream: done(gpu.launch(int(stream), graphExec.value)),
        cudaGraphExecDestroy=lambda graphExec: done(graphExec.value.clear()),
    )
    return made


class _Tensor:
    """On the GPU, or on the host."""

    def __init__(self, torch: "_Torch", address: int, size: int, held: Any = None, *, owns: bool = False) -> None:
        self.torch, self.address, self.size, self.held, self.owns = torch, address, size, held, owns

    def __del__(self) -> None:
        if self.owns:
            self.torch.gpu.free(self.address)

    def data_ptr(self) -> int:
        return self.address

    def __getitem__(self, part: slice) -> "_Tensor":
        assert part.start is None
        assert part.stop <= self.size
        return _Tensor(self.torch, self.address, part.stop, self.held)

    def copy_(self, other: "_Tensor", non_blocking: bool = False) -> None:
        assert self.size == other.size, "torch would broadcast, or refuse"
        gpu, stream = self.torch.gpu, self.torch.current
        assert stream is not None, "a copy on the default stream"
        (gpu.copy_in if self.held is None else gpu.copy_out)(
            stream.cuda_stream, self.address, other.address, self.size
        )


class _Torch:
    def __init__(self, gpu: PlayedGpu) -> None:
        self.gpu = gpu
        self.local = threading.local()

    @property
    def current(self) -> Any:
        return getattr(self.local, "stream", None)


def torch_for(gpu: PlayedGpu) -> ModuleType:
    """A module torch whose GPU is `gpu`."""
    state = _Torch(gpu)

    class Stream:
        def __init__(self, device: int) -> None:
            self.cuda_stream = gpu.stream()

        def synchronize(self) -> None:
            gpu.wait(self.cuda_stream)

    class stream:
        def __init__(self, stream: Stream) -> None:
            self.new = stream

        def __enter__(self) -> None:
            self.old, state.local.stream = state.current, self.new

        def __exit__(self, *_: object) -> None:
            state.local.stream = self.old

    class CUDAGraph:
        def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
            assert capture_error_mode == "thread_local", "others may allocate meanwhile"
            gpu.begin(state.current.cuda_stream)

        def capture_end(self) -> None:
            self.work = gpu.end(state.current.cuda_stream)

        def replay(self) -> None:
            gpu.launch(state.current.cuda_stream, self.work)

    def empty(size: int, dtype: str, device: str) -> _Tensor:
        assert (dtype, device) == ("uint8", "cuda:0")
        return _Tensor(state, gpu.allocate(size), size, owns=True)

    def from_numpy(array: "np.ndarray[Any, Any]") -> _Tensor:
        assert array.dtype == np.uint8
        assert array.flags.writeable, "torch warns"
        return _Tensor(state, array.ctypes.data, array.nbytes, array)

    made = ModuleType("torch")
    made.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        current_device=lambda: 0,
        get_device_capability=lambda device: gpu.capability,
        Stream=Stream,
        stream=stream,
        CUDAGraph=CUDAGraph,
    )
    made.__dict__.update(__version__="2.13.0", cuda=cuda, uint8="uint8", empty=empty, from_numpy=from_numpy)
    return made
