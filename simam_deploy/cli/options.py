"""Options shared by several commands, and their parsing. Imports no framework."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated

import typer

from simam_deploy.artifacts.opening import opened
from simam_deploy.cli import choices
from simam_deploy.errors import InputError, ModelFileError, OutputError

LARGEST = 2**30
"""Upper bound on the numbers of one input: 4 GiB of float32."""
FORM_NAMES = ", ".join(choices.FORMS)
DEFAULT_INPUTS = ",".join(choices.DEFAULT_INPUTS)


def _named(path: Path) -> Path:
    if not path.name or path.name == "..":
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    return path


def _named_if(path: Path | None) -> Path | None:
    return None if path is None else _named(path)


def _there(path: Path) -> Path:
    """Refuse a missing file before any framework is imported."""
    opened(path, ModelFileError, ".onnx file").close()
    return path


def _all_there(paths: list[Path]) -> list[Path]:
    return [_there(path) for path in paths]


QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors: no progress, no warnings.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
FileArgument = Annotated[
    Path,
    typer.Argument(
        help="An ONNX file.", show_default=False, callback=_there, autocompletion=choices.file_of(".onnx")
    ),
]
InspectedArgument = Annotated[
    Path,
    typer.Argument(
        help="An ONNX file, or an engine.",
        show_default=False,
        callback=_there,
        autocompletion=choices.file_of(".onnx", ".engine"),
    ),
]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="ONNX files, or for verify and bench an engine.",
        show_default=False,
        callback=_all_there,
        autocompletion=choices.file_of(".onnx", ".engine"),
    ),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="The file to write.", show_default=False, callback=_named)
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write a page with charts and gate maps, as page.html.", callback=_named_if),
]
FormOption = Annotated[
    str | None,
    typer.Option(
        help=f"How to write each SimAM block: {FORM_NAMES}. Default: function, or that of --for.",
        autocompletion=choices.one_of(choices.FORMS),
    ),
]
ForOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        help=f"Runtime that the file is for; it chooses form and opset: {', '.join(choices.FOR)}.",
        autocompletion=choices.one_of(choices.FOR),
    ),
]
FormsOption = Annotated[
    str,
    typer.Option(
        help=f"Comma-separated forms to convert to first, or all: {FORM_NAMES}.",
        autocompletion=choices.list_of((*choices.FORMS, "all")),
    ),
]
FoldEpilogueOption = Annotated[
    bool,
    typer.Option(
        "--epilogue/--no-epilogue",
        help="Fold the epilogue of SimAM (BatchNormalization, add, activation) into its node.",
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Checkpoint to load into the model: FILE, or FILE:PART for one part of it.")
]
ShapesOption = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Size of an input, as 1,3,224,224, or '' for a scalar; once per input."),
]
RuntimesOption = Annotated[
    str | None,
    typer.Option(
        help=f"Comma-separated: {', '.join(choices.RUNTIMES)}. Default: installed.",
        autocompletion=choices.list_of(choices.RUNTIMES),
    ),
]
InputsOption = Annotated[
    str,
    typer.Option(
        help="Comma-separated: plain, uniform, adversarial, FILE.npz, FOLDER.",
        autocompletion=choices.list_of(choices.INPUTS),
    ),
]
SamplesOption = Annotated[
    str | None,
    typer.Option("--inputs", help="Real samples: a folder of pictures, or an .npz with an array for each input."),
]
MeanOption = Annotated[
    str | None, typer.Option(help="Of pictures from 0 to 1, for each channel: 0.485,0.456,0.406 (default), or 0.")
]
StdOption = Annotated[str | None, typer.Option(help="As --mean: 0.229,0.224,0.225 (default), or 1.")]
SizeOption = Annotated[
    str | None, typer.Option(help="Height and width of pictures, as 640,640, if the file is dynamic.")
]
CountOption = Annotated[int | None, typer.Option("--samples", help="Number of samples in use; default: up to 512.")]
MinSnrOption = Annotated[float | None, typer.Option(help="Least signal-to-noise ratio of an output, in dB.")]
MaxDropOption = Annotated[float | None, typer.Option(help="Largest share of changed labels or boxes, in percent.")]
ThreadsOption = Annotated[int, typer.Option(help="Threads of one inference; 0 leaves it to the runtime.")]
ProviderOption = Annotated[
    str | None,
    typer.Option(
        help="Execution provider for ort, as CUDAExecutionProvider.",
        autocompletion=choices.one_of(choices.PROVIDERS),
    ),
]
KernelOption = Annotated[
    str | None,
    typer.Option(
        help="For ort: auto takes the compiled kernel where it is built; require fails without; off.",
        autocompletion=choices.one_of(choices.KERNEL),
    ),
]
CudaGraphOption = Annotated[bool, typer.Option("--cuda-graph", help="For an engine: replay runs as CUDA graphs.")]
LimitsOption = Annotated[
    bool,
    typer.Option(
        help="Refuse files of more nodes than networks have; try what may take much with limits on time and memory."
    ),
]


def parts(text: str) -> list[str]:
    """Items of a comma-separated string."""
    return [part.strip() for part in text.split(",") if part.strip()]


def sizes(texts: Sequence[str] | None) -> list[tuple[int, ...]] | None:
    """Parse sizes such as 1,3,224,224, with () for ''; None without any. Raises InputError."""
    if not texts:
        return None
    try:
        found = [tuple(int(part) for part in text.replace("x", ",").split(",")) if text else () for text in texts]
    except ValueError:
        found = [(0,)]
    if any(part < 1 for size in found for part in size):
        raise InputError(f"cannot read the shape {', '.join(texts)}; give positive numbers, as 1,3,224,224")
    if any(prod(size) > LARGEST for size in found):
        raise InputError(f"{', '.join(texts)} holds more than {LARGEST:,} numbers; give a smaller shape")
    return found


def numbers(text: str | None, what: str) -> list[float] | float | None:
    """One number, or several in a list; None without a text. Raises InputError."""
    if text is None:
        return None
    try:
        found = [float(part) for part in parts(text)]
    except ValueError:
        found = []
    if not found:
        raise InputError(f"cannot read --{what} {text!r}; give numbers, as 0.5 or 0.485,0.456,0.406")
    return found if len(found) > 1 else found[0]


def plane(text: str | None) -> tuple[int, int] | None:
    """Height and width, as 640,640; None without a text. Raises InputError."""
    found = sizes([text] if text is not None else None)
    if found is None:
        return None
    if len(found[0]) != 2:
        raise InputError(f"--size is height and width, as 640,640; got {text!r}")
    return found[0][0], found[0][1]


def named_runtimes(text: str | None) -> list[str] | None:
    """Named runtimes; None for all installed ones. Raises InputError for an empty list."""
    if text is not None and not parts(text):
        raise InputError("--runtimes names none; leave it out for all that are installed")
    return None if text is None else parts(text)
