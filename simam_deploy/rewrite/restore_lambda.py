"""λ as it was before a converter rounded it to 16 bits.

float16 holds 0.1 as 0.0999756, and nothing between 0 and 6e-8; some converters raise smaller constants to 1e-7, which
becomes 1.19e-7. The rounding is seen in the file; the λ of the model is known to its source alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block, Found
from simam_deploy.errors import InputError
from simam_deploy.rewrite.functions import scopes

MOST_DIGITS = 3
"""Of a λ that somebody chose."""
MULTIPLES = (1, 4)
"""Of λ, that files hold: 4 (v + λ) may be written as 4 v + 4 λ."""
SMALLEST = 1.2e-7
"""Largest λ that a converter may have raised from a smaller one: 1.19e-7, two steps of float16."""


def before_rounding(e_lambda: float) -> float | None:
    """The shortest decimal that becomes `e_lambda` in float16; None if `e_lambda` is no rounded number.

    Raised numbers of up to SMALLEST give themselves, as what they were is not known.
    """
    held = float(np.float32(e_lambda))
    if not any(abs(float(np.float16(k * held)) - k * held) <= 2e-7 * k * held for k in MULTIPLES):
        return None
    if held <= SMALLEST:
        return held
    for digits in range(1, MOST_DIGITS + 1):
        short = float(f"{held:.{digits}g}")
        if np.float16(short) == np.float16(held):
            return None if abs(short - held) <= 2e-7 * held else short
    return None


def rounded_lambda(node: str, e_lambda: float) -> str:
    """A line if λ of the block at `node` looks rounded to float16, else ""."""
    was = before_rounding(e_lambda)
    if was is None:
        return ""
    if was <= SMALLEST:
        return (
            f"{node}: λ is {e_lambda:.3g}, among the smallest numbers of float16; if the model has "
            "another, restore it: simam-deploy fuse --lambda VALUE, or --lambda FLOAT.onnx"
        )
    return (
        f"{node}: λ is {e_lambda:.7g}, which is {was:g} rounded to float16; restore it: "
        f"simam-deploy fuse --lambda {was:g}"
    )


def with_lambdas(model: ir.Model, found: Found, wanted: Sequence[float], *, repair: bool = False) -> Found:
    """`found` with other λ for its blocks: one for all, or one for each, in the order of the graph.

    repair : also for the blocks that a repair makes of near misses.
    Raises InputError for a λ that no rounding to 16 bits takes to the one in the file: it would be another network.
    """
    order = {node: at for at, node in enumerate(node for scope in scopes(model) for node in scope.all_nodes())}
    repaired = [miss.repaired for miss in found.near_misses if repair and miss.repaired is not None]
    blocks = sorted([*found.blocks, *repaired], key=lambda block: order[block.inside[-1]])
    given = list(wanted) * len(blocks) if len(wanted) == 1 else list(wanted)
    if len(given) != len(blocks):
        raise InputError(
            f"--lambda gives λ for {len(given)} blocks, and the file has {len(blocks)}; give one for all"
        )
    new = {id(b): replace(b, e_lambda=_checked(b, e)) for b, e in zip(blocks, given, strict=True)}
    misses = (replace(m, repaired=new.get(id(m.repaired), m.repaired)) for m in found.near_misses)
    return Found(tuple(new[id(block)] for block in found.blocks), tuple(misses))


def near_rounding(e_lambda: float, held: float) -> bool:
    """Whether a rounding to 16 bits, or a raise to the smallest numbers, may make `held` of `e_lambda`."""
    return abs(e_lambda - held) <= 2.0**-8 * e_lambda + 2.0**-25 or (held <= SMALLEST and e_lambda < held)


def _checked(block: Block, e_lambda: float) -> float:
    if not (np.isfinite(e_lambda) and e_lambda > 0):
        raise InputError(f"--lambda is a positive number; got {e_lambda:g}")
    if not near_rounding(e_lambda, block.e_lambda):
        raise InputError(
            f"--lambda {e_lambda:g} is not what was rounded to λ = {block.e_lambda:g} of the block at {block.node}\n"
            "it restores a λ that 16 bits changed; to change the network, train it with the other λ"
        )
    return e_lambda
