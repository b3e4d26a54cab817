"""Compare a specialised model with the portable one that it was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy.compare import inputs
from simam_deploy.compare.verify import run_once
from simam_deploy.errors import FormError, SimAMDeployError, VerificationError
from simam_deploy.formula import BLOCKED_DOMAIN, OP_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.ort_cpu import blocked_layout
from simam_deploy.runtimes import Session, open_session
from simam_deploy.runtimes.session import is_float

SAME = 1e-3
"""Tolerance of each y and each output against the portable file, relative to its largest value. Both are one program
in one runtime with another order of sums: 1e-6 to 1e-4 after fifty layers. A wrong layout, channel or parameter makes
errors as large as the values."""


def compare(portable: ir.Model, specialised: ir.Model, sizes: Sequence[StaticShape] | None) -> None:
    """Raise VerificationError if an output differs."""
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        paths = [Path(folder, "portable.onnx"), Path(folder, "specialised.onnx")]
        onnx_file.save(portable, paths[0])
        onnx_file.save(specialised, paths[1])
        with open_session(paths[0], "ort") as before, _opened(paths[1]) as after:
            (case,) = inputs.cases(["plain"], inputs.specs(paths[0]), sizes=sizes)
            wanted, got = run_once(before, case.feeds[0]), run_once(after, case.feeds[0])
    for name, exact in wanted.items():
        if not is_float(exact.dtype):
            continue  # an index may differ where two values are equal but for rounding
        finite = np.isfinite(exact)
        off = float(np.max(np.abs(got[name][finite] - exact[finite]), initial=0))
        size = float(np.max(np.abs(exact[finite]), initial=0))
        if not off <= SAME * size or (np.isfinite(got[name]) != finite).any():
            raise VerificationError(
                f"{name!r} in the specialised model is {off:.3g} off that in the portable one, of at most "
                f"{size:.3g}: more than the share {SAME:g} that a reordered sum explains\n"
                "this is a defect; use the portable file, and report it with the model",
                None,
            )


def _opened(path: Path) -> Session:
    try:
        return open_session(path, "ort")
    except SimAMDeployError as error:
        raise FormError(
            f"ONNX Runtime cannot load the graph that it optimised: {str(error).partition(': ')[2] or error}\n"
            "ship the portable file (simam-deploy fuse without --specialise)"
        ) from error


def tapped(model: ir.Model, channels: Mapping[str, int | str | None]) -> ir.Model:
    """Copy with the y of the operators in `channels` as additional outputs, in NCHW."""
    copy = model.clone()
    for node in list(copy.graph):
        count = channels.get(str(node.name))
        if node.domain not in (OP_DOMAIN, BLOCKED_DOMAIN) or not isinstance(count, int):
            continue
        y = node.outputs[0]
        if node.domain == BLOCKED_DOMAIN:
            tap = ir.node("ReorderOutput", [y], {"channels": count}, domain=blocked_layout.DOMAIN)
        else:
            tap = ir.node("Identity", [y])
        value = tap.outputs[0]
        value.name, value.type = f"the y of {node.name}", ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([None] * 4)
        copy.graph.insert_after(node, tap)
        copy.graph.outputs.append(value)
    return copy
