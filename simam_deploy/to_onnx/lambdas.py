"""The λ of each block in a file, compared with that of the module that it came from.

Outputs do not show a λ that is 1 % off, as float32 itself costs more there. So the modules are asked.
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
"""Relative. Files hold λ in float32, by itself or times 4: at most two roundings of 6e-8."""
TAKEN_FOR_0 = 1e-8
"""The largest number that onnxscript's optimiser takes for 0, which torch runs on what it exports."""
LambdaOfModule = tuple[str, float]
"""The name of a module, and its λ."""


def compare(
    model: nn.Module, inputs: observe.ModelInputs, adopted: Adopted | None, rows: Sequence[BlockRow]
) -> list[str]:
    """Raise VerificationError where a block has another λ than its module; return notes.

    model : as it was given; it runs once more. Its modules with a known λ are our SimAM and those that were adopted.
    As many blocks as calls of such modules are compared in order, as exporters write them. Otherwise the file holds
    SimAM that is no such module, or modules that came to no block; then only those are refused that remain on both
    sides, once equal λ are paired. Blocks that remain alone are named in the notes.
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
    """Around the search for blocks, which fills `rows`. Raises InputError behind it, also if none was found, for a
    module with a λ that dynamo's optimiser takes for 0, where no block has that λ."""
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
    """Of the modules whose λ is known, in the order in which the model calls them."""
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
