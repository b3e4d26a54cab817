"""Reads lines of JSON, [command, file, folder]: the command line on that file, in that folder, each in a process of
its own that is forked once everything is imported. Prints a line of JSON for each: its answer, and what it took."""

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

import onnxruntime

from simam_deploy import api
from simam_deploy.cli import main
from simam_deploy.compare import inspection
from simam_deploy.engines import builder
from simam_deploy.precision import convert

IMPORTED = (onnxruntime, api, inspection, builder, convert)
SECONDS, ADDRESSES = 12, 6 * 2**30
ARGUMENTS = {
    "fuse": ["-o", "{out}", "--form", "primitive"],
    "convert": ["-o", "{out}", "--to", "fp16"],
    "inspect": [],
    "verify": ["--runtimes", "ort,onnx_reference", "--inputs", "plain"],
    "bench": ["--runtimes", "ort", "--seconds", "0.05"],
    "build": ["-o", "{out}", "--targets", "sm86"],
    "recipe": [],
}
FIRST = {"recipe": ["triton"]}
"""Arguments in front of the file."""


def run(command: str, file: str, folder: Path) -> dict[str, object]:
    out = folder / f"{Path(file).stem}.{command}.out"
    arguments = [command, *FIRST.get(command, []), file, *(text.format(out=out) for text in ARGUMENTS[command])]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(printed.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.chdir(folder)
            sys.argv = ["simam-deploy", *arguments]
            status = 0
            try:
                main()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status or 0)
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        printed.seek(0)
        return {
            "command": command,
            "file": Path(file).stem,
            "status": os.waitstatus_to_exitcode(status),
            "seconds": used.ru_utime + used.ru_stime,
            "mib": used.ru_maxrss / 2**10,
            "said": _ends(said.read()).decode(errors="replace"),
            "printed": printed.read()[-2000:].decode(errors="replace"),
            "left": _left(child),
        }


def _ends(text: bytes) -> bytes:
    """Its first words and its last ones: what is said first is `error: `."""
    return text if len(text) < 8000 else text[:4000] + b"\n...\n" + text[-4000:]


def _left(group: int) -> bool:
    """Whether a process that it started is still there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


while line := sys.stdin.readline():
    command, file, folder = json.loads(line)
    print(json.dumps(run(command, file, Path(folder))), flush=True)
