"""SVG by hand: a card with shapes and texts, in colours for a light and a dark page."""

from __future__ import annotations

from html import escape

LIGHT = {
    "card": "#ffffff",
    "edge": "#d0d7de",
    "text": "#1f2328",
    "faint": "#59636e",
    "box": "#f3f5f8",
    "line": "#818b98",
    "ours": "#0969da",
    "on": "#ffffff",
    "a": "#bc4c00",
    "b": "#0969da",
    "c": "#1a7f37",
    "d": "#8250df",
}
DARK = {
    "card": "#151b23",
    "edge": "#3d444d",
    "text": "#f0f6fc",
    "faint": "#9198a1",
    "box": "#212830",
    "line": "#7d8590",
    "ours": "#1f6feb",
    "on": "#ffffff",
    "a": "#db6d28",
    "b": "#4493f8",
    "c": "#3fb950",
    "d": "#ab7df8",
}
"""The same names. `a` to `d` are those of series, `ours` and `on` of a box of ours and the text on it."""


class Card:
    """A picture of width x height pixels. Colours go by the names of LIGHT."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size, self._title = (width, height), title
        self._parts: list[str] = []

    def text(
        self, x: float, y: float, text: str, *, color: str = "text", size: int = 13, anchor: str = "start"
    ) -> None:
        """anchor : start, middle or end of the text is at x; y is its base line."""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        self._parts.append(f'<text {place} class="{color}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, color: str, *, line: str = "") -> None:
        """A filled rectangle, with an outline if `line` names its colour."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{4 if line else 2}"'
        self._parts.append(f'<rect {place} class="{color}{f" stroke-{line}" if line else ""}"/>')

    def line(self, path: str, *, arrow: bool = False, color: str = "line") -> None:
        """path : as SVG writes it, from M on."""
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self._parts.append(f'<path d="{path}" class="none stroke-{color}"{end}/>')

    def svg(self) -> str:
        """The file."""
        width, height = self._size
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{_style(LIGHT)} @media (prefers-color-scheme: dark) {{ {_style(DARK)} }}</style>",
                '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                'orient="auto"><path d="M0,0 L8,4 L0,8 z" class="line"/></marker></defs>',
                f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" class="card stroke-edge"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def _style(colors: dict[str, str]) -> str:
    fills = (f".{name} {{ fill: {color} }} .stroke-{name} {{ stroke: {color} }}" for name, color in colors.items())
    return " ".join([".none { fill: none }", *fills])
