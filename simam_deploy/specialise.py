"""ONNX model -> the same model for one processor: ONNX Runtime's optimised graph, with SimAM in its blocked layout.

SimAM in NCHW costs a network more than its own time: ONNX Runtime reorders what it reads and what it writes, and the
convolutions around lose what they would have taken in (see runtimes/ort_layout.py). Here every SimAM stands, while
ONNX Runtime optimises the graph, as a Mul: an operator that works element by element, on one input or with the
residual, and so passes the layout on. Then each Mul becomes `simam.nchwc::SimAM...`, which works in that layout.

The file holds weights laid out for one kind of processor and needs the op library. It is marked with the machine, and
refused elsewhere, by `open_session` and by the operators themselves.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy import inputs, manifest, native, onnx_file
from simam_deploy.errors import FormError, RuntimeUnavailable, VerificationError
from simam_deploy.files import refuse_overwriting_inputs, staging
from simam_deploy.formula import BLOCKED_DOMAIN, OP_DOMAIN, OP_VERSION
from simam_deploy.fuse import Fused, fuse, write
from simam_deploy.runtimes import open_session, ort_layout
from simam_deploy.runtimes.session import is_float, pick

SAME = 1e-3
"""How far the outputs may be from those of the portable file, as a share of the largest. Both are one program in one
runtime, whose sums run in another order: 1e-6 to 1e-4 after fifty layers. A wrong layout, channel or parameter makes
errors as large as the outputs."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Specialised(Fused):
    """The new model and its report. The form of a row is `blocked`, or `custom_op` where a block keeps to NCHW."""

    machine: str
    """As the op library names it; the file runs on such machines alone."""
    block: int
    """Channels that lie side by side."""


def specialise(model: ir.Model, on_progress: Say | None = None, *, neighbours: bool = True) -> Specialised:
    """Fuse `model` and lay it out for this machine's CPU. `model` is not changed.

    Raises as `fuse`; RuntimeUnavailable where ONNX Runtime, its blocked layout or the op library is missing;
    FormError if no block lies where ONNX Runtime uses that layout.
    """
    say = on_progress or (lambda _: None)
    library = native.library()
    if library is None:
        raise RuntimeUnavailable(f"specialising needs the operators of a specialised file\n{native.why_not()}")
    block = ort_layout.block_size()
    fused = fuse(model, "function", lambda node: say(f"prove the block at {node}"), neighbours=neighbours)
    say("optimise with ONNX Runtime")
    wanted = {row.node for row in fused.rows if row.dtype == ir.DataType.FLOAT.name and len(row.shape) == 4}
    while True:
        proxied, ours = _with_proxies(fused.model, wanted)
        optimised = _optimised(proxied, library)
        names = Counter(node.name for node in optimised.graph if node.op_type == "Mul")
        lost = {ours[name].name or "" for name in ours if names[name] != 1}
        if not lost:
            break
        wanted -= lost  # merged with an equal one, or taken for a part of something
    plain = _put_back(optimised, ours, block, library.machine)
    if len(plain) == len(ours):
        raise FormError(
            "ONNX Runtime uses no blocked layout around any SimAM block of this model, so there is nothing to gain\n"
            "ship the portable file (simam-deploy fuse without --specialise)"
        )
    optimised.metadata_props.update(model.metadata_props)
    blocked = {str(node.name) for node in ours.values()} - plain
    notes = [f"{row.node}: keeps to NCHW" for row in fused.rows if row.node not in blocked]
    rows = tuple(replace(row, form="blocked" if row.node in blocked else "custom_op") for row in fused.rows)
    return Specialised(
        optimised, rows, fused.near_misses, (*fused.notes, *notes), machine=library.machine, block=block
    )


def _with_proxies(model: ir.Model, wanted: Container[str]) -> tuple[ir.Model, dict[str, ir.Node]]:
    """A copy in which the `wanted` operators of ours are Muls; the Muls' names -> the nodes they stand for.

    Those in subgraphs and functions stay, and those with computed parameters.
    """
    copy = model.clone()
    ours: dict[str, ir.Node] = {}
    for node in list(copy.graph):
        x = node.inputs[0] if node.domain == OP_DOMAIN else None
        if x is None or node.name not in wanted:
            continue
        if any(value is None or ir.convenience.get_const_tensor(value) is None for value in _parameters(node)):
            continue
        other = node.inputs[-1] if _has_residual(node) else x
        proxy = ir.node("Mul", [x, other], name=f"simam_deploy/{len(ours)}")
        ours[str(proxy.name)] = node
        y, new = node.outputs[0], proxy.outputs[0]
        new.name, new.type, new.shape = y.name, y.type, y.shape
        copy.graph.insert_before(node, proxy)
        y.replace_all_uses_with(new, replace_graph_outputs=True)
        copy.graph.remove(node)
    return copy, ours


