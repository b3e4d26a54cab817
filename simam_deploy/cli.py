"""The command line: each command parses, makes one library call, and prints."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from simam_deploy import __version__, show
from simam_deploy.errors import InputError, OutputError, SimAMDeployError, VerificationError
from simam_deploy.forms import FORMS

app = typer.Typer(
    name="simam-deploy",
    help="Put models with SimAM attention into production: one verified ONNX file for every runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
FORM_NAMES = ", ".join(FORMS)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def _named(path: Path) -> Path:
    if not path.name or path.name == "..":
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    return path


Output = Annotated[
    Path, typer.Option("--output", "-o", help="The file to write.", show_default=False, callback=_named)
]
Form = Annotated[str, typer.Option(help=f"How to write each SimAM block: {FORM_NAMES}.")]
Weights = Annotated[Path | None, typer.Option(help="Checkpoint to load into the model (a state_dict).")]
Shapes = Annotated[
    list[str] | None, typer.Option("--shape", help="Size of an input, as 1,3,224,224; once per input.")
]
Runtimes = Annotated[
    str | None, typer.Option(help="Comma-separated: onnx_reference, ort, openvino. Default: installed.")
]
Forms = Annotated[str, typer.Option(help=f"Comma-separated forms to convert to first, or all: {FORM_NAMES}.")]
Threads = Annotated[int, typer.Option(help="Threads of one inference; 0 leaves it to the runtime.")]
Provider = Annotated[str | None, typer.Option(help="Execution provider for ort, as CUDAExecutionProvider.")]
Files = Annotated[list[Path], typer.Argument(help="ONNX files.", show_default=False)]


def main() -> None:
    """Run the command line. Errors raised on purpose become one line and exit status 2, failed checks 1."""
    try:
        app()
    except VerificationError as error:
        _parity(error.report, as_json="--json" in sys.argv)
        _fail(error, 1)
    except SimAMDeployError as error:
        _fail(error, 2)


def _fail(error: Exception, status: int) -> NoReturn:
    show.err.print(Text(f"error: {error}"), style="red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(status)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(epilog="Example: simam-deploy export export_models.digits:build -o digits.onnx --dynamic batch")
def export(
    model: Annotated[str, typer.Argument(help="package.module:callable or file.py:callable", show_default=False)],
    output: Output,
    form: Form = "function",
    opset: Annotated[int | None, typer.Option(help="Default: the exporter's own.")] = None,
    dynamic: Annotated[str, typer.Option(help="Comma-separated: batch, height, width.")] = "",
    exporter: Annotated[str, typer.Option(help="dynamo or torchscript.")] = "dynamo",
    weights: Weights = None,
    shape: Shapes = None,
    check: Annotated[bool, typer.Option(help="Compare with the model on every installed runtime.")] = True,
    as_json: Json = False,
) -> None:
    """Export a PyTorch model to one ONNX file, and prove it equal."""
    from simam_deploy import export as library

    with show.progress() as say:
        say(f"build {model}")
        module, args = _torch_model(model, weights, shape)
        done = library.export(
            module,
            args,
            output,
            form=form,
            opset=opset,
            dynamic=_list(dynamic),
            exporter=exporter,
            check=check,
            source=model,
            on_progress=say,
        )
    if as_json:
        parity = None if done.parity is None else done.parity.as_dict()
        _json({"file": str(output), **_fused_dict(done.fused), "parity": parity})
        return
    _fused(done.fused, f"{output}: SimAM blocks")
    if done.parity is not None:
        _parity(done.parity, as_json=False)


@app.command(epilog="Example: simam-deploy fuse yolo.onnx -o yolo.simam.onnx --form function")
def fuse(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)],
    output: Output,
    form: Form = "function",
    as_json: Json = False,
) -> None:
    """Find the SimAM blocks in an ONNX file and write them in another form."""
    from simam_deploy import fuse as library

    with show.progress() as say:
        fused = library.fuse_file(file, output, form, lambda node: say(f"prove the block at {node}"))
    if as_json:
        _json({"file": str(output), **_fused_dict(fused)})
    else:
        _fused(fused, f"{output}: SimAM blocks")


@app.command(epilog="Example: simam-deploy inspect yolo.onnx")
def inspect(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)], as_json: Json = False
) -> None:
    """List the SimAM blocks of an ONNX file, and what comes close to one."""
    from simam_deploy import blocks, onnx_file

    model = onnx_file.load(file)
    with show.progress() as say:
        found = blocks.find(model, lambda node: say(f"prove the block at {node}"))
    rows = [(b.node, b.shape, b.dtype.name, b.e_lambda, b.form) for b in found.blocks]
    opset, weight_mb = model.opset_imports.get(""), onnx_file.weight_bytes(model) / 2**20
    if as_json:
        keys = ("node", "shape", "dtype", "e_lambda", "form")
        _json(
            {
                "file": str(file),
                "opset": opset,
                "ir_version": model.ir_version,
                "weights_mib": weight_mb,
                "blocks": [dict(zip(keys, row, strict=True)) for row in rows],
                "near_misses": [asdict(miss) for miss in found.near_misses],
            }
        )
        return
    show.lines([f"{file}: opset {opset}, IR {model.ir_version}, {weight_mb:.1f} MiB of weights"])
    if rows:
        shown = [(n, show.shape(s), d, f"{e:g}", f) for n, s, d, e, f in rows]
        show.table(f"{len(rows)} SimAM blocks", ("node", "x", "type", "λ", "form"), shown)
    else:
        show.lines(["no SimAM block"])
    show.near_misses(found.near_misses)


@app.command(
    epilog="Example: simam-deploy verify digits.onnx --against export_models.digits:build --forms all --gates"
)
def verify(
    files: Files,
    against: Annotated[
        str | None, typer.Option(help="The PyTorch model; default: the first file in float64.")
    ] = None,
    weights: Weights = None,
    runtimes: Runtimes = None,
    forms: Forms = "",
    inputs: Annotated[
        str, typer.Option(help="Comma-separated: plain, uniform, adversarial, FILE.npz, FOLDER.")
    ] = "plain",
    shape: Shapes = None,
    gates: Annotated[bool, typer.Option("--gates", help="Also judge the gate of every SimAM block.")] = False,
    threads: Threads = 0,
    provider: Provider = None,
    as_json: Json = False,
) -> None:
    """Run the same inputs through runtimes and forms; exit status 1 when a row fails."""
    from simam_deploy import verify as library
    from simam_deploy.candidates import gather
    from simam_deploy.inputs import cases
    from simam_deploy.runtimes import open_session

    if weights is not None and against is None:
        raise InputError("--weights are for a PyTorch model; name it with --against package.module:callable")
    names = _runtimes(runtimes, provider)
    with show.progress() as say, tempfile.TemporaryDirectory() as folder:
        chosen = gather(
            files,
            _list(forms),
            names,
            Path(folder),
            threads=threads,
            provider=provider,
            taps=gates,
            on_progress=lambda node: say(f"prove the block at {node}"),
        )
        _refuse_nothing(chosen)
        with open_session(files[0], "onnx_reference") as session:
            specs = session.inputs
        module = None if against is None else _torch_model(against, weights, shape or ["1"])[0]
        report = library.verify(
            chosen.open,
            list(cases(_list(inputs), specs, sizes=_sizes(shape))),
            truth=lambda: _baseline(files[0], module, "float64"),
            twin=lambda: _baseline(files[0], module, None),
            taps=chosen.taps,
            on_progress=say,
        )
    report.notes += [f"left out: {reason}" for reason in chosen.skipped]
    _parity(report, as_json)
    if not report.passed:
        raise SystemExit(1)


@app.command(epilog="Example: simam-deploy bench digits.onnx --forms all --runtimes ort --threads 2")
def bench(
    files: Files,
    runtimes: Runtimes = None,
    forms: Forms = "",
    shape: Shapes = None,
    threads: Threads = 0,
    provider: Provider = None,
    seconds: Annotated[float, typer.Option(help="Time for all sessions together.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Time files, forms and runtimes against each other, call by call in turn, and against a plain copy."""
    from contextlib import ExitStack

    from simam_deploy import bench as library
    from simam_deploy.candidates import gather
    from simam_deploy.inputs import cases
    from simam_deploy.verify import run_once

    names = [name for name in _runtimes(runtimes, provider) if runtimes or name != "onnx_reference"]
    with show.progress() as say, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = gather(files, _list(forms), names, Path(folder), threads=threads, provider=provider)
        _refuse_nothing(chosen)
        sessions = []
        for label, open_candidate in chosen.open.items():
            say(f"open {label}")
            session = stack.enter_context(open_candidate())
            session.label = label
            sessions.append(session)
        (case,) = cases(["plain"], sessions[0].inputs, sizes=_sizes(shape))
        for session in sessions:
            run_once(session, case.feeds[0])
        rows = library.bench(
            sessions, case.feeds[0], seconds=seconds, on_progress=lambda done: say(f"measure: {done:.0%}")
        )
    if as_json:
        _json({"threads": threads, "rows": [asdict(row) for row in rows], "left_out": chosen.skipped})
        return
    used = str(threads) if threads else "as each runtime chooses"
    show.timing(f"time per call, interleaved; threads: {used}", rows)
    show.lines([f"left out: {reason}" for reason in chosen.skipped])


