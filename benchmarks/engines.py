"""Engines of every precision: the types that TensorRT-RTX parses, and whether they build. No GPU is needed.

    PYTHONPATH=tests python -m benchmarks.engines            prints, keeps, writes the table of the page
    PYTHONPATH=tests python -m benchmarks.engines --table    writes that table anew

`tests/precision/test_engines_typed.py` asks the same of digits in each run of the tests.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.page import grid, put
from benchmarks.pixels import NETWORKS
from benchmarks.record import RESULTS, Growing
from simam_deploy.cli import render
from simam_deploy.engines.builder import build_engine
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.wanted import PRECISIONS, Wanted
from simam_deploy.text import Say

PAGE = Path(__file__).parents[1] / "docs/howto/tensorrt_rtx.md"
CHOSEN = [name for name in NETWORKS if name not in ("resnet50", "mobilenetv2")]
TARGETS = ("sm86", "sm89", "sm120")
FEW = 4
"""Samples that files are converted with. The types depend on them only where 16 bits overflow."""


def main(arguments: list[str]) -> None:
    """See the head of this file."""
    if "--table" not in arguments:
        kept = Growing(RESULTS / "engines.jsonl", targets=TARGETS)
        with render.progress() as say, tempfile.TemporaryDirectory() as folder:
            for name in CHOSEN:
                for row in _rows(name, Path(folder), say):
                    print(row, flush=True)
                    kept.add(row)
    put(PAGE, "\n".join(_table()))


def _rows(name: str, folder: Path, say: Say) -> Iterator[dict[str, Any]]:
    from helpers.parsed_layers import blocks_in_float32, parsed_layers

    source, low = folder / f"{name}.onnx", folder / "low.onnx"
    network = NETWORKS[name]
    network.export(source, say)
    samples = network.samples(source).fewer(FEW)
    for precision in ("fp32", *PRECISIONS):
        say(f"{name}: {precision}")
        file, blocks = source, None
        if precision != "fp32":
            converted = convert_file(source, low, Wanted(precision, target="tensorrt"), samples)
            file, blocks = low, len(converted.blocks)
        layers = parsed_layers(file)
        types = Counter(layer.computes_in for layer in layers if layer.kind in ("CONVOLUTION", "MATRIX_MULTIPLY"))
        inside = blocks_in_float32(layers)
        assert blocks in (None, inside), f"{blocks} SimAM blocks, and {inside} in float32"
        built = build_engine(file, folder / "net.engine", targets=TARGETS)
        yield {
            "network": name,
            "precision": built.precision,
            "layers": dict(types),
            "simam": inside,
            "onnx_mb": file.stat().st_size / 1e6,
            "engine_mb": built.size_bytes / 1e6,
            "build_s": built.build_s,
        }


def _table() -> list[str]:
    run = json.loads((RESULTS / "engines.jsonl").read_text().splitlines()[-1])
    cells = [
        [
            row["network"],
            row["precision"],
            ", ".join(f"{count} {kind}" for kind, count in row["layers"].items()),
            str(row["simam"]),
            f"{row['onnx_mb']:.1f} MB",
            f"{row['engine_mb']:.1f} MB",
        ]
        for row in run["rows"]
    ]
    head = ["network", "precision", "convolutions and matrix products", "SimAM in float32", "ONNX file", "engine"]
    versions = f"TensorRT-RTX {run['versions']['tensorrt-rtx-cu13']}, {run['date']}."
    return [*grid(head, cells), "", f"Each engine is for {', '.join(run['targets'])}. {versions}"]


if __name__ == "__main__":
    main(sys.argv[1:])
