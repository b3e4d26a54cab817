"""Build a TensorRT-RTX engine and its manifest from an ONNX model, for named targets, without a GPU.

    build_engine("model.onnx", "model.engine", targets=["sm86", "sm89"], shapes={"x": (1, 3, 224, 224)})

Types are those of the graph (a strongly typed network). The engine file holds the engine alone; `model.engine.json`
describes its origin. The builder runs in a separate process, engines/worker.py, because it may abort. Another builder
would be another worker with the same protocol.
"""

from __future__ import annotations

import json
import math
import platform
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import onnx

from simam_deploy import __version__
from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.engines.shape_ranges import Given, ShapeRange, profiles_of, shape_range
from simam_deploy.errors import BuildError, InputError, RuntimeUnavailable
from simam_deploy.formula import OP_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.graph.shapes import Shapes
from simam_deploy.graph.traverse import nodes
from simam_deploy.processes.python_command import environment, python_command
from simam_deploy.text import on_one_line

WORKER = python_command("simam_deploy.engines.worker")
KINDS = {kind.__name__: kind for kind in (InputError, RuntimeUnavailable, BuildError)}
MOST_NODES = 5_000
"""Upper bound on nodes after inlining. The builder takes a millisecond and 200 KB for each, and more for some."""
A_CALL = 3
"""Cost of a function call for the builder, in nodes."""
MANY_INPUTS = 16
"""Number of inputs of one node, such as Sum or Concat, above which the builder makes a layer for each."""
MOST_FOLDED = 2**24
"""Upper bound on numbers computed from constants and sizes alone, in addition to the number of weights. The builder
folds them into the engine."""
INT8 = "\nint8 for TensorRT is made of the float32 file: simam-deploy convert FLOAT.onnx --to int8 --target tensorrt"
"""Behind the parser's words for a quantised file. It takes no zero points and no integer biases."""
_KNOWN_DOMAINS = ("", "ai.onnx", "trt")


@dataclass(frozen=True)
class EngineReport:
    """Result of a build.

    precision : of the ONNX file, as fp16 or int8+fp16: the engine has its types.  build_s : without parsing and
    writing.  log : warnings and errors of the builder.
    """

    path: Path
    precision: str
    targets: tuple[str, ...]
    profiles: dict[str, ShapeRange]
    size_bytes: int
    layers: int
    version: str
    build_s: float
    log: tuple[str, ...]


def build_engine(
    model_path: str | Path,
    engine_path: str | Path,
    *,
    targets: Sequence[str],
    shapes: Mapping[str, Given] | None = None,
    on_progress: Callable[[str], None] | None = None,
    timeout_s: float | None = None,
    limits: bool = True,
) -> EngineReport:
    """Build `engine_path` and `<engine_path>.json` from the ONNX file `model_path`.

    targets : GPU kinds such as "sm86" (compute capability 8.6).
    shapes : for each input with a dynamic size its sizes, as (1, 3, 224, 224), or three of them: the smallest, the
    best and the largest.
    on_progress : called with "parse", "build sm86, sm89", "write".  timeout_s : of the builder process.
    limits : refuse more than MOST_NODES nodes, and more than MOST_FOLDED folded numbers.
    Raises InputError (ModelFileError for the file) before the builder starts, for instance for too many nodes or an
    unknown target; RuntimeUnavailable without tensorrt_rtx; OutputError; BuildError if the builder refuses, dies or
    exceeds the time.
    """
    model_path, engine_path = Path(model_path), Path(engine_path)
    wanted = [target.lower() for target in targets]
    if not wanted:
        raise InputError("no target to build for; name the GPU kinds, such as sm86 (compute capability 8.6)")
    model, graph = onnx_file.both(model_path)
    if limits:
        _refuse_much(model, model_path)
    _refuse_unknown_nodes(model, model_path)
    profiles = profiles_of(model, {name: shape_range(name, given) for name, given in (shapes or {}).items()})
    refuse_overwriting_inputs(engine_path, [model_path, *onnx_file.weight_files(model, model_path)])
    job = {
        "model": str(model_path),
        "targets": wanted,
        "profiles": profiles,
        "functions": sorted({function.name for function in model.functions}),
        "hint": INT8 if "int8" in precision(graph) else "",
    }
    with staging(engine_path) as staged:
        done, log = _run({**job, "engine": str(staged)}, on_progress, timeout_s)
        report = EngineReport(
            path=engine_path,
            precision=precision(graph),
            targets=tuple(done["targets"]),
            profiles=profiles,
            size_bytes=staged.stat().st_size,
            layers=done["layers"],
            version=done["version"],
            build_s=done["build_s"],
            log=tuple(log),
        )
        manifest.write(_manifest(report, manifest.file_source(model_path)), staged)
    return report


