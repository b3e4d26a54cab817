"""Detect input values that forward converts to Python, as in `if x.min() < 0`. A trace keeps those of the example.

Two observers: `_Followed` follows the inputs through the operators of a run, to distinguish their values from sizes,
weights and constants; torch cannot trace under it. `Conversions` records each conversion, also in a trace. A value is
lost at a site that both runs report: code that an export skips is in the first alone, sizes are in the second alone.
Conversions in an `assert` do not count.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdRef

from simam_deploy.errors import InputError
from simam_deploy.pytorch.module_state import preserved
from simam_deploy.pytorch.nested import named
from simam_deploy.text import on_one_line
from simam_deploy.to_onnx.arguments import Call

NAMES = {
    **{f"__{name}__": f"{name}()" for name in ("bool", "int", "float", "complex", "index")},
    **{name: f".{name}()" for name in ("item", "tolist", "numpy", "is_nonzero", "new_tensor")},
    **{name: f"torch.{name}()" for name in ("equal", "allclose", "tensor")},
    **{"__array__": "NumPy", "__dlpack__": "DLPack", "__contains__": "in"},
}
"""Functions of torch that turn tensors into Python values or constants, with their usual spelling."""
MOST_SITES = 5
"""Upper bound on the sites that an error names."""
_LIBRARIES = tuple(f"{Path(str(module.__file__)).parent}/" for module in (torch, np))


class ConversionSite(NamedTuple):
    """Site of a conversion: the innermost line outside torch and NumPy, and the function."""

    file: str
    line: int
    name: str

    @property
    def code(self) -> str:
        """The source line, or ""."""
        return on_one_line(linecache.getline(self.file, self.line).strip())

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {NAMES[self.name]}" + (f" in `{self.code[:100]}`" if self.code else "")


class Conversions(TorchFunctionMode):
    """Inside, record in `sites` each conversion of a tensor that `counts`.

    Does not see operators in TorchScript: a trace keeps their branches.
    """

    def __init__(self, counts: Callable[[Any], bool] = lambda _: True) -> None:
        super().__init__()
        self._counts = counts
        self.sites: dict[ConversionSite, None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` and record it."""
        name = getattr(func, "__name__", "")
        if name in NAMES and self._counts((args, kwargs or {})):
            self.sites[_site(sys._getframe(1), name)] = None
        return func(*args, **(kwargs or {}))


class _Followed(TorchDispatchMode):
    """Inside, follow tensors through operators, by memory, so that views and in-place results are followed too."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory = set(map(_memory, tensors))

    def holds(self, value: Any) -> bool:
        """Whether a followed tensor is anywhere in `value`."""
        return any(_memory(leaf) in self._memory for _, leaf in named(value) if isinstance(leaf, Tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, and follow its results."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():  # an operator written in Python is one operator
            made = func(*args, **kwargs)
        schema = func._schema
        read = args[1:] if schema.name.endswith("_like") or schema.name.startswith("aten::new_") else args
        if self.holds((read, kwargs)):
            given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
            written = [
                given.get(a.name) for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write
            ]
            self._memory |= {_memory(leaf) for _, leaf in named((made, written)) if isinstance(leaf, Tensor)}
        return made


@contextmanager
def refused(model: nn.Module, call: Call) -> Iterator[None]:
    """Wrap a trace of `model` on the example. Raises InputError afterwards if an input value is lost."""
    taken = _of_inputs(model, call)
    with Conversions() as traced:
        try:
            yield
        except InputError:  # for that reason, as it may be
            _refuse([site for site in taken if site in traced.sites])
            raise
    _refuse([site for site in taken if site in traced.sites])


def _of_inputs(model: nn.Module, call: Call) -> Collection[ConversionSite]:
    """Sites in a run on the example that convert tensors which depend on input values."""
    tensors = list(call.tensors.values())
    followed = _Followed(tensors)
    conversions = Conversions(followed.holds)
    with preserved(model), followed, conversions:
        call.run(model, tensors)
    return [site for site in conversions.sites if not site.code.startswith("assert ")]


def _refuse(sites: Sequence[ConversionSite]) -> None:
    if not sites:
        return
    more = [f"and {len(sites) - MOST_SITES} more"] if len(sites) > MOST_SITES else []
    lines = "".join(f"\n  {line}" for line in [*sites[:MOST_SITES], *more])
    raise InputError(
        "the model takes values of its inputs into Python, and the torchscript exporter keeps those of the example "
        f"for every input:{lines}\n"
        "compute with tensors there (torch.where in place of a branch), or try --exporter dynamo, which refuses such "
        "branches too; --no-check (check=False) exports it all the same"
    )


def _site(frame: FrameType | None, name: str) -> ConversionSite:
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return (
        ConversionSite(frame.f_code.co_filename, frame.f_lineno, name)
        if frame is not None
        else ConversionSite("", 0, name)
    )


def _memory(tensor: Tensor) -> StorageWeakRef | WeakIdRef:
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except NotImplementedError:  # of a sparse tensor
        return WeakIdRef(tensor)
