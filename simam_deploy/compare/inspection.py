"""What an ONNX file holds, as `simam-deploy inspect` prints it."""

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
from simam_deploy.runtimes import KernelUse


@dataclass(frozen=True)
class Inspection:
    """The blocks of a file, and what is around them."""

    file: Path
    opset: int | None
    ir_version: int
    weight_bytes: int
    found: Found
    kernel: KernelUse
    """In ONNX Runtime on the CPU."""
    specialised: manifest.Record | None
    """For which kind of processor, and which ONNX Runtime; None if the file is portable."""
    blocked: int
    """Operators of ours in the blocked layout, which a specialised file has."""
    disagreements: tuple[str, ...]
    """Why the manifest beside it is not of this file."""

    @property
    def shared(self) -> list[str]:
        """By block, the inner values that others use too."""
        return [f"{block.node}: {', '.join(block.shared)}" for block in self.found.blocks if block.shared]

    @property
    def defaults(self) -> list[str]:
        """By block, the inputs of the graph whose defaults are its constants."""
        return [f"{block.node}: {', '.join(block.defaults)}" for block in self.found.blocks if block.defaults]

    @property
    def verdict(self) -> str:
        """In one line, how many blocks were found."""
        return self.found.verdict

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
            "near_misses": [miss.as_dict() for miss in self.found.near_misses],
            "specialised": self.specialised,
            "disagreements": list(self.disagreements),
        }


def inspect(file: str | os.PathLike[str], *, on_progress: Callable[[str], None] | None = None) -> Inspection:
    """The SimAM blocks of an ONNX file, what comes close to one, and whether the compiled kernel takes them.

    The file is run once, in a process with limits, if it has operators of ours.
    Raises ModelFileError for what cannot be read.
    """
    say = on_progress or (lambda _: None)
    path = Path(file)
    proto, model = onnx_file.both(path)
    with onnx_file.blaming(path):
        found = find.find(model, lambda node: say(f"prove the block at {node}"))
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
