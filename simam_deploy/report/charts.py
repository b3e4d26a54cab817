"""Charts as images inside a page: bars and histograms as SVG, maps as WebP, drawn by matplotlib without a display.

Each is the data: URI of an image. A browser runs no script in an image, loads nothing for it, and keeps its ids apart
from those of others.
"""

from __future__ import annotations

import base64
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.precision.block_details import BlockDetail
from simam_deploy.precision.low_types import LowType
from simam_deploy.text import on_one_line, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.6
"""In inches."""
COLOURS = ("#2f6db3", "#c2570c", "#3f8f5b", "#7a57a8", "#8a8f98")
NOT_A_NUMBER = "#00c8ff"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "simam-deploy",  # the same page for the same numbers
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
LABEL = 44
"""Columns of a name beside a bar."""


RARE = 1e-3
"""Share of values in an octave below which it does not widen the axis to the left."""


@dataclass(frozen=True)
class Bar:
    """values : group -> number. Infinity fills the axis; -infinity and NaN have no length.  told : words beside."""

    name: str
    values: Mapping[str, float]
    told: Mapping[str, str]


def refuse_without_matplotlib() -> None:
    """Raise RuntimeUnavailable if there is no matplotlib to draw with. Import it without a word."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it warns of settings, which we leave aside, and of a home without its cache
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise RuntimeUnavailable(
            f'--report draws with matplotlib, which cannot be imported: {error}\npip install "simam-deploy[report]"'
        ) from error
    finally:
        logger.setLevel(level)


def bars(rows: Sequence[Bar], axis: str, *, log: bool = False) -> str:
    """Horizontal bars, a row for each. Groups have a colour each. log : a logarithmic axis."""
    groups = list(dict.fromkeys(group for row in rows for group in row.values))
    finite = [v for row in rows for v in row.values.values() if np.isfinite(v) and (v > 0 or not log)]
    low, high = (min(finite, default=0.1), max(finite, default=1.0)) if log else (0.0, max(finite, default=1.0))
    left = low / 3 if log else 0.0
    right = high * (high / left) ** 0.18 if log else max(high, 1.0) * 1.16
    count = sum(len(row.values) for row in rows)
    with _figure(WIDTH, 0.9 + 0.2 * count + 0.08 * len(rows)) as figure:
        axes = figure.add_subplot()
        ticks, at = [], 0.0
        for row in rows:
            ticks.append(at + (len(row.values) - 1) / 2)
            for group, value in row.values.items():
                endless = value == np.inf
                end = right if endless else max(value, left) if np.isfinite(value) else left
                colour = COLOURS[groups.index(group) % len(COLOURS)]
                axes.barh(at, end - left, left=left, height=0.85, color=colour, alpha=0.35 if endless else 1.0)
                words = f" {row.told[group]}"
                axes.annotate(words, (left if endless else end, at), va="center", fontsize=8)
                at += 1
            at += 0.4
        axes.set_yticks(ticks, [shortened(on_one_line(row.name), LABEL) for row in rows], fontsize=8)
        axes.set_ylim(at - 0.4, -0.9)
        axes.set_xscale("log" if log else "linear")
        axes.set_xlim(left, right)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(axis)
        if len(groups) > 1:
            handles = [_patch(COLOURS[i % len(COLOURS)]) for i in range(len(groups))]
            figure.legend(handles, groups, loc="outside upper right", ncols=len(groups), frameon=False)
        return _svg(figure)


def histogram(detail: BlockDetail, lows: Sequence[LowType]) -> str:
    """Magnitudes of a block against the limits of 16-bit types, as shares of its values."""
    parts = {"x": detail.x, "(x - μ)²": detail.squares, "sums of (x - μ)²": detail.sums}
    exponents = [e for octaves in parts.values() for e in octaves.counts]
    usual = [e for o in parts.values() for e, number in o.counts.items() if number > RARE * o.counts.total()]
    marks = {"M - 1": detail.m - 1.0, "λ": detail.e_lambda}
    low = 2.0 ** (max(min([*usual, -26]), -60) - 1)
    high = 2.0 ** (min(max([*exponents, 17]), 140) + 2)
    with _figure(WIDTH, 2.6) as figure:
        axes = figure.add_subplot()
        for colour, (name, octaves) in zip((COLOURS[4], COLOURS[0], COLOURS[1]), parts.items(), strict=True):
            if octaves.counts:
                span = range(min(octaves.counts), max(octaves.counts) + 1)
                shares = np.array([octaves.counts.get(e, 0) for e in span]) / octaves.counts.total()
                edges = 2.0 ** np.arange(span.start, span.stop + 1)
                axes.stairs(shares, edges, fill=True, color=colour, alpha=0.55, label=name)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_major_formatter("{x:g}")
        top = axes.get_ylim()[1] * 1.6
        axes.set_yticks([share for share in axes.get_yticks() if share <= 1])
        axes.set_ylim(0, top)
        for at, limit in enumerate(lows):
            found = {"largest": limit.largest, "smallest normal": limit.smallest_normal, "smallest": limit.smallest}
            for name, value in found.items():
                if low < value < high:
                    _line(axes, value, f"{limit.name} {name} {value:.5g}", top * (1 - 0.1 * at), "#b3261e", "--")
            if limit.largest < high:
                axes.axvspan(limit.largest, high, color="#b3261e", alpha=0.08)
        for name, value in marks.items():
            if low < value < high:
                _line(axes, value, f"{name} = {value:g}", top * 0.8, "#1d2733", ":")
        axes.set_xlabel("magnitude, in octaves")
        axes.set_ylabel("share of values")
        figure.legend(loc="outside upper right", ncols=3, frameon=False)
        return _svg(figure)


def gate_maps(detail: BlockDetail, picture: Array | None) -> str:
    """Mean gate before and after, in one scale, over the picture if there is one."""
    assert detail.before is not None
    maps = {"before: the formula": detail.before, **{f"after: {name}": a for name, a in detail.after.items()}}
    h, w = detail.before.shape if picture is None else picture.shape[:2]
    tall = float(np.clip(h / w, 0.12, 2.0))
    seen = detail.before[np.isfinite(detail.before)]
    least, most = (float(seen.min()), float(seen.max())) if seen.size else (0.5, 1.0)
    most = max(most, least + 0.01)
    across = min(3.0, (WIDTH - 0.8) / len(maps))
    with _figure(across * len(maps) + 0.8, across * tall + 0.5) as figure:
        from matplotlib import colormaps

        colours = colormaps["inferno"].with_extremes(bad=NOT_A_NUMBER)
        places = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, (name, gates) in zip(places, maps.items(), strict=True):
            if picture is not None:
                axes.imshow(picture.mean(axis=2), cmap="gray", vmin=-0.4, vmax=1, extent=(0, 1, 1, 0), aspect=tall)
            shown = axes.imshow(
                np.ma.masked_invalid(gates),
                cmap=colours,
                vmin=least,
                vmax=most,
                alpha=1.0 if picture is None else 0.6,
                extent=(0, 1, 1, 0),
                aspect=tall,
                interpolation="nearest",
            )
            axes.set_title(shortened(on_one_line(name), 34), fontsize=9)
            axes.set_axis_off()
        figure.colorbar(shown, ax=list(places), shrink=0.9, pad=0.02, label="gate", extend="both")
        return _image(figure, "webp", dpi=100, pil_kwargs={"quality": 88})


def _line(axes: Axes, at: float, name: str, top: float, colour: str, style: str) -> None:
    axes.axvline(at, color=colour, linestyle=style, linewidth=1)
    before = np.log(at / axes.get_xlim()[0]) > 0.8 * np.log(axes.get_xlim()[1] / axes.get_xlim()[0])
    place, side = ((-2, -2), "right") if before else ((2, -2), "left")
    axes.annotate(name, (at, top), place, textcoords="offset points", va="top", ha=side, fontsize=7, color=colour)


def _patch(colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour)


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, with settings of ours alone: those of the user may want LaTeX, or another size."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has more fonts
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    return _image(figure, "svg+xml", metadata={"Date": None, "Creator": None})


def _image(figure: Figure, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind.removesuffix("+xml"), **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