def _has_residual(node: ir.Node) -> bool:
    return len(node.inputs) in (2, 4)


def _parameters(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """Scale and bias, if it has them."""
    return tuple(node.inputs[1:3]) if len(node.inputs) > 1 else ()


def _optimised(model: ir.Model, library: native.Library) -> ir.Model:
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        source, target = Path(folder, "model.onnx"), Path(folder, "optimised.onnx")
        onnx_file.save(model, source)
        ort_layout.optimise(source, target, library)
        optimised = onnx_file.load(target)
        ir.external_data.load_to_model(optimised)
        return optimised


def _put_back(model: ir.Model, ours: Mapping[str, ir.Node], block: int, machine: str) -> set[str]:
    """Put the operators in the place of their Muls; the names of those that do not work in the blocked layout."""
    blocked = ort_layout.blocked_values(model)
    plain = set()
    for proxy in list(model.graph):
        if proxy.op_type != "Mul" or str(proxy.name) not in ours:
            continue
        node = ours[str(proxy.name)]
        x = proxy.inputs[0]
        domain, attributes = OP_DOMAIN, list(node.attributes.values())
        if x in blocked:
            domain = BLOCKED_DOMAIN
            attributes += [ir.AttrInt64("block", block), ir.AttrString("machine", machine)]
        else:
            plain.add(str(node.name))
        parameters = [_parameter(model, node, value, block if x in blocked else 1) for value in _parameters(node)]
        operands = [x, *parameters, *([proxy.inputs[1]] if _has_residual(node) else [])]
        new = ir.Node(domain, node.op_type, operands, attributes, name=node.name)
        y, made = proxy.outputs[0], new.outputs[0]
        made.name, made.type, made.shape = y.name, y.type, y.shape
        if y in blocked:
            blocked.add(made)
        model.graph.insert_before(proxy, new)
        y.replace_all_uses_with(made, replace_graph_outputs=True)
        model.graph.remove(proxy)
        model.graph.opset_imports[domain] = OP_VERSION
    return plain


def _parameter(model: ir.Model, node: ir.Node, value: ir.Value | None, block: int) -> ir.Value:
    """Scale or bias as an initialiser, filled up to whole blocks with zeros, as ONNX Runtime fills up channels."""
    assert value is not None
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    given = tensor.numpy()
    padded = np.pad(given, (0, -len(given) % block))
    name = f"{node.name}/{'scale' if value is node.inputs[1] else 'bias'}"
    while name in model.graph.initializers:
        name += "_"
    made = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(padded.shape),
        const_value=ir.tensor(padded, name=name),
    )
    model.graph.register_initializer(made)
    return made


def specialise_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    on_progress: Say | None = None,
    *,
    neighbours: bool = True,
    check: bool = True,
) -> Specialised:
    """`specialise` from one ONNX file to another, with a manifest beside it.

    check : compare the outputs with those of the portable file on random inputs; what differs by more than SAME
    raises VerificationError. Otherwise raises as `specialise`, `onnx_file.load` and `files.staging` do. Nothing is
    written then, and `source` is never touched.
    """
    model = onnx_file.load(source)
    refuse_overwriting_inputs(target, [source, *onnx_file.weight_files(model)])
    with staging(target) as staged, onnx_file.blaming(source):
        made = specialise(model, on_progress, neighbours=neighbours)
        mark = manifest.specialisation(made.machine, made.block, ort_layout.version())
        write(made, staged, manifest.file_source(Path(source)), ("onnx", "onnx-ir", "onnxruntime"), mark)
        if check:
            (on_progress or (lambda _: None))("compare with the portable file")
            _compare(Path(source), staged)
    return made


def _compare(portable: Path, specialised: Path) -> None:
    with open_session(portable, "ort") as before, open_session(specialised, "ort") as after:
        (case,) = inputs.cases(["plain"], before.inputs)
        feeds = case.feeds[0]
        wanted = before.run(pick(before.inputs, feeds))
        got = after.run(pick(after.inputs, feeds))
    for name, exact in wanted.items():
        if not is_float(exact.dtype):
            continue  # an index may differ where two values are equal but for rounding
        off = float(np.max(np.abs(got[name] - exact), initial=0))
        size = float(np.max(np.abs(exact), initial=0))
        if not off <= SAME * size:
            raise VerificationError(
                f"output {name!r} of the specialised file is {off:.3g} off that of the portable file, whose largest "
                f"value is {size:.3g}: more than the share {SAME:g} that a reordered sum explains\n"
                "this is a defect; use the portable file, and report it with the model",
                None,
            )
