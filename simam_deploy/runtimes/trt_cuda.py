"""CUDA for engines: memory, copies, streams and graphs, by PyTorch where it has CUDA, else by cuda-python.

gpu = open_gpu()
stream = gpu.stream()
address = stream.allocate(array.nbytes)
stream.copy_in(address, array)
stream.copy_out(result, address)
stream.wait()                      # the arrays must live until here
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.formula import Array

DRIVER = "libcuda.so.1"
UNCAPTURED = "the engine cannot be captured as a CUDA graph; open it without cuda_graph"


class GpuStream(ABC):
    """A stream and its memory. Its work runs in order. One thread at a time uses it.

    handle : for TensorRT.
    """

    handle: int

    def __init__(self) -> None:
        self._held: dict[int, Any] = {}

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU, at least 1, until `free` or `close`."""

    def free(self, address: int) -> None:
        """Release memory that no work on the stream uses any more."""
        del self._held[address]

    @abstractmethod
    def copy_in(self, address: int, array: Array) -> None:
        """Enqueue the copy of a contiguous array to the GPU."""

    @abstractmethod
    def copy_out(self, array: Array, address: int) -> None:
        """Enqueue the copy into a contiguous array from the GPU."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until all work is done."""

    @abstractmethod
    def capture(self, enqueue: Callable[[], object]) -> Callable[[], object]:
        """Record the work that `enqueue` gives to the stream. Returns what gives it to the stream again."""

    def close(self) -> None:
        """Release stream and memory."""
        for address in list(self._held):
            self.free(address)


@dataclass(frozen=True)
class Gpu:
    """The GPU of this process. name : as sm86.  by : the package.  stream : makes a GpuStream."""

    name: str
    by: str
    stream: Callable[[], GpuStream]


OLDER = "see nvidia-smi; for a driver older than cuda-python: pip install 'cuda-bindings<13'"
NO_DRIVER = "run it on a machine with a GPU of NVIDIA and its driver"


def open_gpu() -> Gpu:
    """The current GPU, by PyTorch or cuda-python. Raises RuntimeUnavailable without a driver, GPU or package."""
    said = "torch is not installed"
    if find_spec("torch"):
        torch = import_module("torch")
        if torch.cuda.is_available():
            device = torch.cuda.current_device()
            major, minor = torch.cuda.get_device_capability(device)
            return Gpu(f"sm{major}{minor}", f"torch {torch.__version__}", lambda: TorchStream(torch, device))
        said = f"torch {torch.__version__} sees no GPU"
    try:
        cuda = import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise RuntimeUnavailable(
            f"an engine runs on a GPU, and none can be used here: {_driver()}; {said}, and cuda-python cannot be "
            f"imported ({error})\n" + ("pip install cuda-bindings" if has_driver() else NO_DRIVER)
        ) from error
    failed, count = cuda.cudaGetDeviceCount()
    if failed or not count:
        why = _words(cuda, failed) if failed else "there is none"
        raise RuntimeUnavailable(
            f"an engine runs on a GPU, and none can be used here: {_driver()}; {said}; cuda-python says: {why}\n"
            + (OLDER if has_driver() else NO_DRIVER)
        )
    device = _done(cuda, *cuda.cudaGetDevice())
    kinds = (
        cuda.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor,
        cuda.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor,
    )
    major, minor = (_done(cuda, *cuda.cudaDeviceGetAttribute(kind, device)) for kind in kinds)
    return Gpu(f"sm{major}{minor}", "cuda-python", lambda: CudaStream(cuda, device))


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _driver() -> str:
    return "there is a driver" if has_driver() else f"there is no driver of NVIDIA ({DRIVER})"


