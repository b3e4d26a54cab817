"""The cost of SimAM on a CPU: in networks, and alone. From the newest runs in results/cpu.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import table
from benchmarks.picture.svg import Card

IN_NETWORKS = dict(zip(table.WITH[:4], ("as exported", "kernel", "kernel with epilogue", "specialised"), strict=True))
ALONE = {
    "torch eager": "PyTorch",
    "torch.compile": "torch.compile",
    "primitive · ort": "as exported",
    "kernel · ort": "kernel",
}
COLORS = {
    "as exported": "a",
    "kernel": "b",
    "kernel with epilogue": "c",
    "specialised": "d",
    "PyTorch": "line",
    "torch.compile": "d",
}
LEFT, RIGHT, BAR, GAP = 265, 725, 10, 11


def picture() -> str:
    """The SVG."""
    runs = table.newest()
    times = table.times(runs)
    extra = [
        (name, [100 * (times[key][label] / times[key]["without · ort"] - 1) for label in IN_NETWORKS])
        for key, name in table.NETWORKS.items()
    ]
    alone = [(shape, [times[shape][label] / times[shape]["plain copy"] for label in ALONE]) for shape in table.SHAPES]
    heights = [len(rows) * (len(rows[0][1]) * BAR + GAP) for rows in (extra, alone)]
    card = Card(800, sum(heights) + 216, "The cost of SimAM on a CPU")
    y = _part(card, 34, "Time that SimAM adds to a network, batch 1", list(IN_NETWORKS.values()), extra, "%")
    y = _part(card, y + 38, "SimAM alone, as a multiple of a plain copy of x", list(ALONE.values()), alone, "x")
    card.text(30, y + 24, "ONNX Runtime, unless PyTorch or torch.compile is named.", color="faint", size=11)
    card.text(30, y + 40, table.measured_with(runs), color="faint", size=11)
    return card.svg()


def _part(
    card: Card, y: float, title: str, series: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], unit: str
) -> float:
    """One chart below y; where it ends."""
    card.text(30, y, title, size=15)
    x = 30.0
    for name in series:
        card.box(x, y + 15, 12, 12, COLORS[name])
        card.text(x + 18, y + 25, name, color="faint", size=12)
        x += 46 + 7 * len(name)
    largest = max(max(values) for _, values in rows)
    y += 46
    for name, values in rows:
        card.text(LEFT - 10, y + len(values) * BAR / 2 + 4, name, size=12, anchor="end")
        for label, value in zip(series, values, strict=True):
            width = (RIGHT - LEFT) * max(value, 0) / largest
            card.box(LEFT, y + 1, max(width, 1), BAR - 2, COLORS[label])
            shown = f"{value:+.1f} %" if unit == "%" else f"{value:.1f}"
            card.text(LEFT + width + 6, y + BAR - 1.5, shown, color="faint", size=10)
            y += BAR
        y += GAP
    card.line(f"M{LEFT},{y - GAP - len(rows) * (len(series) * BAR + GAP) + GAP - 4} V{y - GAP + 4}")
    return y
