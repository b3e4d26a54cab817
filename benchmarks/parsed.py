"""Accuracy of the networks that TensorRT-RTX parses, in every form and type. No GPU is needed: NumPy runs the layers
on one batch of real pictures.

    python -m benchmarks.parsed                 prints, keeps, writes the table of the page
    python -m benchmarks.parsed digits scenes   these networks alone
    python -m benchmarks.parsed --table         writes that table anew

`tests/runtimes/test_trt_networks.py` asks the same of small inputs. The form custom_op needs the plugin library,
and is left out without it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import simam_deploy as sd
from benchmarks.matrix import EPILOGUE, FEW
from benchmarks.page import grid, put
from benchmarks.pixels import NETWORKS
from benchmarks.record import RESULTS, Growing
from simam_deploy.cli import render
from simam_deploy.compare.verify import Report
from simam_deploy.engines.plugin_host import PLUGIN
from simam_deploy.formula import OP_NAME
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.wanted import Wanted
from simam_deploy.text import Say

PAGE = Path(__file__).parents[1] / "docs/explanation/tolerances.md"
NAME = "parsed"
TYPES = ("fp32", "fp16", "bf16", "int8")
FORMS = ("function", "primitive", "instance_norm", EPILOGUE, "custom_op")


def main(arguments: Sequence[str]) -> None:
    """See the head of this file."""
    networks = [name for name in arguments if not name.startswith("-")] or list(NETWORKS)
    if "--table" not in arguments:
        for name in networks:
            kept = Growing(RESULTS / f"{NAME}.jsonl", network=name)
            with render.progress() as say, tempfile.TemporaryDirectory() as folder:
                for row in rows(name, Path(folder), say):
                    print(row, flush=True)
                    kept.add(row)
    put(PAGE, "\n".join(_table()))


def rows(network: str, folder: Path, say: Say, types: Sequence[str] = TYPES) -> Iterator[dict[str, Any]]:
    """For each type and form the share of verify's tolerance, and the noise over that of the oracle."""
    source, low = (folder / f"{kind}.onnx" for kind in ("source", "low"))
    NETWORKS[network].export(source, say)
    samples = NETWORKS[network].samples(source)
    inputs = next(iter(samples))
    for precision in types:
        say(f"{network}: {precision}")
        file, oracle = source, None
        if precision != "fp32":
            file = low
            convert_file(source, low, Wanted(precision, target="tensorrt"), samples.fewer(FEW))
            oracle = sd.verify(source, low, runtimes=["onnx_half"], inputs=inputs)
        for form in FORMS:
            if form == "custom_op" and PLUGIN.find() is None:
                continue
            out = folder / f"{form}.onnx"
            try:
                sd.fuse(file, out, form="function" if form == EPILOGUE else form, epilogue=form == EPILOGUE)
            except sd.FormError:
                continue
            if form == EPILOGUE and all(block.op == OP_NAME for block in sd.find_blocks(out).blocks):
                continue
            say(f"{network}: {precision} {form}")
            report = sd.verify(source, out, runtimes=["trt_network"], inputs=inputs)
            yield {
                "precision": precision,
                "form": form,
                "share": float(max(row.share for row in report.rows if row.session.startswith(form))),
                "gates": max((row.share for row in report.gates if row.session.startswith(form)), default=None),
                "passed": report.passed,
                "of_oracle": None if oracle is None else _noise(report, form) / _noise(oracle, "low"),
            }


def _noise(report: Report, stem: str) -> float:
    """The largest of its outputs: root mean square of the error over that of the output."""
    return max(10 ** (-row.snr_db / 20) for row in report.rows if row.session.startswith(stem))


def _table() -> list[str]:
    """The newest run of each network."""
    runs = {}
    for line in (RESULTS / f"{NAME}.jsonl").read_text().splitlines():
        run = json.loads(line)
        runs[run["network"]] = run
    cells = []
    for network in (name for name in NETWORKS if name in runs):
        held = {(row["precision"], row["form"]): row for row in runs[network]["rows"]}
        for precision in TYPES:
            of_type = [held.get((precision, form)) for form in FORMS]
            if any(of_type):
                cells.append([network, precision, *map(_cell, of_type)])
    versions = sorted({f"{run['versions']['tensorrt-rtx-cu13']}, {run['date']}" for run in runs.values()})
    return [*grid(["network", "types", *FORMS], cells), "", f"TensorRT-RTX {'; '.join(versions)}."]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    of_oracle = "" if row["of_oracle"] is None else f" ({row['of_oracle']:.2f})"
    return f"{row['share']:.2f}{of_oracle}{'' if row['passed'] else ' FAILED'}"


if __name__ == "__main__":
    main(sys.argv[1:])
