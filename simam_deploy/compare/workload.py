"""Protection against files that run forever or take all memory: a trial run in a process with limits.

    refuse_without_end(Path("model.onnx"), [x], ["ort"])

Most files need no trial: the sizes of their results follow from the input sizes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from simam_deploy.errors import InputError, LimitError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Shapes
from simam_deploy.graph.shapes.work import work_of
from simam_deploy.graph.traverse import graphs, nodes
from simam_deploy.processes import limited
from simam_deploy.processes.limited import Limits
from simam_deploy.runtimes import installed, onnx_model, open_session
from simam_deploy.text import on_one_line

LIMITS = Limits(cpu_s=4, wall_s=20, memory=2**30)
TIMES_HELD = 4
"""Copies of weights and inputs in memory: read and laid out again, in two sessions."""
BYTES_PER_S = 2**28
"""Bytes of weights that add one second to the limits."""
LOOPS = ("Loop", "Scan")
_OPERATORS = """AffineGrid CenterCropPad Col2Im ConstantOfShape Expand EyeLike MaxUnpool OneHot Pad RandomNormal
    RandomUniform Range Resize Tile Upsample"""
MAKERS = frozenset(_OPERATORS.split())
"""Operators whose output size comes from values and attributes, so that little input may become much output."""
MOST_PARTS = 10_000
"""Upper bound on nodes after inlining. Inputs, functions and graphs inside nodes count as PART nodes."""
PART = 4
MOST_COST = 700_000
"""Upper bound on the cost to read the file once (`onnx_file.cost_of`). It is read some ten times before a run."""
MOST_AXES = 64
"""Upper bound on the axes that one node names."""
MOST_NUMBERS = 2**24
"""Upper bound on one value, and on all outputs of MAKERS together; at least TIMES_INPUTS times the inputs."""
TIMES_INPUTS = 64
TIMES_ALL = 4
"""Factor on that bound for all nodes together. A weight counts four times."""
MOST_WORK = 2**38
"""Upper bound on products and values of one run, from the shapes: 10 to 20 seconds on two cores. YOLO11x at 640x640,
with the 195 GFLOP that its authors state, is a third of it."""


def refuse_many_parts(file: Path, model: onnx.ModelProto) -> None:
    """Raise InputError if `file`, read as `model`, exceeds MOST_PARTS or MOST_COST.

    Such a file would take minutes to prepare and run.
    """
    more = len(model.graph.input) + len(model.functions) + sum(1 for _ in graphs(model)) - 1
    parts = onnx_file.count_nodes(model, file) + PART * more
    if parts > MOST_PARTS:
        raise InputError(
            f"{file} is not run: it has {parts:,} parts (nodes with all functions in place, and inputs, functions "
            f"and graphs in nodes, which count as {PART}); networks have less than {MOST_PARTS:,}; if you trust the "
            "file, run it with --no-limits"
        )
    if (cost := onnx_file.cost_of(model)) > MOST_COST:
        raise InputError(
            f"{file} is not run: to read it, which is done several times, takes {cost / MOST_COST:.1f} times as long "
            "as for the largest networks, for all its attributes, weights and values; if you trust the file, run it "
            "with --no-limits"
        )


def refuse_without_end(file: Path, feed: Sequence[NDArray[Any]], runtimes: Sequence[str]) -> None:
    """Raise InputError if a trial run of `file` exceeds the limits. Skips the trial if the sizes exclude that.

    feed : one array per input.  runtimes : those of the real run. The trial includes the slow "onnx_reference" if it
    is among them.
    Limits are LIMITS, plus more for large weights and inputs. Ignores other errors: the real run reports them.
    verify.verify and bench.bench take open sessions and do not call this.
    """
    doubt = next(doubts(file, feed), None)
    if doubt is None:
        return
    model = onnx_file.read(file)
    paths = (file, *onnx_file.weight_files(model, file))
    held = sum(path.stat().st_size for path in paths)
    given = sum(array.nbytes for array in feed)
    limits = replace(
        LIMITS,
        cpu_s=LIMITS.cpu_s + held // BYTES_PER_S,
        wall_s=LIMITS.wall_s + held // BYTES_PER_S,
        memory=LIMITS.memory + TIMES_HELD * (held + given),
    )
    tried = [
        name for name in ("ort", "onnx_reference") if name in installed() and (name in runtimes or name == "ort")
    ]
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "inputs.npz")
        np.savez(inputs, *feed)
        for runtime in tried:
            try:
                limited.call(f"{__name__}:_run", str(file.absolute()), str(inputs), runtime, limits=limits)
            except LimitError as error:
                raise InputError(
                    f"{file} is not run: {doubt}, so it was tried in {runtime} with limits, and {error}; "
                    "if you trust the file, run it with --no-limits"
                ) from error


def doubts(file: Path, feed: Sequence[NDArray[Any]]) -> Iterator[str]:
    """Reasons why the work of `file` has no bound from its sizes; none if it has."""
    proto = onnx_file.read(file)
    loop = next((node for node in nodes(proto) if node.op_type in LOOPS), None)
    if loop is not None:
        yield f"{_named(loop)} runs as often as it likes"
    makers = [node for node in nodes(proto) if node.op_type in MAKERS]
    numbers = sum(array.size for array in feed)
    most = max(MOST_NUMBERS, TIMES_INPUTS * numbers)
    with onnx_file.blaming(file):
        shapes = _shapes(file, proto, feed)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    made = 0
    for node in makers:
        for name in filter(None, node.output):
            if name not in sizes:
                yield f"nothing tells how much {_named(node)} makes"
            made += sizes.get(name, 0)
    if made > most:
        yield f"it makes {made:,} numbers out of {numbers:,}, the most by {_named(_largest(makers, sizes))}"
    together = sum(sizes.get(name, 0) for node in nodes(proto) for name in node.output)
    weights = sum(math.prod(tensor.dims) for tensor in proto.graph.initializer)
    if together > TIMES_ALL * max(most, 4 * weights):
        yield f"its nodes make {together:,} numbers in all, and the truth in float64 keeps them"
    for node in nodes(proto):
        for name in node.output:
            if sizes.get(name, 0) > most:
                yield f"{_named(node)} makes {sizes[name]:,} numbers, and the inputs hold {numbers:,}"
    for node in nodes(proto):
        if (axes := _axes(node, sizes)) > MOST_AXES:
            yield f"{_named(node)} names {axes:,} axes"
    work = [(work_of(node, shapes), node) for node in nodes(proto)]
    if (total := sum(each for each, _ in work)) > MOST_WORK:
        heaviest = max(work, key=itemgetter(0))[1]
        yield f"a run computes {total:.1e} products, the most in {_named(heaviest)}"


def _shapes(file: Path, proto: onnx.ModelProto, feed: Sequence[NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Shape of each value, by name, as far as the input sizes determine it."""
    model = onnx_file.load(file)
    given = {spec.name: array.shape for spec, array in zip(onnx_model.input_specs(proto, file), feed, strict=False)}
    for value in model.graph.inputs:
        if value.name in given:
            value.shape = ir.Shape(given[value.name])
    (shapes, *_) = Shapes(model).trials
    return {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer} | shapes


