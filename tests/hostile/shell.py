"""The command line on one hostile file after the other, and whether an answer is one."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from hostile import HOSTILE

SECONDS, MIB = 10, 1000
"""Of CPU, and of memory, for each file."""
MEANT = {"verify": (0, 1, 2)}
"""Exit statuses of a command, if not 0 and 2."""
Answer = dict[str, object]
"""What runner.py prints of a command."""


class Shell:
    """Runs commands in folder/models/work; there may be changes to what is below it alone."""

    def __init__(self, folder: Path, runner: "subprocess.Popen[str]") -> None:
        self.folder = folder
        self.runner = runner

    def answers(self, name: str, commands: Sequence[str]) -> list[Answer]:
        """Of `commands` on the file of that name, which is written for them."""
        models = self.folder / "models"
        (models / "work").mkdir(parents=True)
        file = HOSTILE.write(name, models)
        (models / "precious.txt").write_text("as it was")
        before = contents(self.folder)
        try:
            given = [self._ask(command, file, models / "work") for command in commands]
            killed = [(answer["command"], answer["status"]) for answer in given if int(str(answer["status"])) < 0]
            assert contents(self.folder) == before, f"killed: {killed}"  # these leave temporary files
            made = [path.name for path in (models / "work").rglob("*")]
            assert [name for name in made if not re.fullmatch(r".*\.(fuse|build|convert)\.out(\.json)?", name)] == []
        finally:
            shutil.rmtree(models)
        return given

    def _ask(self, command: str, file: Path, work: Path) -> Answer:
        assert self.runner.stdin is not None
        assert self.runner.stdout is not None
        print(json.dumps([command, str(file), str(work)]), file=self.runner.stdin, flush=True)
        line = self.runner.stdout.readline()
        assert line, f"runner.py ended at {command} {file.name}"
        answer: Answer = json.loads(line)
        return answer


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A process that has the commands imported; `folder` is empty, and the home of the commands is below it."""
    for part in (folder / "home", folder / "temporary"):
        part.mkdir()
    for part in (folder, folder / "home"):
        (part / "precious.txt").write_text("as it was")
    path = Path(__file__).with_name("runner.py")
    python_path = os.pathsep.join((str(path.parents[1]), os.environ.get("PYTHONPATH", "")))
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": python_path,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "temporary"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",  # the runner imports it before this package does
        },
    ) as runner:
        yield Shell(folder, runner)


def contents(folder: Path) -> dict[str, str]:
    """Of each file, by a hash, and the folders; without those that the commands may write."""
    paths = [path for path in folder.rglob("*") if "work" not in path.relative_to(folder).parts]
    return {str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths}


def faults(given: Sequence[Answer]) -> list[str]:
    """A line for each answer that is none."""
    found = ((answer, _faults(answer)) for answer in given)
    return [f"{answer['command']} {answer['file']}: {'; '.join(lines)}" for answer, lines in found if lines]


def _faults(answer: Answer) -> list[str]:
    found = []
    command, status = str(answer["command"]), answer["status"]
    if status not in MEANT.get(command, (0, 2)) or (status == 1) != ("FAIL" in str(answer["printed"])):
        found.append(f"status {status}: {answer['said']}")
    if "Traceback" in str(answer["said"]) + str(answer["printed"]):
        found.append(f"a trace: {answer['said']}")
    if status == 2 and "error: " not in str(answer["said"]):
        found.append(f"status 2 without words: {answer['said']}")
    if float(str(answer["seconds"])) > SECONDS or float(str(answer["mib"])) > MIB:
        found.append(f"{answer['seconds']} s, {answer['mib']} MiB")
    if answer["left"]:
        found.append("a process is left")
    return found
