"""Engines with our plugin and without: layers, bytes and warnings of TensorRT-RTX. No GPU is needed; nothing runs.

    python -m benchmarks.plugin            prints, keeps, writes the table of the page
    python -m benchmarks.plugin --table    writes that table anew

It needs the plugin library, see docs/howto/tensorrt.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

import simam_deploy as sd
from benchmarks.engines import CHOSEN, FEW, TARGETS
from benchmarks.page import grid, put
from benchmarks.pixels import NETWORKS
from benchmarks.record import RESULTS, Growing
from simam_deploy.cli import render
from simam_deploy.engines.plugin_host import PLUGIN, environment_for
from simam_deploy.engines.run_worker import run_worker
from simam_deploy.formula import OP_NAME
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.wanted import Wanted
from simam_deploy.text import Say

PAGE = Path(__file__).parents[1] / "docs/howto/tensorrt.md"
NAME = "plugin_engines"
TYPES = ("fp32", "fp16", "bf16")


def main(arguments: list[str]) -> None:
    """See the head of this file."""
    if "--table" not in arguments:
        library = PLUGIN.find()
        if library is None:
            sys.exit(PLUGIN.why_not())
        kept = Growing(RESULTS / f"{NAME}.jsonl", targets=TARGETS)
        with render.progress() as say, tempfile.TemporaryDirectory() as folder:
            for name in CHOSEN:
                for row in _rows(name, library, Path(folder), say):
                    print(row, flush=True)
                    kept.add(row)
    put(PAGE, "\n".join(_table()))


def _rows(name: str, library: Path, folder: Path, say: Say) -> Iterator[dict[str, Any]]:
    source, low, fused = (folder / f"{name}-{kind}.onnx" for kind in ("source", "low", "fused"))
    NETWORKS[name].export(source, say)
    samples = NETWORKS[name].samples(source).fewer(FEW)
    for precision in TYPES:
        say(f"{name}: {precision}")
        file = source
        if precision != "fp32":
            file = low
            convert_file(source, low, Wanted(precision, target="tensorrt"), samples)
        sd.fuse(file, fused, epilogue=True)
        folded = any(block.op != OP_NAME for block in sd.find_blocks(fused).blocks)
        for epilogue, model in ((False, file), (True, fused))[: 1 + folded]:
            alone, with_plugin = (_built(model, plugin, folder) for plugin in (None, library))
            yield {
                "network": name,
                "precision": precision,
                "epilogue": epilogue,
                "blocks": len(with_plugin["blocks"]),
                "by_plugin": sum(block["built"] == "plugin" for block in with_plugin["blocks"]),
                "layers": [alone["layers"], with_plugin["layers"]],
                "bytes": [alone["bytes"], with_plugin["bytes"]],
                "warnings": [alone["warnings"], with_plugin["warnings"]],
            }


def _built(model: Path, plugin: Path | None, folder: Path) -> dict[str, Any]:
    """Build as `simam-deploy build` does."""
    read = onnx.load(model, load_external_data=False)
    engine = folder / "net.engine"
    job: dict[str, object] = {
        "flavor": "tensorrt_rtx",
        "model": str(model),
        "engine": str(engine),
        "targets": TARGETS,
        "profiles": {},
        "functions": [function.name for function in read.functions],
        "blocks": [block.node for block in sd.find_blocks(model).blocks],
        "options": {},
        "hint": "",
        "memory": None,
        "plugin": str(plugin or ""),
    }
    with tempfile.TemporaryDirectory() as link:
        done, log = run_worker(job, None, None, environment_for(Path(link)))
    return {**done, "bytes": engine.stat().st_size, "warnings": len(log)}


def _table() -> list[str]:
    run = json.loads((RESULTS / f"{NAME}.jsonl").read_text().splitlines()[-1])
    cells = [
        [
            row["network"],
            row["precision"] + ", epilogue" * row["epilogue"],
            f"{row['by_plugin']} of {row['blocks']}",
            *(f"{layers}" for layers in row["layers"]),
            *(f"{size / 1e6:.2f} MB" for size in row["bytes"]),
            f"{sum(row['warnings'])}",
        ]
        for row in run["rows"]
    ]
    head = [
        "network",
        "types",
        "blocks by the plugin",
        "layers without",
        "with",
        "engine without",
        "with",
        "warnings",
    ]
    versions = f"TensorRT-RTX {run['versions']['tensorrt-rtx-cu13']}, {run['date']}."
    return [*grid(head, cells), "", f"Each engine is for {', '.join(run['targets'])}. {versions}"]


if __name__ == "__main__":
    main(sys.argv[1:])
