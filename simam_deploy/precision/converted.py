"""Result of `convert`: the file, the nodes that stay in float32 with their reasons, and how near it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.precision.analysis import Analysis
from simam_deploy.precision.quantised import LayerRow, Quantised
from simam_deploy.precision.speed import Speed
from simam_deploy.precision.wanted import Wanted
from simam_deploy.text import as_table, counted, on_lines

__all__ = ["Converted", "LayerRow"]


@dataclass(frozen=True, repr=False)
class Converted:
    """The converted model and its report.

    kept : nodes that stay in float32.  converted : number of nodes in the low type, or of integer layers.
    blocks : the SimAM blocks in the file.  analysis : of 16-bit types.  quantised : of int8.
    snr_db : least SNR of the outputs against the float32 file, on some samples; None without samples.
    agreement : share of labels or boxes that are as in the float32 file, on those; None for other outputs.
    speed : of int8 for the CPU against the float32 file, on this machine.
    """

    path: Path
    model: ir.Model
    wanted: Wanted
    kept: tuple[LayerRow, ...]
    converted: int
    blocks: tuple[Block, ...]
    snr_db: float | None = None
    agreement: float | None = None
    analysis: Analysis | None = None
    quantised: Quantised | None = None
    speed: Speed | None = None
    notes: tuple[str, ...] = ()

    @property
    def nothing(self) -> str:
        """Why nothing of it is converted, in words."""
        why = "; ".join(f"{row.op} {row.node}: {row.reason}" for row in self.kept[:3])
        what = "no layer is in int8" if self.quantised else f"nothing in it is {self.wanted.to}"
        return f"{what}, so this file gains nothing over the float32 file: {why}"

    @property
    def missed(self) -> str:
        """The bounds that it misses, in words."""
        least, most = self.wanted.min_snr, self.wanted.max_drop
        found = []
        if least is not None and self.snr_db is not None and self.snr_db < least:
            found.append(f"it keeps {self.snr_db:.1f} dB, and {least:g} were asked for")
        if most is not None and self.agreement is not None and 100 * (1 - self.agreement) > most:
            found.append(f"{100 * (1 - self.agreement):.3g} % of labels or boxes differ, and {most:g} % may")
        return "; ".join(found)

    @property
    def record(self) -> dict[str, Any]:
        """What was asked, what was got and why: for the manifest."""
        return {
            "asked": asdict(self.wanted),
            "converted": self.converted,
            "kept": [asdict(row) for row in self.kept],
            "samples": None if self.analysis is None else self.analysis.samples,
            "snr_db": self.snr_db,
            "agreement": self.agreement,
            **({} if self.quantised is None else {"quantised": self.quantised.as_dict()}),
        }

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Column names, and a row for each reason to stay in float32."""
        reasons = Counter((row.op, row.reason) for row in self.kept)
        first = {(row.op, row.reason): row.node for row in reversed(self.kept)}
        rows = [(first[key], key[0], str(count), key[1]) for key, count in reasons.items()]
        return ("stays float32", "operator", "nodes", "why"), rows

    @property
    def verdict(self) -> str:
        """What was written, in one line."""
        what = counted(self.converted, "layer" if self.quantised else "node")
        left = f", {len(self.kept)} in float32" if self.kept else ""
        near = "" if self.snr_db is None else f"; {self.snr_db:.1f} dB against the float32 file"
        near += "" if self.agreement is None else f", {self.agreement:.2%} of labels or boxes as there"
        blocks = counted(len(self.blocks), "SimAM block")
        return f"written: {what} in {self.wanted.to}{left}; {blocks} whole{near}"

    def __repr__(self) -> str:
        table = [as_table(*self.table, right=("nodes",))] if self.kept else []
        return "\n".join((str(self.path), *table, *map(on_lines, self.notes), self.verdict))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"file": str(self.path), **self.record, "blocks": len(self.blocks), "notes": list(self.notes)}
