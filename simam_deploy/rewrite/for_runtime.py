"""Form, opset and types that each runtime takes: a table of what was tried, and the choice of a file's form by it.

tests/rewrite/test_for_runtime.py runs the rows of runtimes that the tests have; `make peers` runs those of MNN and
ncnn. Versions are those of constraints.txt and benchmarks/peers/requirements.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx_ir as ir

from simam_deploy.errors import InputError
from simam_deploy.graph.number_types import precision
from simam_deploy.graph.shapes import Dims
from simam_deploy.rewrite.forms import FORMS, form_named
from simam_deploy.text import shape


@dataclass(frozen=True)
class Takes:
    """Row of one runtime.

    form     the one that is chosen, and why.
    refused  other forms that it does not take, with reasons.
    opsets   the oldest and the newest that were tried.
    types    number types of files, by `number_types.precision`.
    fixed    reason why it takes fixed sizes and batch 1 alone; "" if it takes any.
    tested   package -> version.
    seen     how far the test goes.
    notes    for whoever runs the file there.
    """

    form: str
    why: str
    opsets: tuple[int, int]
    types: tuple[str, ...]
    tested: Mapping[str, str]
    seen: str
    refused: Mapping[str, str] = field(default_factory=dict)
    fixed: str = ""
    notes: tuple[str, ...] = ()

    @property
    def forms(self) -> list[str]:
        """All that it takes, the chosen one first."""
        return sorted(FORMS.keys() - self.refused.keys(), key=lambda form: (form != self.form, form))


OPSET = 18
"""Of a file that is exported for a runtime: the oldest that both exporters write, so older versions read it too."""
_TENSORRT = Takes(
    form="function",
    why="its parser expands the function, or takes our plugin in its place",
    opsets=(9, 28),
    types=("fp32", "fp16", "bf16", "int8", "int8+fp16"),
    tested={"tensorrt-rtx-cu13": "1.7.1.116"},
    seen="parsed by TensorRT-RTX, and the parsed layers computed; no GPU ran it",
    notes=("simam-deploy build writes the engine; custom_op needs our plugin there",),
)
RUNTIMES = {
    "onnxruntime": Takes(
        form="function",
        why="the compiled kernel takes the node, and without it the function runs",
        opsets=(9, 28),
        types=("fp32", "fp16", "int8"),
        tested={"onnxruntime": "1.32.0"},
        seen="run",
        notes=("custom_op needs our kernel library",),
    ),
    "openvino": Takes(
        form="primitive",
        why="it reads no functions; primitive keeps dynamic sizes",
        refused={
            "function": "its frontend reads no functions (open_session expands them first)",
            "custom_op": "it has no operator of that name",
        },
        opsets=(9, 28),
        types=("fp32", "fp16", "int8", "int8+fp16"),
        tested={"openvino": "2026.4.1"},
        seen="run",
        notes=("on CPUs with bfloat16 it rounds every layer, unless INFERENCE_PRECISION_HINT is f32",),
    ),
    "tensorrt": _TENSORRT,
    "tensorrt_rtx": _TENSORRT,
    "mnn": Takes(
        form="primitive",
        why="its converter takes no functions; primitive keeps dynamic sizes",
        refused={
            "function": "its converter takes no functions",
            "custom_op": "its converter has no operator of that name",
        },
        opsets=(9, 28),
        types=("fp32",),
        tested={"MNN": "3.6.1"},
        seen="converted and run",
        notes=(
            "ask for precision high: the default may compute in float16",
            "its Winograd convolutions lose digits; the hint WINOGRAD_MEMORY_LEVEL 0 keeps them",
        ),
    ),
    "ncnn": Takes(
        form="instance_norm",
        why="pnnx finds its batch axis in any network",
        refused={
            "function": "pnnx expands it without λ, in silence",
            "primitive": "pnnx may reduce other axes, in silence, where no convolution tells it which is the batch",
            "custom_op": "pnnx has no operator of that name, and crashes",
        },
        opsets=(9, 26),
        types=("fp32",),
        fixed="pnnx makes constants of the sizes it converts with, M - 1 too, and ncnn has no batch axis",
        tested={"pnnx": "20261020", "ncnn": "1.0.20261020"},
        seen="converted by pnnx and run",
        notes=(
            "pnnx stores weights in float16, unless fp16=0",
            "ncnn computes in float16 on CPUs that can, unless the options use_fp16_* are off",
        ),
    ),
}


@dataclass(frozen=True)
class Choice:
    """Form and opset for one runtime.

    opset : None as long as nobody asked for one.
    """

    runtime: str
    form: str
    opset: int | None
    takes: Takes

    def notes(self) -> list[str]:
        """The choice and its reasons, for the report."""
        tested = ", ".join(f"{package} {version}" for package, version in self.takes.tested.items())
        why = f" ({self.takes.why})" if self.form == self.takes.form else ", as asked"
        sizes = "; fixed sizes, batch 1" if self.takes.fixed else ""
        lines = [
            f"form {self.form}{why}, opset {self.opset}{sizes}",
            f"{self.takes.seen}: {tested}",
            *self.takes.notes,
        ]
        return [f"for {self.runtime}: {line}" for line in lines]

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and JSON."""
        row = asdict(self.takes)
        kept = {key: row[key] for key in ("why", "tested", "seen")}
        return {"runtime": self.runtime, "form": self.form, "opset": self.opset, **kept}

    def refuse_sizes(self, inputs: Mapping[str, Dims | None]) -> None:
        """Raise InputError for dynamic sizes, or a batch, that the runtime does not take. inputs : shapes by name."""
        if not self.takes.fixed:
            return
        wrong = [f"{name} is {shape(dims)}" for name, dims in inputs.items() if not _fixed(dims)]
        if wrong:
            raise InputError(
                f"{self.runtime} takes fixed sizes and batch 1: {', '.join(wrong)}\n{self.takes.fixed}; "
                "export one file for each size: export without --dynamic, or dynamic=False in Ultralytics"
            )

    def of(self, model: ir.Model) -> Choice:
        """The choice for a file at hand, with its opset.

        Raises InputError for an opset, sizes or types that the runtime does not take.
        """
        made = choice(self.runtime, self.form, model.opset_imports.get("", 0))
        values = model.graph.inputs
        made.refuse_sizes({str(value.name): None if value.shape is None else _dims(value.shape) for value in values})
        if (held := precision(model)) not in self.takes.types:
            raise InputError(
                f"{self.runtime} takes files in {', '.join(self.takes.types)}, as tested; this one is {held}\n"
                "give the float32 file that it was made from"
            )
        return made


def choice(runtime: str, form: str | None = None, opset: int | None = None) -> Choice:
    """Choose for `runtime`. form, opset : those that the user asks for.

    Raises InputError for an unknown runtime, and for a form or an opset that it does not take.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"no row for the runtime {runtime!r}; there are rows for {', '.join(RUNTIMES)}")
    takes = RUNTIMES[runtime]
    if form is not None:
        form_named(form)
    if form in takes.refused:
        raise InputError(
            f"{runtime} does not take form {form!r}: {takes.refused[str(form)]}\n"
            f"it takes {' and '.join(takes.forms)}; leave the form out for {takes.form}"
        )
    oldest, newest = takes.opsets
    if opset is not None and not oldest <= opset <= newest:
        raise InputError(
            f"{runtime} takes opsets {oldest} to {newest}, as tested; asked for {opset}\n"
            "export again without an opset, or with one of these"
        )
    return Choice(runtime, form or takes.form, opset, takes)


def _dims(given: ir.Shape) -> Dims:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in given)


def _fixed(dims: Dims | None) -> bool:
    return dims is not None and all(isinstance(dim, int) for dim in dims) and dims[:1] in ((), (1,))
