"""Commands that make files, or look into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from simam_deploy.artifacts import atomic, manifest
from simam_deploy.block import NearMiss
from simam_deploy.cli import render
from simam_deploy.cli.options import (
    DEFAULT_INPUTS,
    FoldEpilogue,
    Form,
    Inputs,
    Json,
    Limits,
    OldFoldEpilogue,
    OneFile,
    Output,
    Runtimes,
    Shapes,
    Weights,
    parts,
    sizes,
)
from simam_deploy.cli.options import runtimes as runtimes_of
from simam_deploy.errors import InputError
from simam_deploy.formula import BLOCKED_DOMAIN


def export(
    model: Annotated[str, typer.Argument(help="package.module:callable or file.py:callable", show_default=False)],
    output: Output,
    form: Form = "function",
    epilogue: FoldEpilogue = False,
    neighbours: OldFoldEpilogue = None,
    opset: Annotated[int | None, typer.Option(help="Default: the exporter's own.")] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(
            help="Comma-separated: batch, time, depth, height, width; or axes of an input by number, as x:0,2."
        ),
    ] = None,
    exporter: Annotated[str, typer.Option(help="dynamo or torchscript.")] = "dynamo",
    weights: Weights = None,
    shape: Shapes = None,
    check: Annotated[bool, typer.Option(help="Compare with the model on every installed runtime.")] = True,
    runtimes: Runtimes = None,
    inputs: Inputs = DEFAULT_INPUTS,
    check_seconds: Annotated[
        float | None,
        typer.Option(help="Begin no further inputs of the comparison after that; what is left is listed."),
    ] = None,
    adopt: Annotated[bool, typer.Option(help="Put our SimAM in the place of modules that compute SimAM.")] = True,
    as_json: Json = False,
) -> None:
    """Export a PyTorch model to one ONNX file, and prove it equal."""
    from simam_deploy.pytorch import load_model

    if not check and (runtimes is not None or check_seconds is not None or inputs != DEFAULT_INPUTS):
        raise InputError("--runtimes, --inputs and --check-seconds are for the comparison; leave --no-check out")
    code = load_model.code_file(model)
    from simam_deploy import to_onnx as library  # imports torch: a file that is no model has been refused before

    read = [path for path in (code, weights and load_model.weights_file(weights)[0]) if path is not None]
    atomic.refuse_overwriting_inputs(output, read)
    notes: list[str] = []
    with render.progress() as say:
        say(f"build {model}")
        module, args = _torch_model(model, weights, shape, notes)
        if output.exists():
            atomic.refuse_overwriting_inputs(output, load_model.imported())
        done = library.export(
            module,
            args,
            output,
            form=form,
            epilogue=epilogue if neighbours is None else neighbours,
            opset=opset,
            dynamic=dynamic or [],
            exporter=exporter,
            check=check,
            runtimes=None if runtimes is None else runtimes_of(runtimes, None),
            inputs=parts(inputs),
            check_seconds=check_seconds,
            adopt=adopt,
            source=model,
            on_progress=say,
        )
    if as_json:
        parity = None if done.parity is None else done.parity.as_dict()
        made = _fused_dict(done.fused)
        made["notes"] = [*done.notes, *made["notes"]]
        render.json(
            {
                "file": str(output),
                "weights": notes,
                "adopted": _adopted_dict(done.adopted),
                **made,
                "parity": parity,
            }
        )
        return
    render.lines(notes)
    if done.adopted is not None:
        _adopted(done.adopted)
    _fused(done.fused, f"{output}: SimAM blocks")
    render.lines(done.notes)
    if done.parity is not None:
        render.parity(done.parity)


def fuse(
    file: OneFile,
    output: Output,
    form: Form = "function",
    epilogue: FoldEpilogue = False,
    neighbours: OldFoldEpilogue = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Where M - 1 is a constant for another size, take it from the shape.")
    ] = False,
    specialise: Annotated[
        str | None,
        typer.Option(
            help="cpu: lay the whole file out for ONNX Runtime on this machine's CPU; it runs on such alone."
        ),
    ] = None,
    shape: Shapes = None,
    as_json: Json = False,
) -> None:
    """Find the SimAM blocks in an ONNX file and write them in another form."""
    if specialise is None:
        if shape is not None:
            raise InputError("--shape is for the comparison that --specialise makes; fuse by itself runs nothing")
        from simam_deploy.rewrite.fuse import fuse_file

        with render.progress() as say:
            fused = fuse_file(
                file,
                output,
                form,
                lambda node: say(f"prove the block at {node}"),
                repair=repair,
                epilogue=epilogue if neighbours is None else neighbours,
            )
    else:
        _refuse_with_specialise(specialise, form, repair)
        from simam_deploy.ort_cpu.specialise import specialise_file

        with render.progress() as say:
            fused = specialise_file(file, output, say, sizes=sizes(shape))
    if as_json:
        render.json({"file": str(output), **_fused_dict(fused)})
    else:
        _fused(fused, f"{output}: SimAM blocks")


def _refuse_with_specialise(target: str, form: str, repair: bool) -> None:
    if target != "cpu":
        raise InputError(f"--specialise knows cpu; asked for {target!r}")
    if form != "function" or repair:
        raise InputError(
            "--specialise chooses the form and repairs nothing; write the portable file with these options first"
        )


def inspect(file: OneFile, as_json: Json = False) -> None:
    """List the SimAM blocks of an ONNX file, and what comes close to one."""
    from simam_deploy.cli import doctor
    from simam_deploy.graph import onnx_file
    from simam_deploy.match import find

    proto, model = onnx_file.both(file)
    with render.progress() as say, onnx_file.blaming(file):
        found = find.find(model, lambda node: say(f"prove the block at {node}"))
        say("run it once, to see whether the kernel runs")
        use = doctor.kernel_in(file, proto)
    rows = [(b.node, b.shape, b.dtype.name, b.e_lambda, b.form, b.op) for b in found.blocks]
    shared = [f"{b.node}: {', '.join(b.shared)}" for b in found.blocks if b.shared]
    defaults = [f"{b.node}: {', '.join(b.defaults)}" for b in found.blocks if b.defaults]
    mark = manifest.specialised(model.metadata_props)
    doubts = manifest.disagreements(file)
    opset, weight_mb = model.opset_imports.get(""), onnx_file.weight_bytes(model) / 2**20
    if as_json:
        keys = ("node", "shape", "dtype", "e_lambda", "form", "op")
        render.json(
            {
                "file": str(file),
                "opset": opset,
                "ir_version": model.ir_version,
                "weights_mib": weight_mb,
                "blocks": [dict(zip(keys, row, strict=True)) for row in rows],
                "kernel": asdict(use),
                "shared": shared,
                "defaults": defaults,
                "near_misses": _misses(found.near_misses),
                "specialised": mark,
                "disagreements": doubts,
            }
        )
        return
    render.lines([f"{file}: opset {opset}, IR {model.ir_version}, {weight_mb:.1f} MiB of weights"])
    if mark is not None:
        ours = sum(node.domain == BLOCKED_DOMAIN for node in model.graph)
        where = f"{mark.get('machine')} with ONNX Runtime {mark.get('onnxruntime')}"
        render.lines([f"specialised for {where}: {ours} SimAM operators in the blocked layout"])
    render.lines(doubts)
    if rows:
        shown = [(n, render.shape(s), d, f"{e:g}", f, op) for n, s, d, e, f, op in rows]
        render.table(f"{len(rows)} SimAM blocks", ("node", "x", "type", "λ", "form", "operator"), shown)
    elif mark is None:
        render.lines(["no SimAM block"])
    if use.of:
        seen = f"{use.ran} of {use.of} nodes" if use.ran is not None else "not seen"
        render.lines(
            [f"compiled kernel, in ort: {seen}{f' ({use.target})' if use.target else ''}{use.why and f'; {use.why}'}"]
        )
    render.lines(shared, "inner values that others use too; fuse keeps these and says so:")
    render.lines(
        defaults, "inputs whose defaults are its constants; after fuse, feeding others changes nothing in it:"
    )
    render.near_misses(found.near_misses)


def build(
    file: OneFile,
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
    limits: Limits = True,
    as_json: Json = False,
) -> None:
    """Build a TensorRT-RTX engine; no GPU is needed."""
    from simam_deploy.engines import builder

    with render.progress() as say:
        report = builder.build_engine(
            file,
            output,
            targets=parts(targets),
            shapes=builder.parse_shapes(shapes or []),
            on_progress=say,
            limits=limits,
        )
    if as_json:
        render.json(asdict(report))
        return
    facts = [
        ("targets", ", ".join(report.targets)),
        ("size", f"{report.size_bytes:,} bytes"),
        ("layers", report.layers),
        ("TensorRT-RTX", report.version),
        ("time", f"{report.build_s:.1f} s"),
    ]
    render.table(str(output), ("engine", ""), facts)


def _torch_model(spec: str, weights: Path | None, shape: Sequence[str] | None, notes: list[str]) -> Any:
    import torch

    from simam_deploy.pytorch import load_model

    module, example = load_model.load(spec, weights, notes)
    given = sizes(shape)
    if given is None and example is None:
        raise InputError(f"{spec} gives no example input; say its size with --shape, as --shape 1,3,224,224")
    if given is None:
        return module, example
    generator = torch.Generator().manual_seed(0)
    return module, tuple(torch.randn(size, generator=generator) for size in given)


def _adopted_dict(adopted: Any) -> dict[str, Any] | None:
    if adopted is None:
        return None
    kept = ("rows", "left_alone")
    return {key: [asdict(entry) for entry in getattr(adopted, key)] for key in kept}


def _adopted(adopted: Any) -> None:
    from simam_deploy.pytorch.adopt import shown

    rows = [(shown(row.names), row.class_name, f"{row.e_lambda:g}") for row in adopted.rows]
    if rows:
        render.table("adopted modules", ("module", "class", "λ"), rows, right=("λ",))
    render.lines([str(left) for left in adopted.left_alone], "modules left as they are:")


def _fused_dict(fused: Any) -> dict[str, Any]:
    return {
        "blocks": [asdict(row) for row in fused.rows],
        "near_misses": _misses(fused.near_misses),
        "notes": list(fused.notes),
    }


def _misses(misses: Sequence[NearMiss]) -> list[dict[str, Any]]:
    return [
        {"node": miss.node, "reasons": list(miss.reasons), "repairable": miss.repaired is not None} for miss in misses
    ]


def _fused(fused: Any, title: str) -> None:
    rows = [(r.node, render.shape(r.shape), r.dtype, f"{r.e_lambda:g}", r.found, r.form, r.op) for r in fused.rows]
    render.table(title, ("node", "x", "type", "λ", "was", "is", "operator"), rows)
    render.near_misses(fused.near_misses)
    render.lines(fused.notes)


COMMANDS: dict[Callable[..., None], str] = {
    export: "export export_models.digits:build -o digits.onnx --dynamic batch",
    fuse: "fuse yolo.onnx -o yolo.simam.onnx --form function",
    inspect: "inspect yolo.onnx",
    build: "build digits.onnx -o digits.engine --targets sm86,sm89 --shapes x:1x1x8x8",
}
"""Each command and an example of it."""
