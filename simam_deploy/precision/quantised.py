"""Result of `quantise`: the model, and a row for each layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import onnx_ir as ir

from simam_deploy.text import as_table, counted, on_lines

Q, DQ = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class LayerRow:
    """A layer. reason : why it stays float; "" if it is integer."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, repr=False)
class Quantised:
    """A quantised model and its report. q, dq : numbers of QuantizeLinear and DequantizeLinear nodes."""

    model: ir.Model = field(repr=False)
    target: str
    method: str
    samples: int
    rows: tuple[LayerRow, ...]
    q: int
    dq: int
    notes: tuple[str, ...]

    @property
    def integer(self) -> tuple[str, ...]:
        """Names of the layers that are integer."""
        return tuple(row.node for row in self.rows if not row.reason)

    def __repr__(self) -> str:
        rows = [(row.node, row.op, "float32" if row.reason else "int8", row.reason) for row in self.rows]
        table = as_table(("node", "operator", "type", "why"), rows)
        return "\n".join((table, *map(on_lines, self.notes), self.verdict))

    @property
    def verdict(self) -> str:
        """Numbers of layers, in one line."""
        left = len(self.rows) - len(self.integer)
        stay = f", {left} in float32" if left else ""
        return f"{counted(len(self.integer), 'layer')} in int8{stay}; {self.q} {Q}, {self.dq} {DQ}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        held = {key: getattr(self, key) for key in ("target", "method", "samples", "q", "dq")}
        return {**held, "layers": [asdict(row) for row in self.rows], "notes": list(self.notes)}
