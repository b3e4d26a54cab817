"""Models for trtexec: one model in several forms, with input and output in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from simam_deploy import open_session
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.rewrite import fuse
from simam_deploy.runtimes import TensorSpec
from simam_deploy.text import Say

WITHOUT_PLUGIN = "primitive"
FORMS = ("custom_op", "function", WITHOUT_PLUGIN)
SHAPE = (4, 3, 224, 224)
LOUD = 8.0
"""Factor on PyTorch's initial weights of the first convolution. The sum of squares over its planes of 12544 values
then exceeds 65504, which reveals a kernel that sums in float16."""
MODEL = "model.onnx"


@dataclass(frozen=True)
class EngineCase:
    """A folder with model.onnx and its inputs, and their properties.

    nodes : the names of the ONNX nodes of each SimAM block, by the block's name; others : those of all other nodes.
    truth : the outputs in float64, of the file's own weights and the very input that was written.
    types : of the outputs as the file has them.
    """

    precision: str
    form: str
    folder: Path
    nodes: dict[str, list[str]]
    others: list[str]
    inputs: dict[str, str]
    truth: dict[str, Array]
    types: dict[str, np.dtype[Any]]


def own(folder: Path, say: Say, shape: Sequence[int] = SHAPE, width: int = 64) -> Iterator[tuple[str, Path]]:
    """Export a small model, float32 and then float16: two blocks as published (convolution, SimAM, BatchNorm, ReLU),
    and a convolution. Yields a name and a file in form `function`.
    """
    import torch
    from torch import nn

    from simam_deploy.pytorch.module import SimAM
    from simam_deploy.to_onnx import export

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), SimAM(), nn.BatchNorm2d(outputs), nn.ReLU()]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(*block(shape[1], width), *block(width, 2 * width), nn.Conv2d(2 * width, width, 1)).eval()
        with torch.no_grad():
            next(net.parameters()).mul_(LOUD)
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        say(f"{name}: export the model")
        path = folder / f"{name}.onnx"
        export(net.to(dtype), torch.zeros(tuple(shape), dtype=dtype), path, check=False)
        yield name, path


def cases(name: str, model: Path, folder: Path, forms: Sequence[str], say: Say) -> Iterator[EngineCase]:
    """Write `model` in each form into `folder`/<name>-<form>. Raises InputError: dynamic axes, inputs that are no
    floats; NoBlockError: nothing in it is SimAM."""
    with open_session(model, "onnx_reference") as session:
        inputs, outputs = session.inputs, session.outputs
    feeds = _feeds(model, inputs)
    say(f"{name}: the output in float64")
    with open_session(model, "onnx_reference", dtype="float64") as session:
        truth = session.run({name: x.astype(np.float64) for name, x in feeds.items()})
    files = {}
    for form in forms:
        say(f"{name}: write form {form}")
        files[form] = folder / f"{name}-{form}" / MODEL
        files[form].parent.mkdir(parents=True, exist_ok=True)
        rows = fuse.fuse_file(model, files[form], form).rows
    for form, path in files.items():
        names = [node.name for node in onnx.load(path, load_external_data=False).graph.node]
        nodes = {
            row.node: [each for each in names if each == row.node or each.startswith(f"{row.node}/")] for row in rows
        }
        written = {}
        for at, (each, x) in enumerate(feeds.items()):
            written[each] = f"input{at}.bin"
            x.tofile(path.with_name(written[each]))
        inside = {each for several in nodes.values() for each in several}
        others = [each for each in names if each and each not in inside]
        yield EngineCase(name, form, path.parent, nodes, others, written, truth, {o.name: o.dtype for o in outputs})


def _feeds(model: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Normally distributed values; the very ones for every form."""
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for spec in inputs:
        sizes = [size for size in spec.shape or () if isinstance(size, int)]
        if spec.shape is None or len(sizes) != len(spec.shape):
            raise InputError(f"{model}: input '{spec.name}' has dynamic axes; give a file with fixed ones")
        if spec.dtype not in (np.float32, np.float16):
            raise InputError(f"{model}: input '{spec.name}' is {spec.dtype}; this takes float32 and float16")
        feeds[spec.name] = rng.standard_normal(prod(sizes)).reshape(sizes).astype(spec.dtype)
    return feeds
