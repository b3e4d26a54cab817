"""float16 and bfloat16: our converter and others, on real pixels and on SimAM alone.

    PYTHONPATH=tests python -m benchmarks.half [NETWORK ...]    prints, keeps, writes the table in docs/howto/half.md
    PYTHONPATH=tests python -m benchmarks.half --table          writes that table anew

`make peers` runs it with AutoCast of ModelOpt too.

Each converter gets the float32 file with SimAM in primitive operators, and the one with SimAM as a function, and no
names of nodes. The better file counts. Ours and AutoCast also get samples. Each result runs in `onnx_half`, which
rounds as a GPU stores. The SNR is that of the outputs against the float32 file, the least of all outputs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import checker

from benchmarks.page import grid, put
from benchmarks.pixels import NETWORKS, Network
from benchmarks.record import RESULTS, keep
from simam_deploy.cli import render
from simam_deploy.compare.gates import judge
from simam_deploy.compare.inputs import specs
from simam_deploy.compare.matrix import expose
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import HALF
from simam_deploy.graph.shapes import Shapes
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.sensitivity import snr
from simam_deploy.precision.wanted import Wanted
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import in_types_of
from simam_deploy.text import Say, as_table

PAGE = Path(__file__).parents[1] / "docs/howto/half.md"
FEW = 4
"""Samples that our converter gets."""
LOST = -999.0
"""The SNR of NaN, for JSON."""
BY_SAMPLES = ("AutoCast, samples",)
"""Converters that choose by the samples what is safe inside SimAM. Ours keeps SimAM in float32 whatever they are."""
Score = dict[str, Any]
Convert = Callable[[Path, Path, Samples], object]


def _ours(to: str, source: Path, target: Path, samples: Samples) -> None:
    convert_file(source, target, Wanted(to), samples)


def _common(source: Path, target: Path, samples: Samples) -> None:
    from onnxconverter_common.float16 import convert_float_to_float16

    del samples
    onnx.save(convert_float_to_float16(onnx.load(source)), target)


def _transformers(source: Path, target: Path, samples: Samples) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    del samples
    onnx.save(convert_float_to_float16(onnx.load(source)), target)


def _autocast(source: Path, target: Path, samples: Samples, *, shown: bool) -> None:
    """shown : give it the samples. By default it draws its own from a normal distribution."""
    from modelopt.onnx.autocast import configure_logging, convert_to_mixed_precision

    configure_logging("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        for at, feed in enumerate(samples):
            arrays: dict[str, Any] = dict(feed)
            np.savez(Path(folder, f"{at}.npz"), **arrays)
        given = folder if shown else None
        onnx.save(convert_to_mixed_precision(str(source), calibration_data=given), target)


OURS: dict[str, Convert] = {"fp16": partial(_ours, "fp16"), "bf16": partial(_ours, "bf16")}
THEIRS: dict[str, Convert] = {"onnxconverter-common": _common, "onnxruntime.transformers": _transformers}
if find_spec("modelopt"):
    THEIRS["AutoCast"] = partial(_autocast, shown=False)
    THEIRS["AutoCast, samples"] = partial(_autocast, shown=True)


def main(arguments: list[str]) -> None:
    """See the head of this file."""
    if "--table" not in arguments:
        chosen = {name: NETWORKS[name] for name in arguments or NETWORKS}
        with render.progress() as say, tempfile.TemporaryDirectory() as folder:
            for name, network in chosen.items():
                rows = [row for raw in (False, True) for row in _network(name, network, raw, Path(folder), say)]
                _show(name, rows, samples=network.count, converted_with=FEW)
            if not arguments:
                _show("SimAM alone", _alone(Path(folder), say))
    put(PAGE, "\n".join(_tables()))


def _show(what: str, rows: list[Score], **conditions: Any) -> None:
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()] for row in rows]
    print(f"\n{what}\n{as_table(list(rows[0]), cells)}", flush=True)
    keep("half", rows, what=what, **conditions)


def _network(name: str, network: Network, raw: bool, folder: Path, say: Say) -> Iterable[Score]:
    """A row for each converter and file."""
    files = {form: folder / f"{name}.{form}.onnx" for form in ("function", "epilogue", "primitive")}
    if not raw:
        network.export(files["function"], say)
        fuse_file(files["function"], files["epilogue"], epilogue=True)
        fuse_file(files["function"], files["primitive"], "primitive")
    samples = network.samples(files["function"], raw=raw)
    few = samples.fewer(FEW)
    with open_session(files["function"], "ort") as session:
        exact = [session.run(feed) for feed in samples]
    asked = [(label, make, form) for label, make in OURS.items() for form in ("function", "epilogue")]
    asked += [(label, make, form) for label, make in THEIRS.items() for form in ("primitive", "function")]
    for label, make, form in asked:
        say(f"{name}: {label}, {form}")
        low = folder / "low.onnx"
        row = {"pixels": "0 to 255" if raw else "as it takes them", "converter": label, "file": form}
        try:
            make(files[form], low, few)
            checker.check_model(low, full_check=True)
        except Exception as error:  # whatever another package raises is a result
            yield row | {
                "SNR dB": None,
                "gate error": None,
                "in 16 bits": None,
                "note": f"{type(error).__name__}: {error}"[:200],
            }
            continue
        yield row | _scored(low, exact, samples, few, folder)


def _scored(low: Path, exact: list[dict[str, Array]], samples: Samples, few: Samples, folder: Path) -> Score:
    """SNR of the outputs, and the largest gate error of a block on the x that it got."""
    with open_session(low, "onnx_half") as session:
        db = max(LOST, snr(exact, (session.run(in_types_of(session, feed)) for feed in samples)))
    model = onnx_file.load(low)
    shown, taps, left = expose(model)
    onnx_file.save(shown, folder / "shown.onnx")
    with open_session(folder / "shown.onnx", "onnx_half") as session:
        given = [in_types_of(session, feed) for feed in few]
        results = [feed | session.run(feed) for feed in given]
    worst = max((judge("", "", tap, results).max_gate_error for tap in taps if tap.epilogue is None), default=np.inf)
    return {
        "SNR dB": db,
        "gate error": _finite(worst),
        "in 16 bits": _in_16_bits(model),
        "note": "; ".join(left)[:200],
    }


def _finite(number: float) -> float | None:
    """For JSON, which has no NaN."""
    return number if np.isfinite(number) else None


def _in_16_bits(model: ir.Model) -> str:
    """The number of convolutions and matrix products in 16 bits, of all."""
    shapes = Shapes(model)
    layers = [node for node in model.graph.all_nodes() if node.op_type in ("Conv", "Gemm", "MatMul")]
    entering = [node.inputs[0] for node in layers]
    return f"{sum(value is not None and shapes.known_dtype(value) in HALF for value in entering)} of {len(layers)}"


def _alone(folder: Path, say: Say) -> list[Score]:
    """Of the 160 cases that the tests use, the number of wrong gates.

    A file for each size of map; of a converter that chooses by the samples, one for each case.
    """
    from helpers.half_nets import CASES, GATE_LIMIT, MAPS, gate_error, naive, x_of

    plain, low = folder / "alone.onnx", folder / "low.onnx"
    rows: list[Score] = []
    for label, make in (OURS | THEIRS).items():
        errors = []
        for m in MAPS:
            onnx.save(naive(m, "float32"), plain)
            cases = [x_of(m, spread, offset) for size, spread, offset in CASES if size == m]
            for at, x in enumerate(cases):
                if not at or label in BY_SAMPLES:
                    say(f"{label}: {m}x{m}, case {at + 1} of {len(cases)}")
                    make(plain, low, Samples({"x": x}, specs(plain)))
                with open_session(low, "onnx_half") as session:
                    feed = in_types_of(session, {"x": x})
                    errors.append(gate_error(feed["x"], session.run(feed)["y"]))
        limit = 4e-3 if label == "bf16" else GATE_LIMIT
        rows.append({"converter": label, "cases": len(errors), "wrong": sum(error > limit for error in errors)})
        rows[-1] |= {"worst": _finite(max(errors)), "limit": limit}
    return rows


def _tables() -> list[str]:
    """Of the newest run of each network a line for each kind of pixels, and the cases of SimAM alone."""
    runs = {run["what"]: run for run in map(json.loads, (RESULTS / "half.jsonl").read_text().splitlines())}
    lines = [
        [name, pixels, *cells]
        for name in NETWORKS
        if name in runs
        for pixels, cells in _cells(runs[name]["rows"]).items()
    ]
    table = grid(["dB against float32", "pixels", *COLUMNS], lines)
    if "SimAM alone" not in runs:
        return table
    alone = [
        [row["converter"], f"{row['wrong']} of {row['cases']}", f"{row['worst'] or np.nan:.1e}"]
        for row in runs["SimAM alone"]["rows"]
    ]
    run = runs["SimAM alone"]
    packages = ("onnxruntime", "onnxconverter-common", "nvidia-modelopt")
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in packages if name in run["versions"])
    return [
        *table,
        "",
        *grid(["SimAM alone", "wrong gates", "worst gate error"], alone),
        "",
        f"{versions}, {run['date']}.",
    ]


OTHERS = ("onnxconverter-common", "onnxruntime.transformers", "AutoCast", "AutoCast, samples")
COLUMNS = {
    "fp16": [("fp16", "function")],
    "fp16, epilogues folded": [("fp16", "epilogue")],
    "bf16": [("bf16", "function")],
    **{name: [(name, "primitive"), (name, "function")] for name in OTHERS},
}
"""Title -> converter and file; the best counts."""


def _cells(rows: list[Score]) -> dict[str, list[str]]:
    """Kind of pixels -> the cell of each column."""
    found: dict[str, list[str]] = {}
    for pixels in dict.fromkeys(row["pixels"] for row in rows):
        got = {(row["converter"], row["file"]): row for row in rows if row["pixels"] == pixels}
        found[pixels] = [_best([got[key] for key in keys if key in got]) for keys in COLUMNS.values()]
    return found


def _best(rows: list[Score]) -> str:
    """The SNR of the best file, and how many layers are in 16 bits if not all are."""
    if not rows:
        return "not run"
    valid = [row for row in rows if row["SNR dB"] is not None]
    if not valid:
        return "not valid"
    best = max(valid, key=lambda row: float(row["SNR dB"]))
    if best["SNR dB"] == LOST:
        return "NaN"
    low, _, every = best["in 16 bits"].partition(" of ")
    return f"{best['SNR dB']:.2f}" + (f" ({low} of {every} layers)" if low != every else "")


if __name__ == "__main__":
    main(sys.argv[1:])
