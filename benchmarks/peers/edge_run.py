"""MNN and ncnn, in a process of their own: `python -m benchmarks.peers.edge_run`. Float32 throughout.

    convert mnn|ncnn MODEL.onnx              writes the runtime's files beside it
    run mnn|ncnn MODEL.onnx FEED.npz OUT.npz [--winograd]    runs them; arrays by the names of the ONNX file

--winograd leaves MNN its own choice of Winograd convolutions, which lose digits.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from simam_deploy.artifacts import manifest

WINOGRAD_MEMORY_LEVEL = 3
"""MNN's Interpreter::HintMode of that name."""
Arrays = dict[str, Any]


def main(what: str, runtime: str, model: str, *rest: str) -> None:
    """See above."""
    path = Path(model)
    if what == "convert":
        {"mnn": _convert_mnn, "ncnn": _convert_ncnn}[runtime](path)
        return
    feed, target, *options = rest
    with np.load(feed) as held:
        feeds = dict(held)
    graph = onnx.load(path, load_external_data=False).graph
    outputs = [value.name for value in graph.output]
    if runtime == "mnn":
        made = _run_mnn(path, feeds, outputs, winograd="--winograd" in options)
    else:
        made = _run_ncnn(path, feeds, outputs)
    np.savez(target, **made)


def _convert_mnn(path: Path) -> None:
    """By the converter itself: the wheel's command `mnnconvert` installs a package, and reports that it was used.

    It returns 0 when it fails too, so its file is looked for.
    """
    import _tools
    import MNN  # noqa: F401  the extension needs what it loads

    made = path.with_suffix(".mnn")
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(made), "--bizCode", "simam"])
    if not made.exists():
        raise SystemExit("MNN's converter wrote nothing")


def _convert_ncnn(path: Path) -> None:
    """At the sizes of the file, or of the example that a file of dynamic sizes was exported with.

    Without fp16=0 pnnx stores weights in float16. It ends in a crash on what it does not take.
    """
    spec = find_spec("pnnx")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    model = onnx.load(path, load_external_data=False)
    fixed = {v.name: [size.dim_value for size in v.type.tensor_type.shape.dim] for v in model.graph.input}
    shapes = manifest.example({entry.key: entry.value for entry in model.metadata_props}) or fixed
    sizes = ",".join(f"[{','.join(map(str, shapes[name]))}]" for name in fixed)
    command = [f"{spec.submodule_search_locations[0]}/pnnx", str(path), f"inputshape={sizes}", "fp16=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.with_suffix(".ncnn.param").exists():
        raise SystemExit(f"pnnx: exit {done.returncode}: {(done.stderr or done.stdout)[-300:]}")


def _run_mnn(path: Path, feeds: Arrays, outputs: list[str], *, winograd: bool) -> Arrays:
    """Feeds and outputs in NCHW: MNN may return its own layout, NC4HW4, whose channels are padded to fours."""
    from MNN import expr, nn

    manager = nn.create_runtime_manager(({"precision": "high", "backend": "CPU", "numThread": 1},))
    if not winograd:
        manager.set_hint(WINOGRAD_MEMORY_LEVEL, 0)
    network = nn.load_module_from_file(str(path.with_suffix(".mnn")), [*feeds], outputs, runtime_manager=manager)
    found = network.forward([expr.const(x, [*x.shape], expr.NCHW) for x in feeds.values()])
    planar = [expr.convert(y, expr.NCHW) if y.data_format == expr.NC4HW4 else y for y in found]
    return {name: np.array(y.read()) for name, y in zip(outputs, planar, strict=True)}


def _run_ncnn(path: Path, feeds: Arrays, outputs: list[str]) -> Arrays:
    """One sample: ncnn has no batch axis."""
    import ncnn

    network = ncnn.Net()
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{name}", False)
    network.opt.num_threads = 1
    if network.load_param(str(path.with_suffix(".ncnn.param"))) or network.load_model(
        str(path.with_suffix(".ncnn.bin"))
    ):
        raise SystemExit("ncnn did not load what pnnx wrote")
    extractor = network.create_extractor()
    for name, x in zip(network.input_names(), feeds.values(), strict=True):
        extractor.input(name, ncnn.Mat(np.ascontiguousarray(x[0])).clone())
    made = {}
    for name, inner in zip(outputs, network.output_names(), strict=True):
        status, y = extractor.extract(inner)
        if status:
            raise SystemExit(f"ncnn did not compute {inner}: {status}")
        made[name] = np.array(y)[None]
    return made


if __name__ == "__main__":
    main(*sys.argv[1:])
