"""ONNX model -> the same model with its SimAM blocks in one form: a short list of passes, and files in and out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.block import Found
from simam_deploy.errors import InputError
from simam_deploy.formula import OP_NAME
from simam_deploy.graph import onnx_file
from simam_deploy.graph.versions import with_functions, with_one_opset
from simam_deploy.match.find import find
from simam_deploy.match.int8_nodes import opened
from simam_deploy.rewrite.choose import choose
from simam_deploy.rewrite.for_runtime import choice
from simam_deploy.rewrite.forms import form_named
from simam_deploy.rewrite.functions import called, clean_functions, clean_imports, declare_calls
from simam_deploy.rewrite.fused import BlockRow, Fused
from simam_deploy.rewrite.lower import clean_names, lower
from simam_deploy.rewrite.restore_lambda import rounded_lambda, with_lambdas


def fuse(
    model: ir.Model,
    form: str | None = None,
    on_progress: Callable[[str], None] | None = None,
    *,
    for_runtime: str | None = None,
    repair: bool = False,
    epilogue: bool = False,
    e_lambda: Sequence[float] = (),
    found: Found | None = None,
) -> Fused:
    """Write every SimAM block of `model` in one form; all else keeps its nodes, names, weights, opset and metadata.

    `model` is not changed; the result shares its weights. A block already in the asked form is written anew with
    the same names, so fusing twice gives the same file. Inner values that others use too stay, and `notes` says so.
    form : None for that of `for_runtime`, else "function".
    for_runtime : a runtime of for_runtime.py, whose row the result keeps to; None for any.
    repair : also write the near misses whose only fault is a constant M - 1 for another size of the map; M then comes
    from the shape of x.
    epilogue : fold the epilogue of SimAM into its node where one operator does it all (epilogue.py), for the forms
    that have a node. Otherwise, nodes that have it folded in are taken apart again.
    e_lambda : λ of all blocks, or of each, where a converter rounded them to 16 bits: see restore_lambda.py.
    found : the blocks of `model`, where they have been searched for already.
    Raises NoBlockError when there is no block (with the near misses), FormError when a block cannot be written so
    (with every block and every reason) or the opset is older than 7, InputError when there is no such form, the
    file is specialised, or the runtime does not take it.
    """
    chosen_for = choice(for_runtime, form).of(model) if for_runtime is not None else None
    form = chosen_for.form if chosen_for is not None else form or "function"
    written_as = form_named(form, epilogue=epilogue)
    _refuse_specialised(model)
    model, given = opened(model), model
    found = find(model, on_progress) if found is None else found
    found = with_lambdas(model, found, e_lambda, repair=repair) if e_lambda else found
    rounded = list(filter(None, (rounded_lambda(block.node, block.e_lambda) for block in found.blocks)))
    result = model.clone()
    chosen = choose(result, found.in_clone(model, result), form, repair=repair, epilogue=epilogue)
    if form == "custom_op":
        declare_calls(result, chosen.blocks)
    notes = [] if model is given else ["nodes on 8-bit integers are float nodes between their roundings again"]
    notes += with_one_opset(result, [block.function for block in chosen.blocks if block.function is not None])
    called_before = called(result)
    lowered = lower(result, chosen.blocks, written_as, epilogue=epilogue)
    clean_names(result, lowered)
    functions = written_as.functions(
        result.opset_imports[""], sorted(chosen.ops), {block.dtype for block in chosen.blocks}
    )
    clean_functions(result, functions, called_before, chosen.kept)
    clean_imports(result)
    notes += chosen_for.notes() if chosen_for is not None else []
    notes += [*rounded, *chosen.notes, *lowered.notes, *(with_functions(result) if functions else [])]
    rows = [
        BlockRow(b.node, b.shape, b.dtype.name, b.e_lambda, b.form, form, b.op if epilogue else OP_NAME)
        for b in lowered.sources
    ]
    return Fused(
        result,
        tuple(rows),
        chosen.near_misses,
        tuple(notes),
        lowered.blocks,
        None if chosen_for is None else chosen_for.as_dict(),
    )


def _refuse_specialised(model: ir.Model) -> None:
    if mark := manifest.specialised(model.metadata_props):
        raise InputError(
            f"the file is specialised for {mark.get('machine')}, where nothing is left to fuse; "
            "start again from the portable file that it was made from"
        )


def fuse_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    form: str | None = None,
    on_progress: Callable[[str], None] | None = None,
    *,
    for_runtime: str | None = None,
    repair: bool = False,
    epilogue: bool = False,
    e_lambda: Sequence[float] = (),
) -> Fused:
    """`fuse` from one ONNX file to another, with a manifest beside it. Raises as `fuse`, `onnx_file.load` and
    `files.staging` do; nothing is written then, and `source` is never touched."""
    model = onnx_file.load(source)
    refuse_overwriting_inputs(target, [source, *onnx_file.weight_files(model, source)])
    with staging(target) as staged, onnx_file.blaming(source):
        fused = fuse(
            model, form, on_progress, for_runtime=for_runtime, repair=repair, epilogue=epilogue, e_lambda=e_lambda
        )
        write(fused, staged, manifest.file_source(Path(source)))
    return replace(fused, notes=(*fused.notes, *manifest.stale(Path(target))))


def write(
    fused: Fused,
    staged: Path,
    source: manifest.Record,
    packages: tuple[str, ...] = ("onnx", "onnx-ir"),
    mark: manifest.Record | None = None,
) -> manifest.Record:
    """Write the model and its manifest to `staged`, a path inside `files.staging`; return the manifest.

    mark : what the manifest says besides, in the file too.
    """
    blocks = [
        {"node": r.node, "op": r.op, "shape": list(r.shape), "dtype": r.dtype, "e_lambda": r.e_lambda}
        for r in fused.rows
    ]
    travelling = {**manifest.about(fused.rows[0].form, blocks), **(mark or {})}
    fused.model.metadata_props[manifest.PROPERTY] = json.dumps(travelling, ensure_ascii=False)
    onnx_file.save(fused.model, staged)
    made = manifest.record(travelling, source, packages) | ({"for": fused.chosen_for} if fused.chosen_for else {})
    manifest.write(made, staged)
    return made
