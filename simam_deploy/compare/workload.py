"""Files that may run for ever, or take all memory, are run once in a process with limits before they are run here.

    refuse_without_end(Path("model.onnx"), [x], ["ort"])

Most files are not run for that: the sizes of all that they compute follow from those of their inputs.
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
"""How often the weights and inputs may be in memory besides: read, laid out anew, in two sessions."""
BYTES_PER_S = 2**28
"""Of weights: so long a file may take besides."""
LOOPS = ("Loop", "Scan")
_OPERATORS = """AffineGrid CenterCropPad Col2Im ConstantOfShape Expand EyeLike MaxUnpool OneHot Pad RandomNormal
    RandomUniform Range Resize Tile Upsample"""
MAKERS = frozenset(_OPERATORS.split())
"""Operators of ONNX that may make much out of little: how much is in their values and attributes."""
MOST_PARTS = 10_000
"""Nodes, with all functions in place, and inputs, functions and graphs inside nodes, each for PART nodes."""
PART = 4
MOST_COST = 700_000
"""Of reading the file once, as `onnx_file.cost_of`: before it has run, it is read some ten times."""
MOST_AXES = 64
"""That one node names."""
MOST_NUMBERS = 2**24
"""In one value, and in all that the MAKERS make together; or TIMES_INPUTS of those in the inputs."""
TIMES_INPUTS = 64
TIMES_ALL = 4
"""So often that may be made by all nodes together; weights count as much as four times their number."""
MOST_WORK = 2**38
"""Products that one run sums up and values that it makes, as far as shapes tell: 10 to 20 seconds on two cores.
YOLO11x is given by its makers with 195 GFLOP on an image of 640x640, which are a third of it."""


def refuse_many_parts(file: Path, model: onnx.ModelProto) -> None:
    """Raise InputError if `file`, read as `model`, has more than MOST_PARTS, or takes more than MOST_COST to read.

    To prepare and run it would take minutes.
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
    """Raise InputError if `file` meets a limit in one run, unless its sizes tell that it cannot.

    feed : one array per input.  runtimes : those that are to run it; "onnx_reference" is tried too if it is among
    them, as it is much slower.
    The limits are LIMITS, and more for large weights and inputs. Other errors are left to the real run. In Python the
    caller decides: verify.verify and bench.bench take open sessions, and do not call this.
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
    """Why it cannot be told beforehand how much `file` computes; nothing if it can."""
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
    """The shape of each value, by name, as far as the sizes of the inputs tell."""
    model = onnx_file.load(file)
    given = {spec.name: array.shape for spec, array in zip(onnx_model.input_specs(proto, file), feed, strict=False)}
    for value in model.graph.inputs:
        if value.name in given:
            value.shape = ir.Shape(given[value.name])
    (shapes, *_) = Shapes(model).trials
    return {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer} | shapes


def _axes(node: onnx.NodeProto, sizes: dict[str, int]) -> int:
    """How many axes a reduction and the like names, in its attribute or its second input."""
    if not node.op_type.startswith("Reduce") and node.op_type not in ("Squeeze", "Unsqueeze"):
        return 0
    named = [len(a.ints) for a in node.attribute if a.name == "axes"]
    return max([*named, *(sizes.get(name, 0) for name in node.input[1:2])], default=0)


def _largest(makers: Sequence[onnx.NodeProto], sizes: dict[str, int]) -> onnx.NodeProto:
    return max(makers, key=lambda node: sum(sizes.get(name, 0) for name in node.output))


def _named(node: onnx.NodeProto) -> str:
    return on_one_line(f"{node.op_type} at '{node.name or next(iter(node.output), '')}'")


def _run(file: str, inputs: str, runtime: str) -> None:
    """One run. Call it in a process of its own. Raises MemoryError; other errors are left to the real run."""
    with np.load(inputs) as arrays:
        feed = [arrays[name] for name in arrays.files]
    options: dict[str, Any] = {"threads": 1} if runtime == "ort" else {"dtype": "float64"}
    try:
        with open_session(file, runtime, **options) as session:
            session.run({spec.name: array for spec, array in zip(session.inputs, feed, strict=True)})
    except Exception as error:  # each framework has its own
        if isinstance(error, MemoryError) or any(word in str(error) for word in ("bad_alloc", "allocate memory")):
            raise MemoryError from error