class TorchStream(GpuStream):
    """By PyTorch, from its pool of memory."""

    def __init__(self, torch: Any, device: int) -> None:
        super().__init__()
        self._torch, self._device = torch, device
        self._stream = torch.cuda.Stream(device)
        self.handle = int(self._stream.cuda_stream)

    def allocate(self, size: int) -> int:
        """Address of `size` bytes."""
        with self._torch.cuda.stream(self._stream):
            made = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device=f"cuda:{self._device}")
        address = int(made.data_ptr())
        self._held[address] = made
        return address

    def copy_in(self, address: int, array: Array) -> None:
        """Enqueue a copy to the GPU."""
        with self._torch.cuda.stream(self._stream):
            self._held[address][: array.nbytes].copy_(self._bytes(array), non_blocking=True)

    def copy_out(self, array: Array, address: int) -> None:
        """Enqueue a copy from the GPU."""
        with self._torch.cuda.stream(self._stream):
            self._bytes(array).copy_(self._held[address][: array.nbytes], non_blocking=True)

    def wait(self) -> None:
        """Wait until all work is done."""
        self._stream.synchronize()

    def capture(self, enqueue: Callable[[], object]) -> Callable[[], object]:
        """Record a graph."""
        torch, stream = self._torch, self._stream
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                enqueue()
            except BaseException:
                with suppress(RuntimeError):  # of a capture that is no good
                    graph.capture_end()
                raise
            graph.capture_end()

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def _bytes(self, array: Array) -> Any:
        return self._torch.from_numpy(array.reshape(-1).view(np.uint8))


class CudaStream(GpuStream):
    """By cuda-python: the calls of CUDA's runtime."""

    def __init__(self, cuda: Any, device: int) -> None:
        super().__init__()
        self._cuda, self._device = cuda, device
        self._do("cudaSetDevice", device)
        self._stream = self._do("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)
        self.handle = int(self._stream)
        self._graph: Any = None

    def allocate(self, size: int) -> int:
        """Address of `size` bytes."""
        self._do("cudaSetDevice", self._device)  # of this thread
        address = int(self._do("cudaMalloc", max(size, 1)))
        self._held[address] = size
        return address

    def free(self, address: int) -> None:
        """Release memory."""
        super().free(address)
        self._do("cudaFree", address)

    def copy_in(self, address: int, array: Array) -> None:
        """Enqueue a copy to the GPU."""
        self._copy(address, array.ctypes.data, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def copy_out(self, array: Array, address: int) -> None:
        """Enqueue a copy from the GPU."""
        self._copy(array.ctypes.data, address, array.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def wait(self) -> None:
        """Wait until all work is done."""
        self._do("cudaStreamSynchronize", self._stream)

    def capture(self, enqueue: Callable[[], object]) -> Callable[[], object]:
        """Record a graph. The one before is released."""
        self._forget()
        self._do(
            "cudaStreamBeginCapture", self._stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            enqueue()
        except BaseException:
            self._cuda.cudaStreamEndCapture(self._stream)
            raise
        recorded = self._do("cudaStreamEndCapture", self._stream)
        self._graph = self._do("cudaGraphInstantiate", recorded, 0)
        self._do("cudaGraphDestroy", recorded)
        return lambda: self._do("cudaGraphLaunch", self._graph, self._stream)

    def close(self) -> None:
        """Release stream, graph and memory."""
        self._forget()
        super().close()
        self._do("cudaStreamDestroy", self._stream)

    def _forget(self) -> None:
        if self._graph is not None:
            self._do("cudaGraphExecDestroy", self._graph)
            self._graph = None

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        if size:
            self._do("cudaMemcpyAsync", to, source, size, kind, self._stream)

    def _do(self, call: str, *arguments: Any) -> Any:
        return _done(self._cuda, *getattr(self._cuda, call)(*arguments), call=call)


def _done(cuda: Any, failed: Any, *results: Any, call: str = "") -> Any:
    """The result of a call. Raises RuntimeUnavailable with CUDA's words."""
    if failed:
        raise RuntimeUnavailable(f"CUDA: {call or 'a call'} failed: {_words(cuda, failed)}")
    return results[0] if results else None


def _words(cuda: Any, failed: Any) -> str:
    _, words = cuda.cudaGetErrorString(failed)
    return words.decode() if isinstance(words, bytes) else str(words)
