"""How far a site is from the limits of a 16-bit type, in bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simam_deploy.precision.low_types import LowType

if TYPE_CHECKING:
    from simam_deploy.precision.site_runs import SiteRun

LEGEND = (
    "bits, up/down/λ: how many times the largest value may double before it overflows; how many times the tensor of "
    "the least maximum may halve before it loses digits, as single numbers below that are noise; how many bits are "
    "left of λ or epsilon beside the largest sum that it is added to; negative: it overflows, loses digits or is lost"
)


@dataclass(frozen=True)
class Margins:
    """In bits, negative beyond the limit, infinite where there is none. A λ that a large sum absorbs does no harm.

    up : to overflow, from the largest value.  down : to numbers with fewer digits, from the value whose largest
    magnitude is the least.  added : of a constant that is added, before it is below half a unit of the largest sum.
    """

    up: float
    down: float
    added: float

    def __str__(self) -> str:
        return "/".join("-" if math.isinf(bits) and bits > 0 else f"{bits:.0f}" for bits in vars(self).values())


def margins(run: SiteRun, low: LowType) -> Margins:
    """Of a site after all samples."""
    sizes = [held.largest for held in run.ranges.values() if held.largest]
    added = [_bits(constant, low.half_ulp * beside) for constant, beside in _added(run)]
    return Margins(
        up=_bits(low.largest, max(sizes, default=0.0)),
        down=_bits(min(sizes, default=0.0), low.smallest_normal) if sizes else math.inf,
        added=min(added, default=math.inf),
    )


def _added(run: SiteRun) -> Iterator[tuple[float, float]]:
    """Constants that are added inside the site, each with the largest magnitude that it is added to."""
    if run.site.block is not None and run.facts is not None:
        yield run.site.block.e_lambda, run.facts.largest_sum / max(run.facts.m - 1, 1)
        return
    for node in run.site.nodes:
        if node.op_type != "Add" or node.domain:
            continue
        constants = [v.const_value for v in node.inputs if v is not None and v.const_value is not None]
        others = [run.ranges[str(v.name)] for v in node.inputs if v is not None and v.name in run.ranges]
        if len(constants) == len(others) == 1:
            yield float(np.max(np.abs(constants[0].numpy()), initial=0)), others[0].largest


def _bits(limit: float, found: float) -> float:
    if not found or math.isinf(limit):
        return math.inf
    return -math.inf if math.isinf(found) or not limit else math.log2(limit / found)