@app.command(epilog="Example: simam-deploy build digits.onnx -o digits.engine --targets sm86,sm89 --shapes x:1x1x8x8")
def build(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)],
    output: Output,
    targets: Annotated[str, typer.Option(help="Comma-separated compute capabilities, as sm86,sm89.")],
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shapes",
            "--shape",
            help="NAME:MIN[,OPT,MAX] for a dynamic input, as x:1x3x64x64,4x3x64x64,8x3x64x64.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a TensorRT-RTX engine; no GPU is needed."""
    from simam_deploy import engine

    with show.progress() as say:
        report = engine.build_engine(
            file, output, targets=_list(targets), shapes=engine.parse_shapes(shapes or []), on_progress=say
        )
    if as_json:
        _json(asdict(report))
        return
    facts = [
        ("targets", ", ".join(report.targets)),
        ("size", f"{report.size_bytes:,} bytes"),
        ("layers", report.layers),
        ("TensorRT-RTX", report.version),
        ("time", f"{report.build_s:.1f} s"),
    ]
    show.table(str(output), ("engine", ""), facts)


@app.command(epilog="Example: simam-deploy doctor")
def doctor(as_json: Json = False) -> None:
    """Say what is installed, what each runtime can do here, and how to mend what is missing."""
    from simam_deploy import doctor as library

    with show.progress() as say:
        rows = library.examine(say)
    if as_json:
        _json([asdict(row) for row in rows])
        return
    show.table(
        "what is here",
        ("", "version", "works", "what it does here, or how to mend it"),
        [(r.name, r.version, r.works, r.detail) for r in rows],
    )


