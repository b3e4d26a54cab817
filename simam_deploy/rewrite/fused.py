"""The result of `fuse`: the new model, and what became of each block."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from simam_deploy.block import Block, Found, NearMiss
from simam_deploy.graph.shapes import Dims
from simam_deploy.text import counted


@dataclass(frozen=True)
class BlockRow:
    """What became of one block."""

    node: str
    shape: Dims
    dtype: str
    e_lambda: float
    found: str
    """The form it had."""
    form: str
    """The form it has now."""
    op: str
    """The operator of formula.OPS that it is: SimAM, or one with the epilogue in it."""


@dataclass(frozen=True)
class Fused:
    """The new model and its report."""

    model: ir.Model
    rows: tuple[BlockRow, ...]
    near_misses: tuple[NearMiss, ...]
    """What came close to a block, and was left alone."""
    notes: tuple[str, ...]
    blocks: tuple[Block, ...] = ()
    """The blocks as they stand in `model`; none where ONNX Runtime has written it anew."""

    @property
    def found(self) -> Found:
        """What a search of `model` would find."""
        return Found(self.blocks, self.near_misses)

    @property
    def verdict(self) -> str:
        """In one line, how many blocks were written, and how many near misses were not."""
        left = f", {counted(len(self.near_misses), 'near miss')} left alone" if self.near_misses else ""
        return f"written: {counted(len(self.rows), 'SimAM block')}{left}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        misses = [miss.as_dict() for miss in self.near_misses]
        return {"blocks": [asdict(row) for row in self.rows], "near_misses": misses, "notes": list(self.notes)}
