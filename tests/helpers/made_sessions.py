"""Sessions that compute whatever a test says, and their report."""

from collections.abc import Callable, Mapping

import numpy as np

from simam_deploy.compare.inputs import Case
from simam_deploy.compare.verify import Report, verify
from simam_deploy.formula import Array
from simam_deploy.runtimes.session import Session, TensorSpec

X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
CASE = Case("plain", ((X,),))


class Made(Session):
    """A session that computes whatever the test says."""

    def __init__(self, *functions: Callable[[Array], Array], names: tuple[str, ...] = ("y",)) -> None:
        super().__init__("made")
        self.inputs = (TensorSpec("x", np.dtype(np.float32), None),)
        self.outputs = tuple(TensorSpec(name, np.dtype(np.float32), None) for name in names)
        self._functions = functions

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {spec.name: f(feeds["x"]) for spec, f in zip(self.outputs, self._functions, strict=True)}

    def _close(self) -> None:
        pass


def truth() -> Session:
    return Made(lambda x: x.astype(np.float64))


def twin() -> Session:
    return Made(lambda x: x * np.float32(1 + 2**-22))


def check(function: Callable[[Array], Array], case: Case = CASE) -> Report:
    return verify({"candidate": lambda: Made(function)}, [case], truth=truth, twin=twin)


def gives(array: Array) -> Callable[[], Session]:
    """Sessions that return it, whatever x is."""
    return lambda: Made(lambda _: array)
