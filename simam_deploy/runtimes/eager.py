"""The PyTorch module itself. In float64 it is the truth of the comparison."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.pytorch.nested import PLAIN, keyed, named
from simam_deploy.runtimes.session import Session, TensorSpec, framework, is_float


class EagerSession(Session):
    """An nn.Module in eval mode, without torch.compile.

    Leaves the caller's module unchanged: restores attributes, such as caches, that a run writes. Copies a module in
    training mode or of another dtype. Otherwise the module itself runs, and later changes to its weights take effect.

    inputs   names of the positional arguments; by default the required ones of `forward`. Their dtype applies to
             float feeds; integers and booleans pass unchanged. The shape is not declared (None).
    outputs  names of the tensors in the result; by default those of `nested.named`: `output` for a tensor,
             `output_0`, `output_1` for items of a tuple or list, keys for a dict. `named` is True if all are keys.
             The outputs of the session are () before the first run. Leaves out None, numbers and strings.
    Copies the feeds, since a module may work in place. With dtype float64, it widens float feeds, and skips casts to
    narrower floats inside, also by autocast, with a line in `notes`.
    threads : each run calls torch.set_num_threads, which holds for the process, and restores the value.
    Runs of several threads take turns, as a module may store results; with `threads`, runs of all sessions do.
    """

    _turn_of_process = threading.Lock()

    def __init__(
        self,
        module: Any,
        *,
        threads: int = 0,
        dtype: str = "float32",
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        self._torch = torch = framework("torch", "eager", "torch")
        if not isinstance(module, torch.nn.Module):
            raise InputError(f"runtime 'eager' opens an nn.Module; got {type(module).__name__} {module!r}")
        if dtype not in ("float32", "float64"):
            raise InputError(f"runtime 'eager' computes in float32 or float64; got dtype={dtype!r}")
        from simam_deploy.pytorch.module_state import opened, preserved, refuse_without_weights, uncompile

        module = opened(module)
        refuse_without_weights(module)
        super().__init__(f"eager[{dtype}]")
        self._dtype = np.dtype(dtype)
        self._threads = threads
        self._turn = self._turn_of_process if threads else threading.Lock()
        self.inputs = tuple(TensorSpec(name, self._dtype, None) for name in inputs or _arguments(module))
        self.outputs = ()
        self._names = outputs
        wanted = getattr(torch, dtype)
        with preserved(module):
            self._compiled = uncompile(module)
        state = [*module.parameters(), *module.buffers()]
        others = sorted({str(t.dtype) for t in state if t.is_floating_point() and t.dtype != wanted})
        training = any(m.training for m in module.modules())
        if others:
            self.notes.append(f"copied, and converted from {', '.join(others)} to {dtype}")
        if training:
            self.notes.append("copied, and switched from training to eval mode")
        self._module = self._copied(module).to(wanted) if others or training else module
        self._device = state[0].device if state else torch.device("cpu")

    def _takes(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        if is_float(dtype):
            return spec.dtype in (dtype, np.dtype(np.float64))
        return dtype.kind in "biu"

    def run_with_roundings(self, feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
        """See `Session`."""
        from simam_deploy.pytorch.to_float64 import Rounded

        self._check(feeds)
        return self._run(feeds, Rounded(seed))

    def _run(self, feeds: Mapping[str, Array], mode: AbstractContextManager[Any] | None = None) -> dict[str, Array]:
        torch = self._torch
        from simam_deploy.pytorch.module_state import preserved, uncompile
        from simam_deploy.pytorch.to_float64 import Widened

        widened = Widened(halves=True) if self._dtype == np.float64 else None
        arrays = [feeds[spec.name] for spec in self.inputs]
        copies = [np.array(a, dtype=self._dtype if is_float(a.dtype) else a.dtype, order="C") for a in arrays]
        with self._turn:
            before = torch.get_num_threads()
            try:
                if self._threads:
                    torch.set_num_threads(self._threads)
                with torch.no_grad(), preserved(self._module), widened or nullcontext(), mode or nullcontext():
                    if self._compiled:
                        uncompile(self._module)
                    result = self._module(*(torch.from_numpy(a).to(self._device) for a in copies))
                    tensors = dict(self._tensors(result))
                    self.named = self._names is not None or keyed(result)
            finally:
                if self._threads:
                    torch.set_num_threads(before)
            outputs = {name: self._numpy(tensor) for name, tensor in tensors.items()}
        self.outputs = tuple(TensorSpec(name, a.dtype, None) for name, a in outputs.items())
        narrow = [str(s) for s in self.outputs if is_float(s.dtype) and s.dtype != np.float64]
        if widened is not None and narrow:
            raise RuntimeUnavailable(
                f"{self.label} was asked for, but the module returned {', '.join(narrow)}: "
                "its forward casts where that cannot be seen, as in TorchScript, so there is no float64 result"
            )
        if widened is not None and widened.left_out:
            note = f"computed without the casts that its forward makes: {', '.join(sorted(widened.left_out))}"
            self.notes += [note] if note not in self.notes else []
        return outputs

    def _copied(self, module: Any) -> Any:
        from simam_deploy.pytorch.module_state import deep_copy, to_eval

        try:
            return to_eval(deep_copy(module))
        except Exception as error:  # from any class in the model
            raise InputError(
                f"{self.label} needs a copy of the module, which cannot be copied: {type(error).__name__}: {error}"
            ) from error

    def _tensors(self, result: Any) -> Iterator[tuple[str, Any]]:
        found = [(name, leaf) for name, leaf in named(result) if not isinstance(leaf, PLAIN)]
        others = [
            f"{name} is of type {type(v).__name__}" for name, v in found if not isinstance(v, self._torch.Tensor)
        ]
        if others:
            raise InputError(f"{self.label}: the module must return tensors: {', '.join(others)}")
        if not found:
            raise InputError(f"{self.label}: the module returned no tensor")
        return zip(self._names or [name for name, _ in found], (tensor for _, tensor in found), strict=True)

    def _numpy(self, tensor: Any) -> Array:
        if tensor.dtype == self._torch.bfloat16:  # not a NumPy type
            import ml_dtypes

            return np.array(tensor.detach().cpu().contiguous().view(self._torch.uint16).numpy()).view(
                ml_dtypes.bfloat16
            )
        return np.array(tensor.detach().cpu().numpy())  # may be a weight, or the same memory twice: hence the copy

    def _close(self) -> None:
        del self._module


def _arguments(module: Any) -> list[str]:
    """Names of the required positional arguments of forward, without *args."""
    parameters = inspect.signature(module.forward).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise InputError(
            f"{type(module).__name__}.forward takes *args alone, which gives its inputs no names; "
            "wrap it in a module whose forward names them"
        )
    return [p.name for p in positional if p.default is p.empty]


SESSION = EagerSession
