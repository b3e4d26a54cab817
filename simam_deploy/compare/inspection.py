"""Contents of an ONNX file, as printed by `simam-deploy inspect`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simam_deploy.artifacts import manifest
from simam_deploy.block import Found
from simam_deploy.compare.kernel_use import kernel_in
from simam_deploy.formula import BLOCKED_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.match import find
from simam_deploy.match.half_sums import half_note
from simam_deploy.rewrite.restore_lambda import rounded_lambda
from simam_deploy.runtimes import KernelUse
from simam_deploy.text import counted


@dataclass(frozen=True)
class Inspection:
    """SimAM blocks of a file, and facts about the file."""

    file: Path
    opset: int | None
    ir_version: int
    weight_bytes: int
    found: Found
    kernel: KernelUse
    """Use of the compiled kernel in ONNX Runtime on the CPU."""
    specialised: manifest.Record | None
    """Kind of processor and ONNX Runtime version of a specialised file; None if it is portable."""
    blocked: int
    """Number of our operators in the blocked layout of a specialised file."""
    disagreements: tuple[str, ...]
    """Reasons why the manifest beside the file does not belong to it."""

    @property
    def shared(self) -> list[str]:
        """Per block, the inner values with uses outside."""
        return [f"{block.node}: {', '.join(block.shared)}" for block in self.found.blocks if block.shared]

    @property
    def defaults(self) -> list[str]:
        """Per block, the graph inputs whose defaults are its constants."""
        return [f"{block.node}: {', '.join(block.defaults)}" for block in self.found.blocks if block.defaults]

    @property
    def rounded(self) -> list[str]:
        """A line for each block whose λ looks rounded to 16 bits."""
        return list(filter(None, (rounded_lambda(block.node, block.e_lambda) for block in self.found.blocks)))

    @property
    def half(self) -> str:
        """A line on the blocks that sum in float16; "" if none does."""
        return half_note(self.found.blocks, self.file)

    @property
    def verdict(self) -> str:
        """In one line, how many blocks were found, and whether the manifest is of another file."""
        wrong = f"FAILED: {counted(len(self.disagreements), 'disagreement')}; " if self.disagreements else ""
        return wrong + self.found.verdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": str(self.file),
            "opset": self.opset,
            "ir_version": self.ir_version,
            "weights_mib": self.weight_bytes / 2**20,
            "blocks": [
                {
                    "node": block.node,
                    "shape": block.shape,
                    "dtype": block.dtype.name,
                    "e_lambda": block.e_lambda,
                    "form": block.form,
                    "op": block.op,
                }
                for block in self.found.blocks
            ],
            "kernel": asdict(self.kernel),
            "shared": self.shared,
            "defaults": self.defaults,
            "rounded": self.rounded,
            "half": self.half,
            "near_misses": [miss.as_dict() for miss in self.found.near_misses],
            "specialised": self.specialised,
            "disagreements": list(self.disagreements),
        }


def inspect(file: str | os.PathLike[str], *, on_progress: Callable[[str], None] | None = None) -> Inspection:
    """Find the SimAM blocks and near misses of an ONNX file, and test whether the compiled kernel takes them.

    Runs the file once, in a process with limits, if it holds our operators.
    Raises ModelFileError if the file cannot be read.
    """
    say = on_progress or (lambda _: None)
    path = Path(file)
    proto, model = onnx_file.both(path)
    with onnx_file.blaming(path):
        found = find.find(model, lambda node: say(f"check the block at {node}"))
        say("run it once, to see whether the kernel runs")
        use = kernel_in(path, proto)
    return Inspection(
        file=path,
        opset=model.opset_imports.get(""),
        ir_version=model.ir_version,
        weight_bytes=onnx_file.weight_bytes(model),
        found=found,
        kernel=use,
        specialised=manifest.specialised(model.metadata_props),
        blocked=sum(node.domain == BLOCKED_DOMAIN for node in model.graph),
        disagreements=tuple(manifest.disagreements(path)),
    )