def _axes(node: onnx.NodeProto, sizes: dict[str, int]) -> int:
    """Number of axes that a reduction or (un)squeeze names, in its attribute or second input."""
    if not node.op_type.startswith("Reduce") and node.op_type not in ("Squeeze", "Unsqueeze"):
        return 0
    named = [len(a.ints) for a in node.attribute if a.name == "axes"]
    return max([*named, *(sizes.get(name, 0) for name in node.input[1:2])], default=0)


def _largest(makers: Sequence[onnx.NodeProto], sizes: dict[str, int]) -> onnx.NodeProto:
    return max(makers, key=lambda node: sum(sizes.get(name, 0) for name in node.output))


def _named(node: onnx.NodeProto) -> str:
    return on_one_line(f"{node.op_type} at '{node.name or next(iter(node.output), '')}'")


def _run(file: str, inputs: str, runtime: str) -> None:
    """One run, for a separate process. Raises MemoryError; ignores other errors."""
    with np.load(inputs) as arrays:
        feed = [arrays[name] for name in arrays.files]
    options: dict[str, Any] = {"threads": 1} if runtime == "ort" else {"dtype": "float64"}
    try:
        with open_session(file, runtime, **options) as session:
            session.run({spec.name: array for spec, array in zip(session.inputs, feed, strict=True)})
    except Exception as error:  # each framework has its own
        if isinstance(error, MemoryError) or any(word in str(error) for word in ("bad_alloc", "allocate memory")):
            raise MemoryError from error
