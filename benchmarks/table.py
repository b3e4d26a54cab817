"""The tables of docs/explanation/benchmarks.md, from the newest run of each shape and network in results/cpu.jsonl.

python -m benchmarks.table            prints them
python -m benchmarks.table --write    puts them into that page
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.page import grid, put
from benchmarks.record import RESULTS

PAGE = Path(__file__).parents[1] / "docs/explanation/benchmarks.md"
SHAPES = ("1x256x80x80", "8x256x56x56", "1x64x224x224", "8x64x112x112", "1x512x20x20", "1x2048x7x7")
ALONE = (
    "plain copy",
    "kernel · ort",
    "primitive · ort",
    "instance_norm · ort",
    "primitive · openvino",
    "torch eager",
    "torch.compile",
)
NETWORKS = {
    "resnet50": "ResNet-50, SimAM before bn2",
    "resnet50, end": "ResNet-50, SimAM at the block's end",
    "resnet18": "ResNet-18, SimAM before bn2",
    "mobilenetv2": "MobileNetV2",
    "detector": "detector",
}
WITH = (
    "primitive · ort",
    "kernel · ort",
    "epilogue · ort",
    "specialised · ort",
    "without · openvino",
    "primitive · openvino",
)
Times = dict[str, float]


_VERSIONS = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "torch": "torch"}


def newest() -> dict[str, dict[str, Any]]:
    """The newest run of each shape and network."""
    lines = (RESULTS / "cpu.jsonl").read_text().splitlines()
    return {run["what"]: run for run in map(json.loads, lines)}


def times(runs: dict[str, dict[str, Any]]) -> dict[str, Times]:
    """Of each, the median of each label, in us."""
    return {what: {row["label"]: row["median_us"] for row in run["rows"]} for what, run in runs.items()}


def measured_with(runs: dict[str, dict[str, Any]]) -> str:
    """The machine, the versions and the date."""
    run = runs["resnet50"]
    versions = ", ".join(f"{name} {run['versions'][key]}" for name, key in _VERSIONS.items())
    return f"{run['threads']} threads, {run['machine']}, kernel {run['kernel']}, {versions}, {run['date']}."


def tables() -> str:
    """Both tables, and what they were measured with."""
    runs = newest()
    found = times(runs)
    networks = [_network(name, found[key]) for key, name in NETWORKS.items()]
    return "\n".join(
        [
            *grid(["SimAM alone", *ALONE], [_alone(shape, found[shape]) for shape in SHAPES]),
            "",
            *grid(["batch 1", "without · ort", *WITH], networks),
            "",
            measured_with(runs),
        ]
    )


def _alone(shape: str, times: Times) -> list[str]:
    """The copy in milliseconds, everything else as a multiple of it."""
    copy = times["plain copy"]
    return [shape, f"{copy / 1000:.2f} ms", *(f"{times[label] / copy:.1f}" for label in ALONE[1:])]


def _network(name: str, times: Times) -> list[str]:
    """The network without SimAM in milliseconds, everything else as the time over that."""
    without = times["without · ort"]
    extra = (round(times[label] / without - 1, 3) + 0.0 for label in WITH)
    return [name, f"{without / 1000:.1f} ms", *(f"{share:+.1%}" for share in extra)]


def main() -> None:
    """Print the tables, or write them into the page."""
    if "--write" not in sys.argv:
        print(tables())
        return
    put(PAGE, tables())


if __name__ == "__main__":
    main()
