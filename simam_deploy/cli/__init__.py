"""The command line: each command is a file here that parses, makes one library call, and prints.

Nothing but typer and rich is imported before a command has its options, so that help, completion and what cannot be
parsed answer at once. `options` is what commands share, `choices` the names that options take, `render` tables and
progress, `streams` where all of it is printed.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from simam_deploy import __version__
from simam_deploy.cli import analyze, bench, build, convert, doctor, export, fuse, inspect, recipe, render, verify
from simam_deploy.cli.options import QuietOption
from simam_deploy.cli.streams import standing_in, status_after
from simam_deploy.errors import SimAMDeployError, VerificationError
from simam_deploy.processes.silent import silence

FAILED, UNUSABLE, DEFECT, INTERRUPTED, TERMINATED = 1, 2, 70, 130, 143

PROGRAM = "simam-deploy"
OLD_NAMES = {"neighbours": "epilogue", "no-neighbours": "no-epilogue"}
"""Names that options had before. They still work, and no help lists them."""
app = typer.Typer(
    name=PROGRAM,
    help="Put models with SimAM attention into production: one verified ONNX file for every runtime.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: OLD_NAMES.get(name, name),
    },
    epilog="Exit status: 0, 1 when a comparison failed, 2 for input that cannot be used, 70 for a defect of ours, "
    "74 when all was done and could not be printed.",
)


class _Ended(SystemExit):
    """End of a command, with its exit status. No other SystemExit comes from this package."""


def _ending(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that it ends with its exit status, and typer does not interpret its exceptions."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        raise _Ended(_status(lambda: command(*args, **options)))

    return run


def _status(command: Callable[[], None]) -> int:
    try:
        command()
    except BaseException as error:
        return _meaning(error)
    return 0


def _meaning(error: BaseException) -> int:
    """Report the exception of a command on stderr; return the exit status."""
    status, words = UNUSABLE, ""
    match error:
        case typer.Exit():  # verify, when a row failed: all is printed
            status = error.exit_code
        case _Ended():  # SIGTERM, SIGHUP
            status = TERMINATED
        case KeyboardInterrupt():
            status = INTERRUPTED
        case VerificationError():
            status, words = FAILED, str(error)
            if error.report is not None:
                render.json(error.report.as_dict()) if "--json" in sys.argv else render.parity(error.report)
        case SimAMDeployError():
            words = str(error)
        case MemoryError():
            words = f"this takes more memory than there is: {error}".removesuffix(": ")
        case RecursionError():
            words = "the input is nested too deeply"
        case SystemExit():
            words = f"the model, or a library that it uses, ended the program: sys.exit({error.code!r})"
        case _:
            status = DEFECT
            render.error("".join(traceback.format_exception(error)))
    if words:
        render.error(f"error: {words}")
    return status


PANELS = {
    "Look": (inspect.inspect, analyze.analyze, doctor.doctor),
    "Make": (export.export, fuse.fuse, convert.convert, build.build, recipe.recipe),
    "Check": (verify.verify, bench.bench),
}
"""The commands in the order of the work."""
COMMANDS = [command for commands in PANELS.values() for command in commands]
for _panel, _commands in PANELS.items():
    for _command in _commands:
        _help = f"{_command.__doc__}\n\nExample: simam-deploy {sys.modules[_command.__module__].EXAMPLE}"
        app.command(help=_help, rich_help_panel=_panel)(_ending(_command))


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _before(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: QuietOption = False,
) -> None:
    if quiet:
        context.default_map = {command.__name__: {"quiet": True} for command in COMMANDS}


def main() -> None:
    """Run the command line. Ends with SystemExit. Removes partial files on SIGTERM, SIGHUP and Ctrl-C."""
    gc.set_threshold(100_000, 50, 100)  # on a graph of 100,000 nodes the collector would take half of the time
    silence()  # frameworks that the code of a model imports, too
    signal.signal(signal.SIGTERM, _terminated)
    if (hang_up := getattr(signal, "SIGHUP", None)) and signal.getsignal(
        hang_up
    ) == signal.SIG_DFL:  # not under nohup
        signal.signal(hang_up, _terminated)
    with standing_in() as out:
        try:
            app(prog_name=PROGRAM)
        except SystemExit as end:  # ours, or typer's: 0 for help, 2 for what it cannot parse
            status = end.code if isinstance(end.code, int) else 0
        except BaseException as error:  # before a command begins: from the reading of its options, or Ctrl-C
            status = _meaning(error)
        status = status_after(out, status)
    raise SystemExit(status)


def _terminated(*_: object) -> None:
    raise _Ended(TERMINATED)
