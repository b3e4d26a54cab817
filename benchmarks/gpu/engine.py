"""An engine as the package builds, runs and compares it: `build`, then `verify`, with TensorRT or TensorRT-RTX."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.gpu.api import Machine
from benchmarks.gpu.verdict import Sizes, Skipped, Verdict

if TYPE_CHECKING:
    from simam_deploy.engines.flavors import Flavor

SHAPES = {"x": ((1, 8, 4, 4), (2, 8, 28, 28), (4, 8, 56, 56))}
NO_TENSORRT = "no TensorRT that builds for sm{}: pip install tensorrt onnx onnx-ir cuda-bindings"


def check(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Outputs, graphs and threads of each TensorRT that builds for this GPU. Raises Skipped without one."""
    if machine.emulated:
        return
    try:
        import onnx  # noqa: F401
        import onnx_ir  # noqa: F401

        from simam_deploy.engines.flavors import FLAVORS
    except ImportError as error:
        raise Skipped(f"{error}: pip install tensorrt onnx onnx-ir") from error
    flavors = [flavor for flavor in FLAVORS.values() if flavor.installed and _builds(flavor, machine)]
    if not flavors:
        raise Skipped(NO_TENSORRT.format(machine.chip.capability))
    for flavor in flavors:
        with tempfile.TemporaryDirectory() as folder:
            yield from _one(flavor, machine, Path(folder))


def _builds(flavor: Flavor, machine: Machine) -> bool:
    from simam_deploy.engines.header import TARGETS

    return flavor.name == "tensorrt" or f"sm{machine.chip.capability}" in TARGETS


def _one(flavor: Flavor, machine: Machine, folder: Path) -> Iterator[Verdict]:
    from simam_deploy import build_engine, open_session, verify
    from simam_deploy.graph import onnx_file
    from simam_deploy.rewrite.forms import alone

    file, engine = folder / "block.onnx", folder / "block.engine"
    onnx_file.save(alone("function", ("n", 8, "h", "w")), file)
    targets = [f"sm{machine.chip.capability}"] if flavor.name == "tensorrt_rtx" else []
    build_engine(file, engine, flavor=flavor.name, targets=targets, shapes=SHAPES, tf32=False)
    for row in verify(engine, against=file).rows:
        yield Verdict(f"{flavor.name} {row.case}", row.share, "" if row.passed else "verify fails it")
    draw = np.random.default_rng(0).standard_normal
    feeds = [{"x": draw((1 + at % 4, 8, 4 + 3 * at, 56 - 3 * at), np.float32)} for at in range(12)]
    with open_session(engine, "trt") as session:
        (name,) = (spec.name for spec in session.outputs)
        alone_ = [session.run(feed)[name] for feed in feeds]
    for how in ({"cuda_graph": True}, {"contexts": 3}):
        with open_session(engine, "trt", **how) as session, ThreadPoolExecutor(4) as pool:
            again = list(pool.map(session.run, [feed for feed in feeds for _ in range(3)]))
            same = [np.array_equal(got[name], alone_[at // 3]) for at, got in enumerate(again)]
        yield Verdict(f"{flavor.name} {how}", 0.0, "" if all(same) else f"{same.count(False)} runs give other bits")
