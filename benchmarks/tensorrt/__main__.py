"""The command: `python -m benchmarks.tensorrt`, on a machine with TensorRT and its GPU.

    python -m benchmarks.tensorrt [--trtexec PATH] [--plugin PATH] [--model model.onnx] [--out FOLDER]

Each form of the model is built by one trtexec and loaded by another. Prints a table with a row for each SimAM block:
as what layers it is found, in which formats, with how many reformats beside, its time, the time of the engine, the
error of the outputs against float64. Everything is kept in FOLDER: the rows as they come in rows.jsonl, and for each
form its model, engine, log and what trtexec wrote. Exit status: 0, 1 when a run failed, a block was not taken by the
plugin or an output is wrong, 2 for unusable input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.record import Growing
from benchmarks.tensorrt import models, report, trtexec
from simam_deploy.cli import render
from simam_deploy.errors import BuildError, SimAMDeployError
from simam_deploy.text import Say

OUT = Path("build/tensorrt")
ROWS = "rows.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """See above."""
    asked = _parse(arguments)
    try:
        return _run(asked)
    except SimAMDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a folder that cannot be made or written, a full disk
        print(f"error: {error}; everything is kept in {asked.out}: name another with --out FOLDER", file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tensorrt", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--trtexec", metavar="PATH", help=f"without it: the one on PATH, or {trtexec.USUAL}")
    parser.add_argument("--plugin", metavar="PATH", help=f"without it: {trtexec.VARIABLE}, or the one that was built")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="an ONNX file with fixed axes, in place of our own"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"without it: {OUT}")
    parser.add_argument("--forms", nargs="+", choices=models.FORMS, default=models.FORMS)
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="for each trtexec; without it: 900")
    return parser.parse_args(arguments)


def _run(asked: argparse.Namespace) -> int:
    path = trtexec.find(asked.trtexec)
    plugin = None if set(asked.forms) == {models.WITHOUT_PLUGIN} else trtexec.plugin_library(asked.plugin)
    out: Path = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    version = trtexec.version_of(path, out)
    tool = trtexec.Trtexec(path, version, plugin, asked.timeout)
    conditions = {"tensorrt": trtexec.dotted(version), "trtexec": str(path), "plugin": str(plugin)}
    kept = Growing(out / ROWS, **conditions)
    rows: list[report.EngineRow] = []
    device = "unknown"
    with render.progress() as say:
        given = [(asked.model.stem, asked.model)] if asked.model else models.own(out, say)
        cases = (case for name, file in given for case in models.cases(name, file, out, asked.forms, say))
        for case in cases:
            rows += (new := _tried(tool, case, say))
            device = trtexec.device_in((case.folder / trtexec.LOG).read_text(errors="replace"))
            for row in new:
                kept.add({"device": device, **asdict(row)})
    report.table(rows, f"TensorRT {trtexec.dotted(version)} on {device}")
    render.lines([f"kept: {out / ROWS}"])
    return 0 if rows and all(row.ok for row in rows) else 1


def _tried(tool: trtexec.Trtexec, case: models.EngineCase, say: Say) -> list[report.EngineRow]:
    """Rows of one form. If trtexec fails, the rows say so, and the next form runs."""
    plugin = case.form != models.WITHOUT_PLUGIN
    try:
        say(f"{case.precision} {case.form}: build the engine")
        tool.build(case.folder, plugin=plugin)
        say(f"{case.precision} {case.form}: load and time it")
        tool.infer(case.folder, case.inputs, plugin=plugin)
        return report.read(case)
    except BuildError as error:
        return report.failed(case, error)


if __name__ == "__main__":
    sys.exit(main())