def _torch_model(spec: str, weights: Path | None, shape: Sequence[str] | None) -> Any:
    import torch

    from simam_deploy import source

    module, example = source.load(spec, weights)
    sizes = _sizes(shape)
    if sizes is None and example is None:
        raise InputError(f"{spec} gives no example input; say its size with --shape, as --shape 1,3,224,224")
    if sizes is None:
        return module, example
    generator = torch.Generator().manual_seed(0)
    return module, tuple(torch.randn(size, generator=generator) for size in sizes)


def _baseline(file: Path, module: Any, dtype: str | None) -> Any:
    from simam_deploy.runtimes import open_session

    return open_session(module or file, "onnx_reference" if module is None else "eager", dtype=dtype)


def _runtimes(text: str | None, provider: str | None) -> list[str]:
    from simam_deploy.runtimes import OPTIONS, installed

    names = [name for name in installed() if name != "eager"] if text is None else _list(text)
    if not names:
        raise InputError("--runtimes names none; leave it out for all that are installed")
    if provider is not None and not set(names) & set(OPTIONS["provider"]):
        raise InputError(f"--provider {provider} is for ort, which is not among {', '.join(names)}")
    return names


def _refuse_nothing(chosen: Any) -> None:
    if not chosen.open:
        raise InputError("\n  ".join(("nothing is left to run:", *chosen.skipped)))


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _sizes(texts: Sequence[str] | None) -> list[tuple[int, ...]] | None:
    if not texts:
        return None
    try:
        sizes = [tuple(int(part) for part in text.replace("x", ",").split(",")) for text in texts]
    except ValueError:
        sizes = [(0,)]
    if any(part < 1 for size in sizes for part in size):
        raise InputError(f"cannot read the shape {', '.join(texts)}; give positive numbers, as 1,3,224,224")
    return sizes


def _fused_dict(fused: Any) -> dict[str, Any]:
    return {
        "blocks": [asdict(row) for row in fused.rows],
        "near_misses": [asdict(miss) for miss in fused.near_misses],
        "notes": list(fused.notes),
    }


def _fused(fused: Any, title: str) -> None:
    rows = [(r.node, show.shape(r.shape), r.dtype, f"{r.e_lambda:g}", r.found, r.form) for r in fused.rows]
    show.table(title, ("node", "x", "type", "λ", "was", "is"), rows)
    show.near_misses(fused.near_misses)
    show.lines(fused.notes)


def _parity(report: Any, as_json: bool) -> None:
    if as_json:
        _json(report.as_dict())
        return
    show.parity(report)


def _json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
