"""A page of each command, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.half_nets import naive
from helpers.half_nets import saved as saved_as
from helpers.to_quantise import images, net, saved

import simam_deploy as sd

HOSTILE = """<script>alert('x')</script>"&$\\frac{$\x1b[31m層"""
"""A name that means something to HTML, to matplotlib and to a terminal, and is in none of its fonts."""


@dataclass(frozen=True)
class Pages:
    """HTML of the page of each command, and the folder that they are in."""

    folder: Path
    by_name: dict[str, str]


def hostile(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with names that mean something elsewhere."""
    node = model.graph.node[-1]
    node.name = HOSTILE
    model.graph.output[0].name = node.output[0] = f"{HOSTILE}y"
    return model


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Of a network with pictures as input; and of a naive float16 file with hostile names, whose gate collapses."""
    pytest.importorskip("matplotlib", reason="no matplotlib to draw with: the extra report")
    folder = tmp_path_factory.mktemp("pages")
    path, _ = saved(folder, net())
    x = {"x": images(4)}
    sd.analyze(path, x, report=folder / "analyze.html")
    for to in ("fp16", "int8"):
        sd.convert(path, folder / f"{to}.onnx", to=to, inputs=x, report=folder / f"{to}.html")
    wide, low = (saved_as(folder, hostile(naive(80, t)), f"{t}.onnx") for t in ("float32", "float16"))
    x = {"x": (4 * np.random.default_rng(0).standard_normal((1, 4, 80, 80))).astype(np.float32)}
    report = sd.verify(wide, low, inputs=x, runtimes=["onnx_half"], report=folder / "verify.html")
    assert not report.passed
    sd.analyze(wide, x, report=folder / "hostile.html")
    return Pages(folder, {page.stem: page.read_text("utf-8") for page in folder.glob("*.html")})
