"""Result of `fuse`: the new model, and a row for each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from simam_deploy.block import Block, Found, NearMiss
from simam_deploy.graph.shapes import Dims
from simam_deploy.text import as_table, counted, on_lines, shape


@dataclass(frozen=True)
class BlockRow:
    """Row of one block."""

    node: str
    shape: Dims
    dtype: str
    e_lambda: float
    found: str
    """Form in the original file."""
    form: str
    """Form in the new file."""
    op: str
    """Name in formula.OPS: SimAM, or an operator with the epilogue."""


@dataclass(frozen=True, repr=False)
class Fused:
    """The new model and its report."""

    model: ir.Model
    rows: tuple[BlockRow, ...]
    near_misses: tuple[NearMiss, ...]
    """Near misses, which stay unchanged."""
    notes: tuple[str, ...]
    blocks: tuple[Block, ...] = ()
    """The blocks in `model`; none if ONNX Runtime has rewritten it."""
    chosen_for: Mapping[str, Any] | None = None
    """Choice of form and opset for one runtime, if one was asked for; see for_runtime.py."""

    @property
    def found(self) -> Found:
        """Result of a search of `model`."""
        return Found(self.blocks, self.near_misses)

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Column names, and a row for each block."""
        rows = [(r.node, shape(r.shape), r.dtype, f"{r.e_lambda:g}", r.found, r.form, r.op) for r in self.rows]
        return ("node", "x", "type", "λ", "was", "is", "operator"), rows

    def __repr__(self) -> str:
        """The table, the near misses, the notes, and the verdict."""
        misses = map(str, self.near_misses)
        return "\n".join((as_table(*self.table, right=("λ",)), *misses, *map(on_lines, self.notes), self.verdict))

    @property
    def verdict(self) -> str:
        """Numbers of written blocks and of near misses, in one line."""
        left = f", {counted(len(self.near_misses), 'near miss')} left alone" if self.near_misses else ""
        return f"written: {counted(len(self.rows), 'SimAM block')}{left}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        misses = [miss.as_dict() for miss in self.near_misses]
        chosen = {"for": dict(self.chosen_for)} if self.chosen_for is not None else {}
        return {"blocks": [asdict(r) for r in self.rows], "near_misses": misses, "notes": list(self.notes), **chosen}
