"""Engines of every network, type, form and target that TensorRT-RTX builds, with our plugin and without.

    python -m benchmarks.matrix                 prints, keeps, writes the table of the page
    python -m benchmarks.matrix digits scenes   these networks alone
    python -m benchmarks.matrix --table         writes that table anew

No GPU is needed, and nothing runs. A cell passes if each target builds alone and all together, a second build has the
same bytes, `inspect` finds nothing wrong, the builder gives no warning but SCALES, and with the plugin every block is
built by it. The exit status is 1 if a cell fails. Without the plugin library its cells say so, and fail.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import simam_deploy as sd
from benchmarks.page import grid, put
from benchmarks.pixels import NETWORKS
from benchmarks.record import RESULTS, Growing
from simam_deploy.cli import render
from simam_deploy.engines.builder import EngineReport
from simam_deploy.engines.inspection import inspect
from simam_deploy.engines.plugin_host import PLUGIN
from simam_deploy.formula import OP_NAME
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.wanted import PRECISIONS, Wanted
from simam_deploy.text import Say

PAGE = Path(__file__).parents[1] / "docs/explanation/engine_matrix.md"
NAME = "matrix"
TARGETS = ("sm80", "sm86", "sm89", "sm120", "sm121")
PRECISION = ("fp32", *PRECISIONS)
FEW = 4
"""Samples that files are converted with. The types depend on them only where 16 bits overflow."""
EPILOGUE = "epilogue"
FORMS = ("function", "primitive", "instance_norm", EPILOGUE)
WITH_PLUGIN = ("function", EPILOGUE, "custom_op")
NO_EPILOGUE = "no epilogue to fold"
SCALES = "scales to fp32."
"""End of the builder's warnings of int8+fp16: it computes the scales of convolutions in float32. Before opset 23, a
DequantizeLinear has the type of its scale, so a file cannot say that."""


@dataclass
class Cell:
    """One file, built. failed : what did not hold, in words.  refused : reason why there is no such file."""

    network: str
    precision: str
    form: str
    plugin: bool
    refused: str = ""
    failed: list[str] = field(default_factory=list)
    layers: int = 0
    bytes: int = 0
    blocks: int = 0
    seconds: float = 0.0


def main(arguments: list[str]) -> int:
    """See the head of this file."""
    networks = [name for name in arguments if not name.startswith("-")] or list(NETWORKS)
    if unknown := [name for name in networks if name not in NETWORKS]:
        sys.exit(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    failed = 0
    if "--table" not in arguments:
        for name in networks:
            kept = Growing(RESULTS / f"{NAME}.jsonl", network=name, targets=TARGETS)
            with render.progress() as say, tempfile.TemporaryDirectory() as folder:
                for cell in cells(name, Path(folder), say):
                    print(_said(cell), flush=True)
                    kept.add(asdict(cell))
                    failed += bool(cell.failed)
    put(PAGE, "\n".join(_table()))
    return 1 if failed else 0


def cells(
    network: str, folder: Path, say: Say, targets: Sequence[str] = TARGETS, precisions: Sequence[str] = PRECISION
) -> Iterator[Cell]:
    """Build every cell of a network, in `folder`. targets : each alone, and then together twice."""
    source, low, out = (folder / f"{kind}.onnx" for kind in ("source", "low", "out"))
    NETWORKS[network].export(source, say)
    samples = NETWORKS[network].samples(source).fewer(FEW)
    for precision in precisions:
        file, failed = source, ""
        if precision != "fp32":
            say(f"{network}: {precision}")
            file = low
            try:
                convert_file(source, low, Wanted(precision, target="tensorrt"), samples)
            except sd.SimAMDeployError as error:
                failed = f"no file in {precision}: {_first_line(error)}"
        for plugin, forms in ((False, FORMS), (True, WITH_PLUGIN)):
            for form in forms:
                say(f"{network}: {precision} {form}{' plugin' * plugin}")
                cell = Cell(network, precision, form, plugin)
                cell.failed += [failed] if failed else _write(cell, file, out)
                if not cell.refused and not cell.failed:
                    _build(cell, out, folder, targets)
                yield cell


def _write(cell: Cell, file: Path, out: Path) -> list[str]:
    """Write `file` in the form of a cell, which gets the reason if there is none. Returns what failed."""
    epilogue = cell.form == EPILOGUE
    try:
        sd.fuse(file, out, form="function" if epilogue else cell.form, epilogue=epilogue)
    except sd.SimAMDeployError as error:
        return [f"not written: {_first_line(error)}"]
    if epilogue and all(block.op == OP_NAME for block in sd.find_blocks(out).blocks):
        cell.refused = NO_EPILOGUE
    return []


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _build(cell: Cell, model: Path, folder: Path, targets: Sequence[str]) -> None:
    """Fill the figures of a cell, and what failed."""
    engine = folder / "net.engine"
    library = PLUGIN.find() if cell.plugin else "none"
    if library is None:
        cell.failed.append("no plugin library is here")
        return
    began = time.perf_counter()
    faults: dict[str, list[str]] = {}
    together = tuple(targets)
    for target in (*((one,) for one in targets), together, together[::-1]):
        before = engine.read_bytes() if target == together[::-1] and engine.exists() else b""
        try:
            report = sd.build_engine(model, engine, targets=target, plugin=library)
        except sd.SimAMDeployError as error:
            faults.setdefault(_first_line(error), []).append("+".join(target))
            continue
        for fault in {*_faults(report, cell)}:
            faults.setdefault(fault, []).append("+".join(target))
        if before and engine.read_bytes() != before:
            cell.failed.append("a second build has other bytes")
        cell.layers, cell.bytes, cell.blocks = report.layers, report.size_bytes, len(report.blocks)
    cell.failed += [f"{fault} ({', '.join(of)})" for fault, of in faults.items()]
    cell.seconds = time.perf_counter() - began


def _faults(report: EngineReport, cell: Cell) -> list[str]:
    found = [line for line in report.log if report.precision != "int8+fp16" or not line.endswith(SCALES)]
    found += [f"inspect: {line}" for line in inspect(report.path).disagreements]
    if cell.plugin and any(block["built"] != "plugin" for block in report.blocks):
        found.append("a block is not built by the plugin")
    if cell.precision != report.precision:
        found.append(f"the engine is {report.precision}")
    return found


def _said(cell: Cell) -> str:
    what = f"{cell.network} {cell.precision} {cell.form}{' with the plugin' * cell.plugin}: "
    if cell.refused:
        return f"{what}no such file: {cell.refused}"
    if cell.failed:
        return f"{what}FAILED: {'; '.join(cell.failed)}"
    return f"{what}{cell.layers} layers, {cell.bytes / 1e6:.2f} MB, {cell.seconds:.1f} s"


def _table() -> list[str]:
    """The newest run of each network."""
    runs = {}
    for line in (RESULTS / f"{NAME}.jsonl").read_text().splitlines():
        run = json.loads(line)
        runs[run["network"]] = run
    columns = [(form, False) for form in FORMS] + [(form, True) for form in WITH_PLUGIN]
    head = ["network", "types", *(f"{form}{', plugin' * plugin}" for form, plugin in columns)]
    rows = []
    for network in NETWORKS:
        held = {(row["precision"], row["form"], row["plugin"]): row for row in runs.get(network, {}).get("rows", ())}
        for precision in PRECISION:
            of_type = [held.get((precision, form, plugin)) for form, plugin in columns]
            if any(of_type):
                rows.append([network, precision, *map(_cell, of_type)])
    last = [runs[name] for name in NETWORKS if name in runs]
    versions = sorted({f"TensorRT-RTX {run['versions']['tensorrt-rtx-cu13']}, {run['date']}" for run in last})
    cells_ = [row for run in last for row in run["rows"]]
    built = sum(not row["refused"] and not row["failed"] for row in cells_)
    failed = sum(bool(row["failed"]) for row in cells_)
    targets = ", ".join(last[0]["targets"]) if last else ""
    said = f"{built} cells built: for each of {targets}, and for all of them twice with the same bytes"
    return [*grid(head, rows), "", f"{said}; {failed} failed. {'; '.join(versions)}."]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["refused"]:
        return str(row["refused"])
    return "FAILED" if row["failed"] else f"{row['layers']}, {row['bytes'] / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
