"""Build one TensorRT-RTX engine in a separate process: a builder may abort, and then only this process ends.

    <python_command("simam_deploy.engines.worker")> '{"model", "engine", "targets", "profiles", "functions"}'

Reports to `simam_deploy.engines.builder` in JSON lines on stdout: {"stage": text} and {"log": text}, any number of
each, then one {"done": {"version", "layers", "targets", "build_s"}}, or {"error": [kind, text]} with a kind from
`builder.KINDS`, or {"os_error": [errno, text]} if the engine cannot be written. Output of the libraries goes to
stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tell = Callable[[str, object], None]


class _Refused(Exception):
    """kind, text."""


def main(argument: str) -> None:
    """Run the job in `argument`; see the docstring of the module."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)

        def tell(kind: str, what: object) -> None:
            channel.write(json.dumps({kind: what}) + "\n")
            channel.flush()

        try:
            tell("done", _build(json.loads(argument), tell))
        except _Refused as refused:
            tell("error", refused.args)
        except OSError as error:
            tell("os_error", [error.errno, error.strerror])


def _build(job: dict[str, Any], tell: Tell) -> dict[str, object]:
    try:
        import tensorrt_rtx as trt
    except ImportError as error:
        raise _Refused(
            "RuntimeUnavailable",
            f'no TensorRT-RTX here ({error}); install it with: pip install "simam-deploy[tensorrt-rtx]"',
        ) from error

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                self.lines.append(f"{severity.name}: {text}")
                tell("log", self.lines[-1])

    name, targets = Path(job["model"]).name, job["targets"]
    ours = {key.lower(): value for key, value in trt.ComputeCapability.__members__.items() if key.startswith("SM")}
    if unknown := [target for target in targets if target not in ours]:
        raise _Refused(
            "InputError",
            f"unknown target {', '.join(unknown)}; TensorRT-RTX {trt.__version__} builds for {', '.join(ours)}",
        )
    log = Log()
    builder = trt.Builder(log)
    flags = trt.NetworkDefinitionCreationFlag.__members__
    network = builder.create_network(sum(1 << int(flags[key]) for key in flags if key == "STRONGLY_TYPED"))

    tell("stage", "parse")
    parser = trt.OnnxParser(network, log)
    if taken := [function for function in job["functions"] if parser.supports_operator(function)]:
        raise _Refused(
            "BuildError",
            f"{name} has a function called {taken[0]}; TensorRT-RTX {trt.__version__} would use its own operator of "
            "that name and not read the function; give the function another name, or inline it (onnx.inliner)",
        )
    if not parser.parse_from_file(job["model"]):
        lines = "".join(f"\n  {parser.get_error(i)}" for i in range(parser.num_errors))
        raise _Refused("BuildError", f"TensorRT-RTX {trt.__version__} cannot parse {name}:{lines}{job['hint']}")

    targets = [target for target in ours if target in targets]  # one order: the order is part of the bytes
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(ours[target], index):
            raise _Refused("BuildError", f"TensorRT-RTX {trt.__version__} does not take {target} as target {index}")
    if job["profiles"]:
        profile = builder.create_optimization_profile()
        for tensor, shapes in job["profiles"].items():
            profile.set_shape(tensor, *shapes)
        if config.add_optimization_profile(profile) < 0:
            raise _Refused("BuildError", f"TensorRT-RTX {trt.__version__} refuses the shapes {job['profiles']}")

    tell("stage", f"build {', '.join(targets)}")
    start = time.perf_counter()
    engine = builder.build_serialized_network(network, config)
    build_s = time.perf_counter() - start
    if engine is None:
        lines = "".join(f"\n  {line}" for line in log.lines[-10:])
        raise _Refused("BuildError", f"TensorRT-RTX {trt.__version__} built no engine from {name}:{lines}")
    tell("stage", "write")
    Path(job["engine"]).write_bytes(engine)
    return {"version": trt.__version__, "layers": network.num_layers, "targets": targets, "build_s": build_s}


if __name__ == "__main__":
    main(sys.stdin.read())
