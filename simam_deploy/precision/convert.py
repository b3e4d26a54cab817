"""A float32 ONNX file -> the same network in float16, bfloat16 or int8, with a manifest of what was asked and got.

The order of steps: SimAM becomes one node with float32 inside, whatever the file says; the samples tell which other
parts need float32; then every node is converted that may be. int8 is quantised first, and what is left to float32 is
converted to 16 bits for int8+fp16.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.block import Block
from simam_deploy.errors import InputError, NoBlockError, VerificationError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.graph.versions import with_functions
from simam_deploy.match.find import find
from simam_deploy.match.quantised import is_quantised
from simam_deploy.precision.analysis import Analysis
from simam_deploy.precision.analyze import analyze
from simam_deploy.precision.attempts import Try, int8_attempts, low_attempts
from simam_deploy.precision.calibrate import calibrate
from simam_deploy.precision.compared import compared
from simam_deploy.precision.converted import Converted, LayerRow
from simam_deploy.precision.flat import flat
from simam_deploy.precision.low_types import LOW_TYPES, LowType
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.sensitivity import fall_back
from simam_deploy.precision.to_low import InLow, to_low
from simam_deploy.precision.wanted import Wanted
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.text import Say


def convert_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    wanted: Wanted,
    samples: Samples | None = None,
    on_progress: Say | None = None,
) -> Converted:
    """Convert the ONNX file `source` to `target`, with a manifest at `<target>.json`.

    samples : real inputs; int8 needs them. Without them, 16 bits are judged by the constants alone, with a note.
    Raises InputError for a file that is not float32, for int8 without samples, and for nodes that are not there;
    VerificationError if a bound of `wanted` is missed; OutputError. Nothing is written then.
    """
    say = on_progress or (lambda _: None)
    path = Path(source)
    model = onnx_file.load(path)
    refuse_overwriting_inputs(target, [path, *onnx_file.weight_files(model, path)])
    _refuse(model, path, wanted, samples)
    with staging(target) as staged, onnx_file.blaming(path):
        made = (
            _in_int8(model, wanted, samples, say)
            if samples is not None and wanted.to.startswith("int8")
            else _in_low(model, LOW_TYPES[wanted.to], wanted, samples, say)
        )
        if not made.converted:
            made = replace(made, notes=(*made.notes, made.nothing))
        if samples is not None:
            say("compare with the float32 file")
            made = compared(path, made, samples, say)
        if missed := made.missed:
            raise VerificationError(
                f"{Path(target).name} was not written: {missed}\nsimam-deploy analyze shows what loses them; "
                "--keep-float NAME keeps a node in float32",
                None,
            )
        _write(made, staged, manifest.file_source(path))
    return replace(made, path=Path(target), notes=(*made.notes, *manifest.stale(Path(target))))


def _refuse(model: ir.Model, path: Path, wanted: Wanted, samples: Samples | None) -> None:
    if mark := manifest.specialised(model.metadata_props):
        raise InputError(
            f"{path} is specialised for {mark.get('machine')}; convert the portable file that it was made from"
        )
    if (held := precision(model)) != "fp32":
        raise InputError(
            f"{path} is {held} already; convert the float32 file that it was made from, or mend its SimAM blocks "
            "with simam-deploy fuse"
        )
    if samples is None and wanted.to.startswith("int8"):
        raise InputError(
            f"--to {wanted.to} needs real samples, for the range of each activation: give --inputs with a folder of "
            "pictures or an .npz; 100 to 500 of the inputs that the model gets in use will do"
        )
    if samples is None and (wanted.min_snr is not None or wanted.max_drop is not None):
        raise InputError("--min-snr and --max-drop are judged on real samples; give --inputs")


def _in_low(model: ir.Model, low: LowType, wanted: Wanted, samples: Samples | None, say: Say) -> Converted:
    say("find and fuse SimAM blocks")
    found = find(model)
    epilogue = any(block.epilogue is not None for block in found.blocks)
    notes: list[str] = []
    blocks: tuple[Block, ...] = ()
    with suppress(NoBlockError):
        fused = fuse(model, "function", epilogue=epilogue, found=found)
        model, blocks, notes = fused.model, fused.blocks, [*fused.notes]
    if not blocks:
        notes.append("no SimAM block was found in it")
    model, more = flat(model)
    notes += more
    if unknown := _unknown(model, wanted.keep_float):
        raise InputError(f"--keep-float names {', '.join(map(repr, unknown))}, and no node or value has that name")
    made, analysis = _lowered(model, low, wanted, samples, say)
    if samples is None:
        notes.append(
            "without --inputs nothing was run, so what overflows on real samples was not seen; SimAM and constants "
            "are safe without"
        )
    return Converted(
        path=Path(),
        model=made.model,
        wanted=wanted,
        kept=tuple(LayerRow(row.node, row.op, row.reason) for row in made.kept),
        converted=made.low,
        blocks=blocks,
        analysis=analysis,
        notes=(*notes, *made.notes),
    )


def _lowered(
    model: ir.Model, low: LowType, wanted: Wanted, samples: Samples | None, say: Say
) -> tuple[InLow, Analysis | None]:
    """A flat model in a low type; what the samples, the bounds or the user want in float32 stays so."""
    if samples is None:
        say(f"convert to {low.name}")
        return to_low(model, low, keep=_keep(_asked(wanted), {}), keep_io=wanted.keep_io), None
    analysis = analyze(model, samples, lows=[low], on_progress=say)
    asked, islands, unfit = _asked(wanted), analysis.islands(low), analysis.unfit(low)
    if not is_quantised(model):
        asked |= _fallen(model, low_attempts(model, low, _keep(asked, islands), unfit), wanted, samples, say)
    say(f"convert to {low.name}")
    return to_low(model, low, keep=_keep(asked, islands), unfit=unfit, keep_io=wanted.keep_io), analysis


def _asked(wanted: Wanted) -> dict[str, str]:
    return dict.fromkeys(wanted.keep_float, "asked for")


def _fallen(model: ir.Model, convert: Try, wanted: Wanted, samples: Samples, say: Say) -> dict[str, str]:
    """The layers that the bounds want in float32, with reasons."""
    if wanted.min_snr is None and wanted.max_drop is None:
        return {}
    drop = None if wanted.max_drop is None else wanted.max_drop / 100
    return fall_back(model, convert, samples, min_snr=wanted.min_snr, max_drop=drop, on_progress=say)


def _unknown(model: ir.Model, names: Collection[str]) -> list[str]:
    held = {name for node in model.graph.all_nodes() for name in (node.name, *(v.name for v in node.outputs))}
    return [name for name in names if name not in held]


def _keep(asked: Mapping[str, str], islands: Mapping[str, str]) -> Callable[[ir.Node], str]:
    """Reasons to keep nodes: those that are asked for by name, of a node or a value, and the islands."""

    def keep(node: ir.Node) -> str:
        outputs = [str(value.name) for value in node.outputs]
        named = next((asked[name] for name in (str(node.name), *outputs) if name in asked), "")
        return named or next((islands[name] for name in outputs if name in islands), "")

    return keep


def _in_int8(model: ir.Model, wanted: Wanted, samples: Samples, say: Say) -> Converted:
    calibration = calibrate(model, samples, method=wanted.method, on_progress=say)
    say(f"quantise for {wanted.target}")
    kept = _asked(wanted)
    kept |= _fallen(calibration.float32(), int8_attempts(calibration, wanted.target, kept), wanted, samples, say)
    made = quantise(calibration, wanted.target, keep_float=kept)
    low, analysis = InLow(made.model), None
    if wanted.to == "int8+fp16":
        low, analysis = _lowered(flat(made.model)[0], LOW_TYPES["fp16"], wanted, samples, say)
    blocks = find(low.model).blocks
    return Converted(
        path=Path(),
        model=low.model,
        wanted=wanted,
        kept=(
            *(LayerRow(row.node, row.op, f"no int8: {row.reason}") for row in made.rows if row.reason),
            *(LayerRow(row.node, row.op, f"no fp16: {row.reason}") for row in low.kept),
        )
        if wanted.to == "int8+fp16"
        else tuple(LayerRow(row.node, row.op, row.reason) for row in made.rows if row.reason),
        converted=len(made.integer),
        blocks=blocks,
        analysis=analysis,
        quantised=made,
        notes=(*made.notes, *low.notes),
    )


def _write(made: Converted, staged: Path, source: manifest.Record) -> None:
    blocks = [
        {"node": b.node, "op": b.op, "shape": list(b.shape), "dtype": b.dtype.name, "e_lambda": b.e_lambda}
        for b in made.blocks
    ]
    form = made.blocks[0].form if made.blocks else "none"
    travelling = {**manifest.about(form, blocks), "precision": made.record}
    if made.blocks:
        with_functions(made.model)
    made.model.metadata_props[manifest.PROPERTY] = json.dumps(manifest.finite(travelling), ensure_ascii=False)
    onnx_file.save(made.model, staged)
    packages: Sequence[str] = ("onnx", "onnx-ir", *(["onnxruntime"] if made.quantised or made.analysis else []))
    manifest.write(manifest.record(travelling, source, packages), staged)
