"""The precision that `convert` was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from simam_deploy.compare.limits import OwnLimits
from simam_deploy.errors import InputError
from simam_deploy.precision.calibrate import METHODS
from simam_deploy.precision.targets import TARGETS

PRECISIONS = ("fp16", "bf16", "int8", "int8+fp16")


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    to : a name in PRECISIONS.  target : of int8, a name in TARGETS.  keep_float : names of nodes that stay float32.
    keep_io : keep inputs and outputs float32.  method : of calibration, a name in METHODS.
    min_snr : least SNR of the outputs, in dB.  max_drop : largest loss of labels or boxes, in percent. Layers stay
    float32 until both hold; a file that misses them is not written.
    """

    to: str
    target: str = "cpu"
    keep_float: tuple[str, ...] = ()
    keep_io: bool = False
    method: str = "minmax"
    min_snr: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("to", self.to, PRECISIONS),
            ("target", self.target, tuple(TARGETS)),
            ("method", self.method, tuple(METHODS)),
        ):
            if value not in known:
                raise InputError(f"--{name} takes {', '.join(known)}; got {value!r}")
        OwnLimits(min_snr=self.min_snr, max_drop=self.max_drop)
        if not self.to.startswith("int8") and self.method != "minmax":
            raise InputError(f"--method is for int8, and --to is {self.to}; leave it out")
        if self.to == "int8+fp16" and self.target == "cpu":
            raise InputError(
                "int8+fp16 is for tensorrt and openvino: ONNX Runtime's CPU computes float16 in float32, which is "
                "slower than float32\nuse --to int8, or --target tensorrt"
            )
