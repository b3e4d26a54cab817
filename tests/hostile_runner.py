"""python hostile_runner.py FILE... : the command line on each file, each in a process of its own that is forked once
everything is imported. Prints a line of JSON each: what it did, and what it took."""

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from simam_deploy.cli import main

SECONDS, ADDRESSES = 12, 6 * 2**30


def run(arguments: list[str]) -> dict[str, object]:
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.argv = ["simam-deploy", *arguments]
            status = 0
            try:
                main()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            sys.stderr.flush()
            os._exit(status or 0)
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        return {
            "command": arguments[0],
            "file": Path(arguments[1]).stem,
            "status": os.waitstatus_to_exitcode(status),
            "seconds": used.ru_utime + used.ru_stime,
            "mib": used.ru_maxrss / 2**10,
            "said": said.read()[-2000:].decode(errors="replace"),
        }


for file in sys.argv[1:]:
    fused = run(["fuse", file, "-o", f"{file}.out", "--form", "primitive"])
    print(json.dumps(fused), flush=True)
    if fused["status"] == 0:  # then there is something to show; else it would do the same once more
        print(json.dumps(run(["inspect", file])), flush=True)
