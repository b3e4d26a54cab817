"""An exit status means one thing each, whatever is raised and wherever stdout and stderr lead."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from helpers.command_line import Run

from simam_deploy.errors import BuildError, VerificationError
from simam_deploy.graph import onnx_file

MAIN = "from simam_deploy.cli import main; main()"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (VerificationError("a row failed", None), 1, "^error: a row failed\n$"),
        (BuildError("no engine"), 2, "^error: no engine\n$"),
        (MemoryError(), 2, "^error: this takes more memory than there is\n$"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "than there is: Unable to allocate 9 TiB\n$"),
        (RecursionError("maximum recursion depth"), 2, "^error: the input is nested too deeply\n$"),
        (SystemExit(1), 2, r"^error: the model, or a library .* ended the program: sys.exit\(1\)\n$"),
        (SystemExit(), 2, r"sys.exit\(None\)"),
        (SystemExit("no licence"), 2, r"sys.exit\('no licence'\)"),
        (KeyboardInterrupt(), 130, "^$"),
        (ValueError("ours"), 70, "(?s)^Traceback .*ValueError: ours\n$"),
        (EOFError("ours"), 70, "(?s)^Traceback .*EOFError: ours\n$"),
        (BrokenPipeError(32, "of a process of ours"), 70, "(?s)^Traceback .*BrokenPipeError"),
        (typer.Abort(), 70, "(?s)^Traceback .*Abort"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_is_raised(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    def load(_: object) -> None:
        raise error

    monkeypatch.setattr(onnx_file, "both", load)
    got, out, err = run("inspect fixed.onnx")
    assert (got, out) == (status, "")
    assert re.search(words, err), err


def test_a_model_that_ends_the_program(folder: Path, run: Run) -> None:
    (folder / "ends.py").write_text("import sys\n\ndef build():\n    sys.exit(1)\n")
    status, _, err = run("export ends.py:build -o new.onnx --shape 1,3,4,4")
    assert status == 2
    assert "ended the program: sys.exit(1)" in err or "SystemExit" in err
    assert not (folder / "new.onnx").exists()


@pytest.mark.parametrize("line", ["--nope", "nope", "inspect", "inspect a b", "fuse a.onnx", "verify --threads x f"])
def test_what_cannot_be_parsed_is_2(folder: Path, run: Run, line: str) -> None:
    assert run(line)[0] == 2


@pytest.mark.parametrize("name", [".", "..", "/", "inner/.."])
@pytest.mark.parametrize("command", ["fuse fixed.onnx", "export mine.py:build", "build fixed.onnx --targets sm86"])
def test_an_output_without_a_name_is_2(folder: Path, run: Run, command: str, name: str) -> None:
    """It is refused while the options are read, before the command begins."""
    status, out, err = run(f"{command} -o {name}")
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: cannot write {re.escape(name)}: it is a folder; .*\n", err), err


def shell(folder: Path, line: str, **env: str) -> tuple[int, str, str]:
    """A line for bash, where $MAIN is the command line; the exit status is that of the first in a pipe."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MAIN": f"{sys.executable} -m simam_deploy.cli",
            **env,
        },
        capture_output=True,
        check=False,
        timeout=120,
    )
    err = "".join(x for x in done.stderr.decode().splitlines(True) if not x.startswith("... "))
    return done.returncode, done.stdout.decode(), err


UNPRINTED = "error: all is done, and it could not be printed on stdout: "


@pytest.mark.skipif(sys.platform != "linux", reason="redirections of bash, and /dev/full")
@pytest.mark.parametrize(
    ("to", "status", "words"),
    [
        (">/dev/full", 74, f"{UNPRINTED}No space left on device\n"),
        (">&-", 74, f"{UNPRINTED}it is closed\n"),
        ("| true", 141, ""),
        ("2>/dev/full", 0, ""),
        ("2>&-", 0, ""),
        (">&- 2>&- <&-", 74, ""),
        (">/dev/full 2>/dev/full", 74, ""),
    ],
)
def test_where_nothing_can_be_printed_the_file_is_written(folder: Path, to: str, status: int, words: str) -> None:
    got, out, err = shell(folder, f"$MAIN fuse fixed.onnx -o new.onnx {to}")
    assert (got, err) == (status, words)
    assert ("new.onnx: SimAM blocks" in out) == (status == 0)
    onnx_file.load(folder / "new.onnx")


@pytest.mark.skipif(sys.platform != "linux", reason="redirections of bash, and /dev/full")
def test_a_failure_of_the_work_counts_more_than_one_of_printing(folder: Path) -> None:
    assert shell(folder, "$MAIN inspect cut.onnx >/dev/full")[0] == 2
    assert shell(folder, "$MAIN inspect cut.onnx 2>&-")[0] == 2
    assert shell(folder, "$MAIN --help >/dev/full")[0] == 74


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_ascii(folder: Path, env: dict[str, str]) -> None:
    status, out, err = shell(folder, "$MAIN inspect fixed.onnx", **env)
    assert (status, err) == (0, "")
    assert r"\u03bb" in out
    assert out.isascii()
    (folder / "fixed.onnx").rename(folder / "λ.onnx")
    status, out, _ = shell(folder, "$MAIN inspect *λ.onnx --json", **env)
    assert (status, out.isascii()) == (0, True)
    assert json.loads(out)["blocks"][0]["e_lambda"] == 1e-4


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals(folder: Path, sent: signal.Signals, status: int) -> None:
    """In the midst of the search, when the folder for the new file is there."""
    code = (
        "import sys, time\nfrom simam_deploy.rewrite import fuse\n"
        "def find(*_):\n    print('found', flush=True)\n    time.sleep(60)\n"
        "fuse.find = find\nsys.argv = ['simam-deploy', 'fuse', 'fixed.onnx', '-o', 'new.onnx']\n" + MAIN
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"found\n"
    assert [path for path in folder.iterdir() if path.name.startswith(".simam")]
    process.send_signal(sent)
    assert process.wait(60) == status
    process.stdout.close()
    assert not [path for path in folder.iterdir() if path.name.startswith(".simam")]
    assert not (folder / "new.onnx").exists()
