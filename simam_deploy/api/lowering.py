"""Analyse a network on real samples, and convert it to lower precision."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from simam_deploy.api.given import OnePath
from simam_deploy.compare.inputs import specs
from simam_deploy.compare.pictures import Statistics
from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
from simam_deploy.graph import onnx_file
from simam_deploy.precision import analyze as analysing
from simam_deploy.precision.analysis import Analysis
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.converted import Converted
from simam_deploy.precision.flat import flat
from simam_deploy.precision.layer_errors import FEW, layers_or_why
from simam_deploy.precision.samples import Samples, SampleSource
from simam_deploy.precision.wanted import Wanted
from simam_deploy.report.pages import analysis_page, converted_page
from simam_deploy.report.writing import page_at
from simam_deploy.text import Say


def analyze(
    file: OnePath,
    inputs: SampleSource,
    *,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    size: tuple[int, int] | None = None,
    samples: int | None = None,
    limits: bool = True,
    report: OnePath | None = None,
    on_progress: Say | None = None,
) -> Analysis:
    """Run an ONNX file on real samples, and say of each part that sums, squares or divides what 16 bits do to it.

    file : float32; or float16 or bfloat16, which is judged as it is.
    inputs : a folder of pictures, an .npz, or an array for each input by its name.
    mean, std, size, samples : as in `Samples`.  limits : as in `verify`.
    report : where to write a page with the table, the error of each site, and histogram and gate maps of each block.
    Returns an Analysis: `rows`, `unfit`, `islands`, `excluded`; print it for its table and the causes.
    Raises InputError for samples that do not fit, ModelFileError for what cannot be read; with a report,
    OutputError, and RuntimeUnavailable without matplotlib.
    """
    model = _loaded(file, limits=limits)
    with page_at(report, _read(file, model, inputs)) as page:
        given = Samples(inputs, specs(file), mean=mean, std=std, size=size, limit=samples)
        _refuse_without_end(file, given, limits=limits)
        with onnx_file.blaming(file):
            model, notes = flat(model)
            found = analysing.analyze(model, given, details=report is not None, on_progress=on_progress)
        found = found.with_notes([*given.notes, *notes])
        page(lambda say: analysis_page(found, Path(file).name, say), on_progress)
    return found


def convert(
    file: OnePath,
    output: OnePath,
    *,
    to: str,
    target: str = "cpu",
    inputs: SampleSource | None = None,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    size: tuple[int, int] | None = None,
    samples: int | None = None,
    keep_float: Sequence[str] = (),
    keep_io: bool = False,
    method: str = "minmax",
    min_snr: float | None = None,
    max_drop: float | None = None,
    limits: bool = True,
    report: OnePath | None = None,
    on_progress: Say | None = None,
) -> Converted:
    """Convert the float32 ONNX file `file` to lower precision, to `output`, with a manifest at `<output>.json`.

    to : "fp16", "bf16", "int8" or "int8+fp16".  target : of int8, "cpu", "tensorrt" or "openvino".
    inputs, mean, std, size, samples : as in `analyze`. int8 needs them; fp16 and bf16 use them to find the parts that
    need float32.
    keep_float : names of nodes that stay float32.  keep_io : keep inputs and outputs float32.
    method : of calibration, "minmax", "entropy" or "percentile".
    min_snr, max_drop : least SNR in dB, and largest loss of labels or boxes in percent. Layers stay float32 until
    both hold.  limits : as in `verify`.
    report : where to write a page with the tables, the error of each layer, and histogram and gate maps of each
    block.
    Raises InputError, ModelFileError, OutputError, VerificationError as `precision.convert.convert_file`; nothing is
    written then. With a report, RuntimeUnavailable without matplotlib.
    """
    wanted = Wanted(to, target, tuple(keep_float), keep_io, method, min_snr, max_drop)
    model = _loaded(file, limits=limits)
    with page_at(report, _read(file, model, inputs), beside=[output]) as page:
        given = None
        if inputs is not None:
            given = Samples(inputs, specs(file), mean=mean, std=std, size=size, limit=samples)
            _refuse_without_end(file, given, limits=limits)
        done = convert_file(file, output, wanted, given, on_progress)

        def drawn(say: Say) -> str:
            layers = None
            if given is not None:
                feeds = ([feed[name] for name in given.names] for feed in given.fewer(FEW))
                layers = layers_or_why(to, model, onnx_file.load(output), feeds, say)
            return converted_page(done, Path(file).name, layers, say)

        page(drawn, on_progress)
    return done


def _loaded(file: OnePath, *, limits: bool) -> ir.Model:
    proto, model = onnx_file.both(file)
    if limits:
        refuse_many_parts(Path(file), proto)
    return model


def _refuse_without_end(file: OnePath, samples: Samples, *, limits: bool) -> None:
    if limits:
        refuse_without_end(Path(file), list(next(iter(samples)).values()), ["ort"])


def _read(file: OnePath, model: ir.Model, inputs: SampleSource | None) -> list[OnePath]:
    """The files of the caller."""
    given = [inputs] if isinstance(inputs, str | os.PathLike) and Path(inputs).is_file() else []
    return [file, *onnx_file.weight_files(model, file), *given]
