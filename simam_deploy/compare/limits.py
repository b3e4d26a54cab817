"""How far an output of a file may be from the truth, by the precision of the file.

fp32        `truth.tolerance_factor` times the float32 reference error.
fp16, bf16  LOW_FACTOR times the low reference error: that of the truth's network in 16 bits, with SimAM and all that
            is delicate in float32: reductions, divisions, powers, and what is beyond the type on the inputs at hand
            (precision/reference.py). Weights, activations and results are rounded, which no network of that type can
            avoid. Another runtime, or another choice of islands, makes roundings of the same size in other places.
            Its largest error may be some times as large. A collapsed gate costs 20 to 100 times as much.
            In a deep network of bfloat16 that may be as large as the output, and zeros would pass. There the root
            mean square error counts, up to LOW_FACTOR times that of the reference. Where rows of boxes change places,
            the boxes count: as many may differ as MOST_DROP, or twice as many as in the reference.
int8        An SNR of LAYER_SNR - 10 log10(L) dB. Eight bits over four standard deviations keep some 40 dB per tensor
            (6.02 * 8 + 4.77 - 20 log10(4)); each of the L integer layers rounds its input and its weights, and 6 dB
            of margin are left for clipped or uneven tensors. Boxes in rows change places, which no SNR measures: of
            them MOST_BOXES may differ, as boxes near the score that counts come and go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from simam_deploy.compare.outputs import OutputRow, Reference
from simam_deploy.errors import InputError

LOW_FACTOR = 8.0
LAYER_SNR = 31.0
MOST_DROP = 1.0
"""Largest share of different integers in an output of a quantised file, in percent."""
MOST_BOXES = 10.0
"""Largest share of different boxes, of a YOLO that lists them by score, in a quantised file, in percent."""


@dataclass(frozen=True)
class OwnLimits:
    """OwnLimits of the user's own, which replace those of the precision.

    min_snr : least signal-to-noise ratio of an output, in dB.  atol : largest absolute error.  max_drop : largest
    share, in percent, of examples whose label (the largest of an output of shape (N, classes)) differs.
    """

    min_snr: float | None = None
    atol: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and (name == "min_snr" or value >= 0)):
                raise InputError(f"--{name.replace('_', '-')} is a finite number, 0 or more; got {value}")
        if self.max_drop is not None and self.max_drop > 100:
            raise InputError(f"--max-drop is in percent, 0 to 100; got {self.max_drop:g}")

    def share(self, row: OutputRow) -> float | None:
        """The worst of what was found over what is allowed; None without limits."""
        found = []
        if self.min_snr is not None:
            found.append(float(10 ** ((self.min_snr - row.snr_db) / 20)))
        if self.atol is not None:
            found.append(_over(row.max_abs_error, self.atol))
        if self.max_drop is not None and row.agreement is not None:
            found.append(_over(100 * (1 - row.agreement), self.max_drop))
        return max(found, default=None)


NO_LIMITS = OwnLimits()
NOTHING_TO_DROP = (
    "--max-drop is a share of labels, in an output (N, classes) or of integers, or of boxes as a YOLO gives them; {} "
    "hold none, or no box with a score above 0.25: use --min-snr, or a metric of your own"
)
"""Error for outputs without labels and boxes; {} stands for them."""


@dataclass(frozen=True)
class Precision:
    """Precision of a file.

    name : see graph/number_types.py.  layers : number of integer layers of a quantised file.
    """

    name: str = "fp32"
    layers: int = 0

    @property
    def low(self) -> str:
        """The 16-bit type that the tolerance is for; "" for float32 and quantised files."""
        if self.quantised:
            return ""
        return next((low for low in ("bf16", "fp16") if low in self.name.split("+")), "")

    @property
    def half(self) -> bool:
        """Whether a 16-bit type is in it, so that gates may collapse."""
        return "16" in self.name

    @property
    def quantised(self) -> bool:
        """Whether integers are in it."""
        return "int8" in self.name

    def judged(
        self, row: OutputRow, limits: OwnLimits, *, told: bool = True, reference: Reference | None = None
    ) -> OutputRow:
        """`row` by the limits of the user, or of this precision.

        told : whether its tolerance would fail zeros.  reference : of this precision.
        """
        share, by_boxes = limits.share(row), False
        different = None if row.agreement is None else 100 * (1 - row.agreement)
        if share is None and self.quantised:
            by_boxes = row.ranked and different is not None
            if different is not None and (row.labels or by_boxes):
                share = _over(different, MOST_DROP if row.labels else MOST_BOXES)
            else:
                share = float(10 ** ((least_snr(self.layers) - row.snr_db) / 20))
        elif share is None and not told:
            by_boxes = row.ranked and different is not None
            if different is not None and by_boxes:
                own = None if reference is None else reference.agreement
                share = _over(different, max(MOST_DROP, 200 * (1 - (1.0 if own is None else own))))
            elif self.low and reference is not None and reference.snr_db > 20 * math.log10(LOW_FACTOR):
                share = float(10 ** ((reference.snr_db - row.snr_db) / 20) / LOW_FACTOR)
            else:
                return replace(row, tells=False)
        if share is None:
            return row
        share = share if np.isfinite(row.max_abs_error) else np.inf
        return replace(row, share=share, passed=bool(share <= 1), by_boxes=by_boxes)


FP32 = Precision()


def least_snr(layers: int) -> float:
    """Least SNR in dB of a network with that many integer layers."""
    return LAYER_SNR - 10 * math.log10(max(layers, 1))


def _over(found: float, allowed: float) -> float:
    return found / allowed if allowed else (0.0 if found == 0 else np.inf)
