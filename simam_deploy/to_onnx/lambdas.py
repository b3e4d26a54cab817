"""Compare the λ of each block in a file with that of its module.

An error of 1 % in λ is below the float32 error of the outputs, so they cannot reveal it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from simam_deploy.errors import InputError, NoBlockError, VerificationError
from simam_deploy.pytorch.adopt import observe
from simam_deploy.pytorch.adopt.report import Adopted, shown
from simam_deploy.pytorch.module import SimAM
from simam_deploy.rewrite.fused import BlockRow

CLOSE = 1e-6
"""Relative tolerance. Files hold λ or 4 λ in float32: at most two roundings of 6e-8."""
TAKEN_FOR_0 = 1e-8
"""Largest number that the optimiser of onnxscript, used by torch, replaces by 0."""
LambdaOfModule = tuple[str, float]
"""The name of a module, and its λ."""


def compare(
    model: nn.Module, inputs: observe.ModelInputs, adopted: Adopted | None, rows: Sequence[BlockRow]
) -> list[str]:
    """Raise VerificationError if a block has another λ than its module; return notes.

    model : the original; runs once more. Modules with a known λ are our SimAM and adopted modules.
    If the numbers of blocks and calls agree, compares them in order, as exporters write them. Otherwise pairs equal
    λ, and raises if both blocks and calls remain. Notes name blocks that remain alone.
    """
    calls = _calls(model, inputs, adopted)
    if len(calls) == len(rows):
        pairs = [(row, call) for row, call in zip(rows, calls, strict=True) if not _close(row, call)]
        lone, unmet = [row for row, _ in pairs], [call for _, call in pairs]
    else:
        lone, unmet = [], list(calls)
        for row in rows:
            found = next((call for call in unmet if _close(row, call)), None)
            unmet.remove(found) if found is not None else lone.append(row)
    if lone and unmet:
        blocks = ", ".join(f"{row.e_lambda:.8g} at {row.node}" for row in lone)
        modules = ", ".join(f"{e_lambda:.8g} in {name}" for name, e_lambda in unmet)
        raise VerificationError(
            f"the file has another λ than the model, so it was not written: {blocks}; the model has {modules}\n"
            "this is a defect of the exporter or ours; report it with the model",
            None,
        )
    return [
        f"λ = {row.e_lambda:g} at {row.node} comes from no module that is SimAM; it was not compared" for row in lone
    ]


@contextmanager
def kept(model: nn.Module, adopted: Adopted | None, rows: Sequence[BlockRow]) -> Iterator[None]:
    """Wrap the search for blocks, which fills `rows`. Raises InputError afterwards for a lost λ.

    A λ is lost if dynamo's optimiser replaces it by 0 and no block has it.
    """
    try:
        yield
    except NoBlockError:
        _refuse_lost(model, adopted, ())
        raise
    _refuse_lost(model, adopted, rows)


def _refuse_lost(model: nn.Module, adopted: Adopted | None, rows: Sequence[BlockRow]) -> None:
    for call in _known(model, adopted).values():
        if call[1] <= TAKEN_FOR_0 and not any(_close(row, call) for row in rows):
            raise InputError(
                f"λ is {call[1]:g} in {call[0]}, and the dynamo exporter takes {TAKEN_FOR_0:g} and less for 0 where "
                "it is added: the file would hold λ = 0\nuse --exporter torchscript, which keeps it, or a larger λ"
            )


def _known(model: nn.Module, adopted: Adopted | None) -> dict[nn.Module, LambdaOfModule]:
    known: dict[nn.Module, LambdaOfModule] = {
        m: (shown((n,)), m.e_lambda) for n, m in model.named_modules() if type(m) is SimAM
    }
    rows = adopted.rows if adopted else ()
    return known | {model.get_submodule(r.names[0]): (shown(r.names), r.e_lambda) for r in rows}


def _close(row: BlockRow, call: LambdaOfModule) -> bool:
    return math.isclose(row.e_lambda, call[1], rel_tol=CLOSE)


def _calls(model: nn.Module, inputs: observe.ModelInputs, adopted: Adopted | None) -> list[LambdaOfModule]:
    """Names and λ of modules with a known λ, in the order of their calls."""
    known = _known(model, adopted)
    calls: list[LambdaOfModule] = []

    def note(module: nn.Module, _: Any) -> None:
        calls.append(known[module])

    handles = [module.register_forward_pre_hook(note) for module in known]
    try:
        observe.outputs(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls
