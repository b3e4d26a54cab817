"""The command line: each command parses, makes one library call, and prints.

`convert` makes files or looks into them, `compare` runs them, `options` is what both share.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from typing import Annotated

import typer

from simam_deploy import __version__, show
from simam_deploy.cli import compare, convert
from simam_deploy.errors import SimAMDeployError, VerificationError
from simam_deploy.runtimes.session import silence

app = typer.Typer(
    name="simam-deploy",
    help="Put models with SimAM attention into production: one verified ONNX file for every runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0, 1 when a comparison failed, 2 for input that cannot be used, 70 for a defect of ours.",
)
for _command, _example in {**convert.COMMANDS, **compare.COMMANDS}.items():
    app.command(epilog=f"Example: simam-deploy {_example}")(_command)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. Errors raised on purpose become one line and exit status 2, failed checks 1."""
    gc.set_threshold(100_000, 50, 100)  # on a graph of 100,000 nodes the collector would take half of the time
    silence()  # frameworks that the code of a model imports, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that half-made files are removed
    try:
        app()
    except SimAMDeployError as error:
        status = 2
        if isinstance(error, VerificationError):
            status = 1
            if error.report is not None:
                show.json(error.report.as_dict()) if "--json" in sys.argv else show.parity(error.report)
        show.error(f"error: {error}")
        raise SystemExit(status) from None
    except Exception:
        show.error(traceback.format_exc())
        raise SystemExit(70) from None
