"""The README's table, from the newest run of each network in results/forms.jsonl.

python -m benchmarks.table            prints it
python -m benchmarks.table --write    puts it into README.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
NETWORKS = {
    "resnet50": "ResNet-50, SimAM before bn2",
    "resnet50, end": "ResNet-50, SimAM at the block's end",
    "resnet18": "ResNet-18, SimAM before bn2",
    "mobilenetv2": "MobileNetV2",
    "detector": "detector",
}
FORMS = ("primitive", "function", "instance_norm")
RUNTIMES = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}


def table() -> str:
    """Extra time over the same network without SimAM, per form and runtime; medians of one interleaved run."""
    runs: dict[str, dict[str, Any]] = {}
    for line in (RESULTS / "forms.jsonl").read_text().splitlines():
        run = json.loads(line)
        runs[run["what"]] = run
    head = [
        "batch 1",
        *(f"{name}: none" if form is None else form for name in RUNTIMES.values() for form in (None, *FORMS)),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for key, title in NETWORKS.items():
        times = {row["label"]: row["median_us"] for row in runs[key]["rows"]}
        cells = [title]
        for runtime in RUNTIMES:
            without = times[f"without · {runtime}"]
            cells.append(f"{without / 1000:.1f} ms")
            cells += [f"{round(times[f'{form} · {runtime}'] / without - 1, 2) + 0.0:+.0%}" for form in FORMS]
        lines.append("| " + " | ".join(cells) + " |")
    run = runs["resnet50"]
    versions = f"ONNX Runtime {run['versions']['onnxruntime']}, OpenVINO {run['versions']['openvino']}"
    lines.append(f"\n{run['threads']} threads, {run['machine']}, {versions}, {run['date']}.")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it into the README."""
    if "--write" not in sys.argv:
        print(table())
        return
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
