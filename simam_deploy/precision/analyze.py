"""Analysis of a float32 network on real samples: which parts of it 16 bits would break."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import onnx_ir as ir

from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import SHORT
from simam_deploy.match.find import find
from simam_deploy.precision.analysis import Analysis, row_of
from simam_deploy.precision.block_details import MOST_MAPS, BlockDetail, picture_of
from simam_deploy.precision.cut_off import cut_off
from simam_deploy.precision.low_types import LOW_TYPES, LowType
from simam_deploy.precision.peaks import take, watched
from simam_deploy.precision.site_rows import Magnitude
from simam_deploy.precision.site_runs import SiteRun
from simam_deploy.precision.sites import find_sites
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import in_types_of
from simam_deploy.text import Say

MEND = (
    "mend it: simam-deploy fuse FILE -o OUT.onnx puts the statistics of each block in float32, M - 1 from the shape; "
    "better, convert the float32 file anew: simam-deploy convert FLOAT.onnx -o OUT.onnx --to fp16"
)


def analyze(
    model: ir.Model,
    samples: Iterable[Mapping[str, Array]],
    *,
    lows: Sequence[LowType] = tuple(LOW_TYPES.values()),
    details: bool = False,
    on_progress: Say | None = None,
) -> Analysis:
    """Run a model from `flat` on samples, and judge each of its sites.

    A float32 model is judged in each of `lows`, with every operator rounded. A 16-bit model is judged as it is, in
    its own type, by the oracle.
    samples : feeds by name. One is held at a time, with the inputs of the sites.
    details : whether to keep histograms and gate maps of the SimAM blocks.
    Raises InputError if there is no sample.
    """
    say = on_progress or (lambda _: None)
    half = [LOW_TYPES[SHORT[name]] for name in onnx_file.half_types(model)]
    lows = half or lows
    say("find the SimAM blocks")
    found = find(model)
    sites = find_sites(model, found)
    peaks: dict[str, Magnitude] = {}
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as name, ExitStack() as stack:
        folder = Path(name)
        runs: list[SiteRun] = []
        kept: list[BlockDetail] = []
        for site in sites:
            say(f"prepare {site.kind} at {site.node}")
            detail = None
            if details and site.block is not None:
                detail = BlockDetail(site.block.node, site.block.e_lambda, len(kept) < MOST_MAPS)
                kept.append(detail)
            runs.append(stack.enter_context(closing(SiteRun(site, model, lows, folder, detail))))
        path = folder / "network.onnx"
        onnx_file.save(watched(model, [str(value.name) for site in sites for value in site.inputs]), path)
        session = stack.enter_context(open_session(path, "onnx_half" if half else "ort"))
        count, picture = 0, None
        for feed in samples:
            count += 1
            say(f"sample {count}")
            if details and picture is None:
                picture = picture_of(list(feed.values()))
            given = in_types_of(session, feed)
            made = session.run(given)
            take(peaks, given, made)
            results = given | made
            for at, run in enumerate(runs):
                say(f"sample {count}: {run.site.kind} at {run.site.node} ({at + 1} of {len(runs)})")
                run.take([results[str(value.name)] for value in run.site.inputs])
        if not count:
            raise InputError("no sample is given; analyze needs at least one")
        rows = tuple(row_of(run, lows) for run in runs)
    left = [b.node for b in found.blocks if b.inside[-1].graph is not model.graph]
    notes = [f"{node} is inside an If, a Loop or a function, and was not analysed" for node in left]
    if half and any(row.simam is not None and row.flagged for row in rows):
        notes.append(MEND)
    largest = {name: peak.largest for name, peak in peaks.items()}
    cut = {} if half else cut_off(model, largest)
    notes += [f"{reason}; convert keeps its layer in float32" for reason in dict.fromkeys(cut.values())]
    return Analysis(rows, largest, count, tuple(lows), notes, tuple(kept), picture, cut)
