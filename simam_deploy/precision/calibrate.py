"""Ranges of the activations of a float32 model on real samples, collected once for all targets."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Shapes
from simam_deploy.precision.plain_names import PlainNames
from simam_deploy.precision.prepare import prepare
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.targets import CALIBRATED
from simam_deploy.runtimes.session import first_line, framework
from simam_deploy.text import Say

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
"""Method -> its name in onnxruntime.quantization. minmax keeps the extremes; the others cut rare ones."""
INFERRED = "onnx.infer"
"""Mark that the quantiser's shape inference leaves in the metadata."""


@dataclass(frozen=True)
class Calibration:
    """A float32 model and the ranges of its activations.

    model  : with plain names, as the quantiser takes it, with shapes inferred.
    ranges : lowest and highest value by plain name.
    """

    model: onnx.ModelProto = field(repr=False)
    names: PlainNames = field(repr=False)
    ranges: dict[str, tuple[float, float]] = field(repr=False)
    method: str
    samples: int
    notes: tuple[str, ...]

    def float32(self) -> ir.Model:
        """The float32 model that is quantised, with the names of the file."""
        model = ir.from_proto(copy.deepcopy(self.model))  # its weights are renamed too
        self.names.take_back(model)
        model.metadata_props.pop(INFERRED, None)
        return model


def calibrate(
    model: ir.Model | str | os.PathLike[str],
    samples: Samples,
    *,
    method: str = "minmax",
    on_progress: Say | None = None,
) -> Calibration:
    """Run the samples through the float32 model and collect ranges. Does not change `model`.

    method : a name in METHODS.
    Memory is bounded by one feed and the activations of one run.
    Raises InputError as `prepare`, for an unknown method, and for samples of another model; RuntimeUnavailable if
    ONNX Runtime cannot run the model.
    """
    if method not in METHODS:
        raise InputError(f"calibration is by {', '.join(METHODS)}; asked for {method!r}")
    say = on_progress or (lambda _: None)
    say("prepare the float32 model")
    prepared = prepare(model if isinstance(model, ir.Model) else onnx_file.load(model))
    if (size := onnx_file.weight_bytes(prepared.model)) > onnx_file.PROTOBUF_LIMIT:
        raise InputError(f"ONNX Runtime's quantiser takes models up to 2 GiB; this one has {size:,} bytes of weights")
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        path = Path(folder, "model.onnx")
        onnx_file.save(prepared.model, path)  # a copy with weights of its own: names are given to weights too
        plain = onnx_file.load(path)
        names = PlainNames.give(plain)
        _tell_types(plain)
        onnx_file.save(plain, path)
        feeds = _feeds(samples, plain)
        ranges, inferred = _collect(path, names, feeds, "minmax", len(samples), say)
        if method != "minmax":
            finite = {name: pair for name, pair in ranges.items() if np.isfinite(pair).all()}
            cut, inferred = _collect(path, names, feeds, method, len(samples), say, only=set(finite))
            ranges |= cut
    return Calibration(inferred, names, ranges, method, samples.count, prepared.notes)


def _tell_types(model: ir.Model) -> None:
    """Declare types that onnx cannot infer, behind operators of ONNX Runtime. The calibrators need them."""
    shapes = Shapes(model)
    values = [value for node in model.graph for value in node.outputs if value.name and value.type is None]
    for value, dtype in [(value, shapes.known_dtype(value)) for value in values]:
        if dtype is not None:
            value.type = ir.TensorType(dtype)


def _feeds(samples: Samples, plain: ir.Model) -> Any:
    """The samples again and again, by plain names."""
    inputs = [value for value in plain.graph.inputs if not value.is_initializer()]
    if len(inputs) != len(samples.names):
        raise InputError(f"the samples are for {len(samples.names)} inputs; the model has {len(inputs)}")

    def feeds() -> Iterator[dict[str, Any]]:
        for feed in samples:
            yield {str(value.name): feed[name] for value, name in zip(inputs, samples.names, strict=True)}

    return feeds


def _collect(
    path: Path, names: PlainNames, feeds: Any, method: str, count: int, say: Say, only: set[str] | None = None
) -> tuple[dict[str, tuple[float, float]], onnx.ModelProto]:
    """Ranges of one pass over the samples, and the model with inferred shapes.

    ONNX Runtime's calibrators keep all activations of all feeds that they are given; so they get one at a time.
    """
    ort = framework("onnxruntime", "ort", "quantise")
    framework("onnxruntime.quantization", "ort", "quantise")
    from onnxruntime.quantization import calibrate as calibrators
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    augmented = str(path.with_name("augmented.onnx"))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it names values as they are in the copy
    with _as_ours(names):
        inferred = load_model_with_shape_infer(path)
        kind = getattr(calibrators, f"{METHODS[method]}Calibrater")
        collector = kind(path, sorted(CALIBRATED), augmented_model_path=augmented, symmetric=False)
        collector.augment_graph()
        collector.infer_session = ort.InferenceSession(augmented, options, providers=["CPUExecutionProvider"])
        if only is not None:
            collector.tensors_to_calibrate &= only
        for number, feed in enumerate(feeds(), start=1):
            say(f"calibrate ({method}): {number} of {count}")
            with _quiet():
                collector.collect_data(_Once(feed))
        with _quiet():
            found = collector.compute_data()
    return {name: (float(np.min(data.lowest)), float(np.max(data.highest))) for name, data in found.items()}, inferred


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The calibrators print, and NumPy warns of activations that are NaN throughout."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@contextlib.contextmanager
def _as_ours(names: PlainNames) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # its exceptions share no base class, but a module
        if not type(error).__module__.startswith("onnxruntime") and not isinstance(error, RuntimeError):
            raise
        raise RuntimeUnavailable(
            f"ONNX Runtime cannot run the float32 model on the samples: {names.in_text(first_line(error))}"
        ) from error


class _Once:
    """One feed, as a reader of ONNX Runtime."""

    def __init__(self, feed: dict[str, Any]) -> None:
        self._left = [feed]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None
