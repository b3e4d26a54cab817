"""What lower precision costs where there is a task: mAP of `scenes`, accuracy of `digits`.

    python -m benchmarks.accuracy            measures, prints and keeps the table
    python -m benchmarks.accuracy --write    puts the newest into docs/howto/int8.md

16-bit files run on the oracle, int8 in ONNX Runtime. Calibration is on samples of the training sets.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page import grid, put
from benchmarks.record import RESULTS, keep
from export_models import digits, scenes
from export_models.scenes import data, metrics
from simam_deploy import api
from simam_deploy.cli import render
from simam_deploy.formula import Array
from simam_deploy.runtimes import Session, open_session
from simam_deploy.text import Say, as_table
from simam_deploy.to_onnx import export

PAGE = Path(__file__).parents[1] / "docs/howto/int8.md"
FILES = (
    ("fp16", "cpu"),
    ("bf16", "cpu"),
    ("int8", "cpu"),
    ("int8", "tensorrt"),
    ("int8", "openvino"),
    ("int8+fp16", "tensorrt"),
)
CALIBRATION, BATCH = 128, 16
AccuracyRow = dict[str, Any]
ScoreSession = Callable[[Session], float]


def main() -> None:
    """Print the table, or write the newest into the page."""
    if "--write" in sys.argv:
        put(PAGE, table())
        return
    with render.progress() as say, tempfile.TemporaryDirectory() as folder:
        rows = [*_of("digits", digits.build, _digits(), Path(folder), say)]
        rows += _of("scenes", scenes.build, _scenes(), Path(folder), say)
    print(as_table(list(rows[0]), map(_shown, rows), right=["score", "SNR dB"]))
    keep("accuracy", rows, calibration=CALIBRATION)


def _shown(row: AccuracyRow) -> list[str]:
    return [
        row["network"],
        row["file"],
        f"{row['score']:.4f}",
        "" if row["SNR dB"] is None else f"{row['SNR dB']:.1f}",
    ]


def table() -> str:
    """Of the newest run: a row for each precision, and what it was measured with."""
    run = [json.loads(line) for line in (RESULTS / "accuracy.jsonl").read_text().splitlines()][-1]
    found = {(row["network"], row["file"]): row for row in run["rows"]}
    lines = []
    for name in dict.fromkeys(row["file"] for row in run["rows"]):
        cells = [name]
        for network in ("digits", "scenes"):
            row = found[network, name]
            cells += [f"{row['score']:.2%}", "" if row["SNR dB"] is None else f"{row['SNR dB']:.1f} dB"]
        lines.append(cells)
    heads = ["file", "digits: accuracy", "SNR", "scenes: mAP@0.5", "SNR "]
    return "\n".join([*grid(heads, lines), "", f"{run['machine']}, {run['date']}."])


def _digits() -> tuple[Array, ScoreSession]:
    """Scans to calibrate on, and the accuracy of a session on those held out."""
    held, labels = digits.test_set()

    def score(session: Session) -> float:
        (logits,) = _run(session, held)
        return float((logits.argmax(axis=1) == labels).mean())

    return digits.training_set()[0][:CALIBRATION], score


def _scenes() -> tuple[Array, ScoreSession]:
    """Pictures to calibrate on, and the mAP@0.5 of a session on the test scenes."""
    images, truths = data.test_set(data.TEST_SCENES)

    def score(session: Session) -> float:
        found: list[metrics.Detections] = []
        for start in range(0, len(images), BATCH):
            found += metrics.decode(_run(session, images[start : start + BATCH]))
        return metrics.mean_average_precision(found, truths)

    return data.training_set(CALIBRATION)[0], score


def _run(session: Session, x: Array) -> list[Array]:
    (spec,) = session.inputs
    return [array.astype(np.float32) for array in session.run({spec.name: x.astype(spec.dtype)}).values()]


def _of(
    name: str, build: Callable[[], Any], task: tuple[Array, ScoreSession], folder: Path, say: Say
) -> list[AccuracyRow]:
    samples, score = task
    model, example = build()
    source = folder / f"{name}.onnx"
    export(model, example, source, dynamic=["batch"], exporter="torchscript", check=False, on_progress=say)
    with open_session(source, "ort") as session:
        (spec,) = session.inputs
        rows: list[AccuracyRow] = [{"network": name, "file": "fp32", "score": score(session), "SNR dB": None}]
    for to, target in FILES:
        label = f"{to} for {target}" if "int8" in to else to
        say(f"{name} in {label}")
        low = folder / f"{name}.{to}.{target}.onnx"
        done = api.convert(source, low, to=to, target=target, inputs={spec.name: samples})
        with open_session(low, "ort" if to == "int8" else "onnx_half") as session:
            rows.append({"network": name, "file": label, "score": score(session), "SNR dB": done.snr_db})
    return rows


if __name__ == "__main__":
    main()
