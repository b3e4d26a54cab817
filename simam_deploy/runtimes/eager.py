"""The PyTorch module itself, as it was trained; in float64 it is the truth that the others are measured against."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.runtimes.session import Array, Session, TensorSpec, framework, is_float


class EagerSession(Session):
    """An nn.Module in eval mode.

    The caller's module is left as it is. A copy is taken if it is in training mode or of another dtype, else
    the module itself runs: later changes to its weights show.

    inputs   the required positional arguments of `forward`. Their dtype holds for float feeds; integers and
             booleans pass as they are. The shape is not declared (None).
    outputs  () before the first run, as only then they are known. A tensor is named `output`, the items of a
             tuple or list `output_0`, `output_1`, those of a dict by their keys.
    Feeds are copied, since a module may work in place. With dtype float64, float feeds of any width are widened.
    threads : for each run torch.set_num_threads is called, which holds for the process, and then put back.
    Runs of several threads take turns, as a module may keep what it computed; with `threads`, those of all sessions.
    """

    named = False
    _turn_of_process = threading.Lock()

    def __init__(self, module: Any, *, threads: int = 0, dtype: str = "float32") -> None:
        self._torch = torch = framework("torch", "eager", "torch")
        if not isinstance(module, torch.nn.Module):
            raise InputError(f"runtime 'eager' opens an nn.Module; got {type(module).__name__} {module!r}")
        if dtype not in ("float32", "float64"):
            raise InputError(f"runtime 'eager' computes in float32 or float64; got dtype={dtype!r}")
        super().__init__(f"eager[{dtype}]")
        self._dtype = np.dtype(dtype)
        self._threads = threads
        self._turn = self._turn_of_process if threads else threading.Lock()
        self.inputs = tuple(TensorSpec(name, self._dtype, None) for name in _arguments(module))
        self.outputs = ()
        wanted = getattr(torch, dtype)
        state = [*module.parameters(), *module.buffers()]
        others = sorted({str(t.dtype) for t in state if t.is_floating_point() and t.dtype != wanted})
        training = any(m.training for m in module.modules())
        if others:
            self.notes.append(f"copied, and converted from {', '.join(others)} to {dtype}")
        if training:
            self.notes.append("copied, and switched from training to eval mode")
        self._module = copy.deepcopy(module).eval().to(wanted) if others or training else module
        self._device = state[0].device if state else torch.device("cpu")

    def _takes(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        if is_float(dtype):
            return spec.dtype in (dtype, np.dtype(np.float64))
        return dtype.kind in "biu"

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        torch = self._torch
        arrays = [feeds[spec.name] for spec in self.inputs]
        copies = [np.array(a, dtype=self._dtype if is_float(a.dtype) else a.dtype, order="C") for a in arrays]
        with self._turn:
            before = torch.get_num_threads()
            try:
                if self._threads:
                    torch.set_num_threads(self._threads)
                with torch.inference_mode():
                    result = self._module(*(torch.from_numpy(a).to(self._device) for a in copies))
            finally:
                if self._threads:
                    torch.set_num_threads(before)
            outputs = {name: self._numpy(tensor) for name, tensor in self._flat(result, "")}
        self.outputs = tuple(TensorSpec(name, a.dtype, None) for name, a in outputs.items())
        narrow = [str(s) for s in self.outputs if is_float(s.dtype) and s.dtype != np.float64]
        if narrow and self._dtype == np.float64:
            raise RuntimeUnavailable(
                f"{self.label} was asked for, but the module returned {', '.join(narrow)}: "
                "its forward casts on the way, so there is no float64 result"
            )
        return outputs

    def _flat(self, value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, self._torch.Tensor):
            yield name or "output", value
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from self._flat(item, f"{name}_{key}" if name else str(key))
        elif isinstance(value, list | tuple):
            for i, item in enumerate(value):
                yield from self._flat(item, f"{name or 'output'}_{i}")
        else:
            raise InputError(f"{self.label}: the module returned {type(value).__name__}, not tensors")

    def _numpy(self, tensor: Any) -> Array:
        if tensor.dtype == self._torch.bfloat16:  # no type of NumPy's own
            import ml_dtypes

            return np.array(tensor.detach().cpu().contiguous().view(self._torch.uint16).numpy()).view(
                ml_dtypes.bfloat16
            )
        return np.array(tensor.detach().cpu().numpy())  # may be a weight, or the same memory twice: hence the copy

    def _close(self) -> None:
        del self._module


def _arguments(module: Any) -> list[str]:
    """The required positional arguments of forward."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise InputError(
            f"{type(module).__name__}.forward takes *args, which gives its inputs no names; "
            "wrap it in a module whose forward names them"
        )
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for p in positional if p.default is p.empty]


SESSION = EagerSession
