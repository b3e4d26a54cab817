"""Parse and build with TensorRT or TensorRT-RTX, in the process of the worker. All of the API goes by name.

A literal flag would mean another thing in another version: STRONGLY_TYPED is 1 in TensorRT 10 and 0 in 11.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from simam_deploy.artifacts.opening import opened
from simam_deploy.engines.api_table import since
from simam_deploy.engines.arguments import unknown_targets
from simam_deploy.engines.flavors import FLAVORS
from simam_deploy.engines.options import flag, needed
from simam_deploy.engines.our_functions import settle
from simam_deploy.engines.parsed_blocks import kinds_of, layers_of, parsed_blocks
from simam_deploy.engines.plugin_host import LOAD, register
from simam_deploy.engines.target_limits import reason_against
from simam_deploy.errors import InputError, NativeError
from simam_deploy.formula import OP_NAME, OPS

Tell = Callable[[str, object], None]
Job = dict[str, Any]
TELL_S = 0.2
"""Time between two reports of progress."""


class Refused(Exception):
    """kind, text."""


def build(job: Job, tell: Tell, cancelled: threading.Event) -> dict[str, object]:
    """Build the engine of a job: flavor, model, engine, targets, profiles, functions, hint, options, cache, plugin.

    engine : None parses alone.
    plugin : the library whose plugins compute our nodes, if any; for a process with plugin_host.environment_for.
    Returns version, layers, their types, blocks, targets, seconds of the build. Raises Refused, and OSError for files
    that cannot be written.
    """
    flavor = FLAVORS[job["flavor"]]
    try:
        trt = importlib.import_module(flavor.module)
    except ImportError as error:
        raise Refused(
            "RuntimeUnavailable", f"no {flavor.title} here ({error}); install it with: {flavor.install}"
        ) from error
    title = f"{flavor.title} {trt.__version__}"
    name = Path(job["model"]).name
    for option, needs in needed(job["options"]):
        if not has(trt, needs):
            there = f"{flag(option)} needs {since(needs, flavor.name)}"
            raise Refused("InputError", f"{title} has no {needs}: {there}; leave it out")
    targets = _targets(trt, title, job["targets"])
    log = _logger(trt, tell)
    builder = trt.Builder(log)
    if job.get("plugin"):
        tell("stage", f"{LOAD}{Path(job['plugin']).name}")
        try:
            register(trt, Path(job["plugin"]), log.lines)
        except NativeError as error:
            raise Refused("RuntimeUnavailable", str(error)) from error
    typed = trt.NetworkDefinitionCreationFlag.__members__["STRONGLY_TYPED"]
    network = builder.create_network(1 << int(typed))

    tell("stage", "parse")
    settled = _parse(trt, title, network, log, job)
    if reason := reason_against(network, targets):
        raise Refused("BuildError", f"{name} is not built for {', '.join(targets)}: {reason}")
    parsed = {"version": trt.__version__, "layers": network.num_layers, "types": kinds_of(layers_of(network))}
    if job["engine"] is None:
        return {**parsed, "blocks": parsed_blocks(trt, network, job["blocks"], settled, kinds=True)}
    config = builder.create_builder_config()
    _set(trt, config, job["options"])
    _set_targets(trt, title, config, targets)
    if job["profiles"]:
        _add_profile(title, builder, config, job["profiles"])
    cache = _timing_cache(config, job["options"].get("timing_cache"), log.lines)
    what = f"build {', '.join(targets)}" if targets else "build"
    monitor = _monitor(trt, what, tell, cancelled)  # the config does not keep it
    config.progress_monitor = monitor

    tell("stage", what)
    start = time.perf_counter()
    engine = builder.build_serialized_network(network, config)
    build_s = time.perf_counter() - start
    if engine is None:
        lines = "".join(f"\n  {line}" for line in log.lines[-10:])
        raise Refused("BuildError", f"{title} built no engine from {name}:{lines}")
    tell("stage", "write")
    _write(job["engine"], engine)
    if cache is not None:
        _write(job["cache"], config.get_timing_cache().serialize())
    return {
        **parsed,
        "blocks": parsed_blocks(trt, network, job["blocks"], settled),
        "targets": targets,
        "build_s": build_s,
    }


def _write(file: str, content: Any) -> None:
    """Write a file. Raises OSError with its name, which one of a full disk lacks."""
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from error


def has(trt: Any, name: str) -> bool:
    """Whether an API has a name, as BuilderFlag.REFIT or IBuilderConfig.max_aux_streams."""
    holder, _, member = name.partition(".")
    return hasattr(getattr(trt, holder, None), member)


def _targets(trt: Any, title: str, asked: list[str]) -> list[str]:
    """In one order: the order is part of the bytes."""
    if not asked:
        return []
    known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if unknown := [target for target in asked if target not in known]:
        raise Refused("InputError", unknown_targets(unknown, known, title))
    return [target for target in known if target in asked]


def _set_targets(trt: Any, title: str, config: Any, targets: list[str]) -> None:
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index):
            raise Refused("BuildError", f"{title} does not take {target} as target {index}")


def _add_profile(title: str, builder: Any, config: Any, profiles: dict[str, Any]) -> None:
    profile = builder.create_optimization_profile()
    for tensor, shapes in profiles.items():
        profile.set_shape(tensor, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise Refused("BuildError", f"{title} refuses the shapes {profiles}")


def _logger(trt: Any, tell: Tell) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                self.lines.append(f"{severity.name}: {text}")
                tell("log", self.lines[-1])

    return Log()


def _monitor(trt: Any, what: str, tell: Tell, cancelled: threading.Event) -> Any:
    """Reports the outermost phases, and cancels."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.last = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps and time.monotonic() - self.last > TELL_S:
                self.last = time.monotonic()
                tell("stage", f"{what}: {phase_name}, {step + 1} of {self.steps[phase_name]}")
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def _parse(trt: Any, title: str, network: Any, log: Any, job: Job) -> list[str]:
    """Parse the model into the network. Returns the calls that our fallback definitions replaced."""
    name = Path(job["model"]).name
    parser = trt.OnnxParser(network, log)
    if taken := [function for function in job["functions"] if parser.supports_operator(function)]:
        raise Refused(
            "BuildError",
            f"{name} has a function called {taken[0]}; {title} would use its own operator of "
            "that name and not read the function; give the function another name, or inline it (onnx.inliner)",
        )
    parsed, settled = _read(parser, job)
    if not parsed:
        ours = [line for line in log.lines if line.startswith(f"ERROR: {OP_NAME}")]  # of our plugin
        said = ours + [str(parser.get_error(i)) for i in range(parser.num_errors)]
        lines = "".join(f"\n  {line}" for line in said)
        remedy = job["hint"] or ("" if ours else _validity(job["model"]))
        raise Refused("BuildError", f"{title} cannot parse {name}:{lines}{remedy}")
    return settled