def _refuse_much(model: onnx.ModelProto, path: Path) -> None:
    count = onnx_file.count_nodes(model, path, A_CALL)
    count += sum(len(node.input) for node in nodes(model) if len(node.input) > MANY_INPUTS)
    if count > MOST_NODES:
        raise InputError(
            f"no engine is built of {path}: it has {count:,} nodes with all functions in place (calls of functions "
            f"count as {A_CALL} more, nodes of many inputs as so many), and the builder takes time and memory for "
            f"each; up to {MOST_NODES:,} are built without --no-limits"
        )
    with onnx_file.blaming(path):
        (sizes, *_) = Shapes(onnx_file.load(path)).trials
    fixed = {tensor.name for tensor in model.graph.initializer}
    weights = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    made = 0
    for node in model.graph.node:
        if node.op_type in ("Constant", "Shape", "Size") or fixed.issuperset(filter(None, node.input)):
            fixed.update(node.output)
            made += sum(math.prod(sizes.get(name, ())) for name in node.output if node.op_type != "Constant")
    if made > MOST_FOLDED + weights:
        raise InputError(
            f"no engine is built of {path}: it makes {made:,} numbers of constants alone, which the engine would "
            f"hold; up to {MOST_FOLDED:,} besides its weights are built without --no-limits"
        )


def _manifest(report: EngineReport, source: manifest.Record) -> manifest.Record:
    return {
        "source": source,
        "engine": {"file": report.path.name, "bytes": report.size_bytes, "layers": report.layers},
        "precision": report.precision,
        "targets": list(report.targets),
        "profiles": {name: shape._asdict() for name, shape in report.profiles.items()},
        "strongly_typed": True,
        "versions": {
            "simam_deploy": __version__,
            "tensorrt_rtx": report.version,
            "onnx": onnx.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",  # platform() starts `uname`
        },
    }


def _refuse_unknown_nodes(model: onnx.ModelProto, path: Path) -> None:
    """Refuse operators of other domains without a function: the parser would read foo::Relu as Relu."""
    defined = {(function.domain, function.name) for function in model.functions}
    for node in nodes(model):
        if node.domain not in _KNOWN_DOMAINS and (node.domain, node.op_type) not in defined:
            op = on_one_line(f"{node.domain}::{node.op_type}")
            what = f"{path}: node {node.name or node.output[0]!r} is {op}"
            if node.domain == OP_DOMAIN:
                raise BuildError(
                    f"{what}, and no fallback definition is in the file (form custom_op); TensorRT-RTX takes no "
                    f"plugins in its networks; put it in with: simam-deploy fuse {path} -o OUT.onnx --form function"
                )
            raise BuildError(
                f"{what}, and no function for it is in the file; TensorRT-RTX goes by the name alone, so it would "
                f"not know {op} or take it for ONNX's own; export the model without {op}"
            )


def _started(job: Mapping[str, object], given: IO[bytes], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    given.write(json.dumps(job).encode())
    given.seek(0)
    return subprocess.Popen([*WORKER], stdin=given, stdout=subprocess.PIPE, stderr=stderr, env=environment())


def _run(
    job: Mapping[str, object], on_progress: Callable[[str], None] | None, timeout_s: float | None
) -> tuple[dict[str, Any], list[str]]:
    """Run the worker to its end. Returns its result and the log of the builder."""
    log: list[str] = []
    last: dict[str, Any] = {}
    end = time.monotonic() + (threading.TIMEOUT_MAX if timeout_s is None else timeout_s)
    with (
        tempfile.TemporaryFile() as given,  # an argument may not be that long
        tempfile.TemporaryFile() as stderr,
        _started(job, given, stderr) as process,
    ):
        timer = threading.Timer(max(0, end - time.monotonic()), process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                with suppress(ValueError):  # half a line: the worker died while it wrote
                    last = json.loads(line)
                if "log" in last:
                    log.append(last["log"])
                elif "stage" in last and on_progress:
                    on_progress(last["stage"])
            process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
        stderr.seek(0)
        ending = [*log, *stderr.read().decode(errors="replace").splitlines()][-10:]
    if "done" in last:
        return last["done"], log
    if "os_error" in last:
        raise OSError(*last["os_error"], str(job["engine"]))
    if "error" in last:
        kind, text = last["error"]
        raise KINDS[kind](text)
    status = process.returncode
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}, no result"
    if time.monotonic() >= end:
        how = f"was stopped after {timeout_s:g} s"
    raise BuildError(
        f"the engine builder {how}; its last lines:" + "".join(f"\n  {line}" for line in ending or ["none"])
    )
