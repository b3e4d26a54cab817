"""The operators as plugins of `tensorrt.plugin`: signatures, layouts and kernels."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from simam_deploy.errors import BuildError, InputError, RuntimeUnavailable, ShapeError, SimAMDeployError
from simam_deploy.experimental.ahead_of_time import compiler
from simam_deploy.experimental.ahead_of_time.device import Device, Version, expect_version
from simam_deploy.experimental.ahead_of_time.source import (
    MOST_SHARED,
    TACTICS,
    TYPES,
    KernelCase,
    Source,
    headers,
    source_of,
)
from simam_deploy.formula import OP_DOMAIN, OPS, Op

OLDEST = (10, 9)
LIBRARY = "use the plugin library instead, libsimam_tensorrt.so"
_MEMBERS = {"FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16"}  # of tensorrt.DataType
_ONE_POINTER = "u64"


@dataclass(frozen=True)
class Options:
    """Options for the kernels.

    device : None for the current GPU.  compiler : file of libnvrtc or nvcc, None for the first found.
    newest_ptx : of the driver that will load the engine, such as (9, 0); None for that of `device`.
    tactics : tactics to offer to TensorRT, at least one name of TACTICS.
    Raises InputError for invalid values. A missing compiler raises RuntimeUnavailable on first use.
    """

    device: Device | None = None
    compiler: str | os.PathLike[str] | None = None
    newest_ptx: Version | None = None
    tactics: tuple[str, ...] = tuple(TACTICS.values())

    def __post_init__(self) -> None:
        if not self.tactics:
            raise InputError(f"tactics is empty: nothing could be offered; there are {', '.join(TACTICS.values())}")
        if not isinstance(self.device, Device | None):
            raise InputError(
                f"device is {self.device!r}; it must be an ahead_of_time.Device, or None for the current GPU"
            )
        if not isinstance(self.compiler, str | os.PathLike | None):
            raise InputError(f"compiler is {self.compiler!r}; it must be the path of libnvrtc or nvcc, or None")
        if self.newest_ptx is not None:
            expect_version("newest_ptx", self.newest_ptx)
        for name in self.tactics:
            if name not in TACTICS.values():
                raise InputError(f"no tactic {name!r}; there are {', '.join(TACTICS.values())}")


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel in the engine. Its parameters are pointers: the inputs, then y. by : the compiler."""

    case: KernelCase
    source: Source
    ptx: compiler.Ptx
    by: str