def _validity(model: str) -> str:
    """Whether the file or the parser is at fault, by the onnx checker, and the remedy."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        why = next(filter(str.strip, str(error).splitlines()), type(error).__name__)
        return f"\nthe file is not valid ONNX: {why.strip()}\nexport the model again"
    return "\nthe onnx checker finds no fault, so the parser lacks this; export without it, or in another opset"


def _read(parser: Any, job: Job) -> tuple[bool, list[str]]:
    """Parse the file, with our fallback definitions in place of their calls. Returns the names of these too."""
    plugin = bool(job.get("plugin"))
    if not plugin and not any(name in OPS for name in job["functions"]):
        return parser.parse_from_file(job["model"]), []
    model = onnx.load(job["model"], load_external_data=False)
    settled = settle(model, plugin=plugin)
    return parser.parse(model.SerializeToString(), job["model"]), settled  # the path leads to weights in other files


def _set(trt: Any, config: Any, options: dict[str, Any]) -> None:
    """Set what was asked for. The names were looked up before."""
    flags = {"version_compatible": "VERSION_COMPATIBLE", "refit": "REFIT", "strip": "STRIP_PLAN"}
    flags["sparse_weights"] = "SPARSE_WEIGHTS"
    for option, value in options.items():
        if option in flags:
            config.set_flag(getattr(trt.BuilderFlag, flags[option]))
        elif option == "workspace_mb":
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, value << 20)
        elif option == "tf32":
            (config.set_flag if value else config.clear_flag)(trt.BuilderFlag.TF32)
        elif option == "optimization_level":
            config.builder_optimization_level = value
        elif option == "hardware_compatible":
            config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, value.upper())
        elif option == "profiling_verbosity":
            config.profiling_verbosity = getattr(trt.ProfilingVerbosity, value.upper())
        elif option == "max_aux_streams":
            config.max_aux_streams = value
        elif option == "max_tactics":
            config.max_num_tactics = value


def _timing_cache(config: Any, path: str | None, log: list[str]) -> Any:
    """The cache of the file, or a new one; None if none is asked for.

    Of a file that it cannot read, a builder makes an empty cache and tells the log alone. The file would be replaced.
    """
    if path is None:
        return None
    held = b""
    if Path(path).exists():
        try:
            with opened(path, InputError, "timing cache") as stream:
                held = stream.read()
        except InputError as error:
            raise Refused("InputError", f"--timing-cache: {error}") from error
    told = len(log)
    cache = config.create_timing_cache(held)
    unread = held and any("Failed to deserialize" in line for line in log[told:])
    if cache is None or unread or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise Refused(
            "InputError",
            f"--timing-cache {path} is not a cache of this TensorRT and this GPU; delete it, or name another file",
        )
    return cache
