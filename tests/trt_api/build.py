"""Parse ONNX files and build their engines with the `tensorrt` that is found: python build.py model.onnx ...

Prints JSON: the version, for each file its layers, bytes and events of progress, and the settings as they come back.
"""

import json
import sys
from typing import Any

import tensorrt as trt


class Log(trt.ILogger):  # type: ignore[misc]
    """Errors, in a list."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, text: str) -> None:
        """Called by TensorRT."""
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(text)


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """Counts."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)
        self.events = 0

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """Called by TensorRT."""
        self.events += 1

    def phase_finish(self, name: str) -> None:
        """Called by TensorRT."""
        self.events += 1

    def step_complete(self, name: str, step: int) -> bool:
        """Called by TensorRT; False cancels."""
        self.events += 1
        return True


def build(path: str) -> dict[str, Any]:
    """The engine of one file. Sizes that are dynamic become 1 to 8, best at 4."""
    log, monitor = Log(), Monitor()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(path):
        raise SystemExit([str(parser.get_error(index)) for index in range(parser.num_errors)])
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    config.builder_optimization_level = 2
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    config.set_flag(trt.BuilderFlag.DISABLE_TIMING_CACHE)
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for tensor in map(network.get_input, range(network.num_inputs)):
        profile.set_shape(tensor.name, *(tuple(n if d < 0 else d for d in tensor.shape) for n in (1, 4, 8)))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return {
        "errors": log.errors,
        "layers": network.num_layers,
        "bytes": 0 if engine is None else engine.nbytes,
        "events": monitor.events,
        "profiles": config.num_optimization_profiles,
        "level": config.builder_optimization_level,
        "verbosity": config.profiling_verbosity.name,
        "workspace": config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE),
        "flags": [name for name, flag in trt.BuilderFlag.__members__.items() if has(config, flag)],
        "registry": trt.get_plugin_registry() is not None,
    }


def has(config: Any, flag: Any) -> bool:
    """Whether it is set. What stands for a flag that the core lacks is not."""
    return isinstance(flag, trt.BuilderFlag) and config.get_flag(flag)


if __name__ == "__main__":
    print(json.dumps({"version": trt.__version__, "files": [build(path) for path in sys.argv[1:]]}))