class Plugins:
    """The operators of formula.OPS, registered as `simam::NAME`.

    kernels : compiled so far, by entry name.  refusal : first error raised inside TensorRT, which only logs its text.
    """

    def __init__(self, tensorrt: ModuleType, options: Options) -> None:
        self.options = options
        self.kernels: dict[str, CompiledKernel] = {}
        self.refusal: SimAMDeployError | None = None
        self.tensorrt = tensorrt
        self._plugin = plugin_module(tensorrt)
        for name, op in OPS.items():
            self._register(name, op)

    @cached_property
    def device(self) -> Device:
        """Device of the options, or the current one."""
        return self.options.device or Device.here()

    @cached_property
    def _compiler(self) -> compiler.Compiler:
        return compiler.find(self.options.compiler)

    # Callbacks of TensorRT ------------------------------------------------------------------------------------------

    def _register(self, name: str, op: Op) -> None:
        """Register one operator with generated signatures: TensorRT reads argument names and types from them."""
        desc = self._plugin.TensorDesc
        identity = f"{OP_DOMAIN}::{name}"
        inputs = dict.fromkeys(input_names(op), desc)
        # An array: `float` would be made of an array of one value, which NumPy 2.4 no longer does.
        given = {**inputs, "e_lambda": npt.NDArray[np.float32]}

        def describe(*args: Any, **attributes: Any) -> Any:
            return args[0].like()

        def autotune(*args: Any) -> Any:
            return self._kept(lambda: self._combinations(op, args[: len(inputs)], _number(args[len(inputs)])))

        def aot_impl(*args: Any) -> Any:
            tactic = args[-1]
            return self._kept(lambda: self._implement(op, args[: len(inputs)], _number(args[len(inputs)]), tactic))

        made = tuple[str, str, self._plugin.KernelLaunchParams, self._plugin.SymExprs]  # type: ignore[name-defined]
        none = inspect.Parameter.empty
        self._plugin.register(identity)(_signed(describe, given, desc))
        self._plugin.autotune(identity)(_signed(autotune, {**given, "outputs": none}, none))
        self._plugin.aot_impl(identity)(_signed(aot_impl, {**given, "outputs": none, "tactic": int}, made))

    def _kept(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except SimAMDeployError as error:
            self.refusal = self.refusal or error
            raise

    def _combinations(self, op: Op, inputs: Sequence[Any], e_lambda: float) -> list[Any]:
        """Supported layouts, each with the tactics that have a kernel."""
        shape, kind = self._shape(op, inputs), self._type(inputs[0])
        found, reasons = [], []
        for layout, group in groups(shape[1], kind).items():
            tactics = []
            for tactic in (number for number, name in TACTICS.items() if name in self.options.tactics):
                try:
                    source_of(KernelCase(op, shape, kind, group, e_lambda, tactic), self.device)
                    tactics.append(tactic)
                except BuildError as error:
                    reasons.append(str(error))
            if tactics:
                types = [kind if is_tensor(name) else "FP32" for name in (*input_names(op), "y")]
                layouts = [layout if is_tensor(name) else "LINEAR" for name in (*input_names(op), "y")]
                found.append(self._plugin.AutoTuneCombination(", ".join(types), ", ".join(layouts), tactics))
        if not found:
            lines = "".join(f"\n  {reason}" for reason in reasons)
            raise BuildError(f"no ahead-of-time kernel for this SimAM node:{lines}\n{LIBRARY}")
        return found

    def _implement(self, op: Op, inputs: Sequence[Any], e_lambda: float, tactic: int) -> tuple[str, str, Any, Any]:
        """Name, PTX, launch, and no further arguments: the kernel holds all numbers."""
        shape, kind = self._shape(op, inputs), self._type(inputs[0])
        layouts = {str(layout): layout for layout in (inputs[i].format for i in (0, -1) if i == 0 or op.residual)}
        known = {getattr(self.tensorrt.TensorFormat, name): group for name, group in groups(shape[1], kind).items()}
        layout = next(iter(layouts.values()))
        if len(layouts) > 1 or layout not in known:
            raise BuildError(f"TensorRT asks for the layouts {', '.join(layouts)}, which were not offered; {LIBRARY}")
        name, kernel = self.kernel(KernelCase(op, shape, kind, known[layout], e_lambda, tactic))
        launch = self._plugin.KernelLaunchParams()
        launch.grid_x, launch.block_x = kernel.source.blocks, kernel.source.threads
        launch.shared_mem = kernel.source.shared
        return name, kernel.ptx.text, launch, self._plugin.SymIntExprs(0)

    # Kernels ---------------------------------------------------------------------------------------------

    def kernel(self, case: KernelCase) -> tuple[str, CompiledKernel]:
        """Entry name and kernel, compiled once. Raises BuildError, RuntimeUnavailable."""
        source = source_of(case, self.device)
        name = f"simam_{hashlib.sha256(source.text.encode()).hexdigest()[:16]}"
        if name not in self.kernels:
            make = self._compiler
            ptx = make(source.text, entry=name, capability=self.device.capability, headers=headers())
            check(ptx, case, source, name, self.options.newest_ptx or self.device.newest_ptx, str(make))
            self.kernels[name] = CompiledKernel(case, source, ptx, str(make))
        return name, self.kernels[name]

    def _shape(self, op: Op, inputs: Sequence[Any]) -> tuple[int, int, int, int]:
        shapes = [tuple(int(size) for size in each.shape) for each in inputs]
        for name, shape in zip(input_names(op), shapes, strict=True):
            if any(size < 0 for size in shape):
                raise ShapeError(
                    f"{name} of a SimAM node is {_text(shape)}, -1 for dynamic; an ahead-of-time kernel is for one "
                    "shape, since TensorRT 11.1 and 11.2.1 leak a CUDA module at each change of shape "
                    f"(NVIDIA/TensorRT#4849); export with fixed sizes, or {LIBRARY}"
                )
        x = shapes[0]
        if len(x) != 4:
            raise ShapeError(f"x of a SimAM node is {_text(x)}; it takes (N, C, H, W)")
        for name, shape in zip(input_names(op), shapes, strict=True):
            expected = x if is_tensor(name) else (x[1],)
            if shape != expected:
                raise ShapeError(
                    f"{name} of a SimAM node is {_text(shape)}, and x {_text(x)}; {_text(expected)} fits"
                )
        return x[0], x[1], x[2], x[3]

    def _type(self, x: Any) -> str:
        for member, name in _MEMBERS.items():
            if x.dtype == getattr(self.tensorrt.DataType, member):
                return name
        raise BuildError(f"no ahead-of-time kernel for SimAM of {x.dtype}, only for {', '.join(TYPES)}; {LIBRARY}")


_registered: dict[ModuleType, Plugins] = {}


def register(tensorrt: ModuleType | None = None, options: Options | None = None) -> Plugins:
    """Register the operators with TensorRT's Python plugins, once per process. Later calls return the same object.

    tensorrt : the module, imported if None.
    Raises TypeError for another type of argument; RuntimeUnavailable if TensorRT is missing, too old, or
    TensorRT-RTX; InputError if they are registered with other options.
    """
    if not isinstance(tensorrt, ModuleType | None):
        raise TypeError(
            "register takes the imported module of TensorRT (import tensorrt; register(tensorrt)), or None to "
            f"import it; got {tensorrt!r}"
        )
    if not isinstance(options, Options | None):
        raise TypeError(f"options is {options!r}; it must be an ahead_of_time.Options, or None for Options()")
    module = tensorrt if tensorrt is not None else import_tensorrt()
    wanted = options or Options()
    found = _registered.get(module)
    if found is None:
        found = _registered[module] = Plugins(module, wanted)
    if found.options != wanted:
        raise InputError(
            f"the SimAM plugins are registered in this process with {found.options}, and TensorRT keeps the first; "
            f"register them with {wanted} in another process"
        )
    return found


def check(ptx: compiler.Ptx, case: KernelCase, source: Source, name: str, newest: Version, by: str) -> None:
    """Raise BuildError unless the PTX fits the launch and the driver supports its version."""
    if ptx.version > newest:
        got, most = (".".join(map(str, version)) for version in (ptx.version, newest))
        raise BuildError(
            f"{by} writes PTX {got}, and the driver that is to load the engine takes {most} at most (13.0 of CUDA, "
            'with the r580 drivers, takes 9.0); pass an older compiler, as `pip install "nvidia-cuda-nvrtc==13.0.*"` '
            "(9.0) or nvidia-cuda-nvrtc-cu12 (8.x) brings, or update the driver"
        )
    pointers = (_ONE_POINTER,) * (len(input_names(case.op)) + 1)
    wrong = {
        "entry": (ptx.entry, name),
        "parameters": (ptx.parameters, pointers),
        "cluster": (ptx.cluster, source.cluster),
        "memory beyond 48 KB": (max(0, ptx.shared + source.shared - MOST_SHARED), 0),
    }
    if lines := [f"{what} is {got}, not {right}" for what, (got, right) in wrong.items() if got != right]:
        raise BuildError(f"{case}: {by} made PTX that cannot be launched: {'; '.join(lines)}; {LIBRARY}")


def input_names(op: Op) -> tuple[str, ...]:
    """Names of the inputs of an operator, in order."""
    return ("x", *(("scale", "bias") if op.affine else ()), *(("residual",) if op.residual else ()))


def is_tensor(name: str) -> bool:
    """Whether it has the shape, type and layout of x; the others are (C,) float32."""
    return name in ("x", "residual", "y")


def groups(channels: int, kind: str) -> dict[str, int]:
    """Layouts of a type: name in tensorrt.TensorFormat -> channels per group."""
    return {"LINEAR": 1} if kind == "FP32" else {"LINEAR": 1, "HWC8": math.ceil(channels / 8) * 8}


def plugin_module(tensorrt: ModuleType) -> Any:
    """The module `tensorrt.plugin` with ahead-of-time support. Raises RuntimeUnavailable."""
    version = str(getattr(tensorrt, "__version__", "unknown"))
    if tensorrt.__name__ == "tensorrt_rtx":
        raise RuntimeUnavailable(
            f"TensorRT-RTX {version} has no ahead-of-time plugins, and no plugin in its networks; "
            "build with `simam-deploy build`, which uses the fallback definitions, or with TensorRT 10.9 or newer"
        )
    try:
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        numbers = ()
    if numbers < OLDEST:
        raise RuntimeUnavailable(
            f"TensorRT {version} has no ahead-of-time plugins, which came with 10.9; install a newer one, "
            f"or {LIBRARY}"
        )
    try:
        plugin = importlib.import_module(f"{tensorrt.__name__}.plugin")
    except ImportError as error:
        raise RuntimeUnavailable(f"TensorRT {version} has no tensorrt.plugin here ({error}); {LIBRARY}") from error
    if missing := [name for name in ("aot_impl", "KernelLaunchParams", "SymIntExprs") if not hasattr(plugin, name)]:
        raise RuntimeUnavailable(f"tensorrt.plugin of TensorRT {version} lacks {', '.join(missing)}; {LIBRARY}")
    return plugin


def import_tensorrt() -> ModuleType:
    """Import TensorRT. Raises RuntimeUnavailable."""
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise RuntimeUnavailable(
            f"no TensorRT here ({error}), and an ahead-of-time plugin needs 10.9 or newer; install it with: "
            'pip install "simam-deploy[ahead-of-time]"'
        ) from error


def _signed(function: Callable[..., Any], parameters: dict[str, Any], returns: Any) -> Callable[..., Any]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    listed = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in parameters.items()]
    function.__signature__ = inspect.Signature(listed, return_annotation=returns)  # type: ignore[attr-defined]
    return function


def _number(values: Any) -> float:
    return float(np.asarray(values, dtype=np.float32).reshape(-1)[0])


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
