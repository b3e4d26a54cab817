"""One call for each job, on what people have: paths of ONNX files, PyTorch modules, arrays.

`simam_deploy` offers these functions by name; the command line makes one such call and prints what it returns.
`adopt`, `export`, `build_engine` and `open_session` are such calls already, and live in their own rooms.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from simam_deploy.api.comparing import verify
from simam_deploy.api.given import OnePath
from simam_deploy.api.layers import inspect_layers
from simam_deploy.api.lowering import analyze, convert
from simam_deploy.api.timing import bench
from simam_deploy.block import Found
from simam_deploy.errors import NoBlockError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.match import find as search
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.rewrite.fused import Fused
from simam_deploy.text import Say

__all__ = ["analyze", "bench", "convert", "find_blocks", "fuse", "inspect_layers", "specialise", "verify"]


def find_blocks(file: OnePath, *, on_progress: Say | None = None) -> Found:
    """The SimAM blocks of an ONNX file with their λ, shapes and forms, and the near misses with their reasons.

    Nothing of the file is run. on_progress is called with the name of a node before the block there is judged.
    Raises ModelFileError for what cannot be read.
    """
    model = onnx_file.load(file)
    with onnx_file.blaming(file):
        return search.find(model, on_progress)


def fuse(
    file: OnePath,
    output: OnePath,
    *,
    form: str | None = None,
    for_runtime: str | None = None,
    repair: bool = False,
    epilogue: bool = False,
    e_lambda: float | OnePath | None = None,
    on_progress: Say | None = None,
) -> Fused:
    """Write each SimAM block of the ONNX file `file` in one form, to `output`, with a manifest at `<output>.json`.

    Everything else keeps its nodes, names, weights, opset and metadata. form, for_runtime, repair, epilogue : as in
    `rewrite.fuse.fuse`, which takes a model in memory.
    e_lambda : λ of all blocks, or the ONNX file that has them, where a converter rounded λ to 16 bits.
    Raises ModelFileError, NoBlockError, FormError, InputError and OutputError; nothing is written then.
    """
    wanted: tuple[float, ...] = ()
    if isinstance(e_lambda, str | os.PathLike):
        wanted = tuple(block.e_lambda for block in find_blocks(e_lambda).blocks)
        if not wanted:
            raise NoBlockError(f"{os.fspath(e_lambda)} holds no SimAM block whose λ could be taken")
    elif e_lambda is not None:
        wanted = (e_lambda,)
    return fuse_file(
        file, output, form, on_progress, for_runtime=for_runtime, repair=repair, epilogue=epilogue, e_lambda=wanted
    )


def specialise(
    file: OnePath,
    output: OnePath,
    *,
    epilogue: bool = True,
    check: bool = True,
    shape: Sequence[StaticShape] | None = None,
    on_progress: Say | None = None,
) -> Fused:
    """Lay the ONNX file `file` out for ONNX Runtime on the CPU of this machine; it runs on such CPUs alone.

    check, shape : compare with the portable file, at these sizes, one per input.
    Raises as `ort_cpu.specialise.specialise`; nothing is written then.
    """
    from simam_deploy.ort_cpu.specialise import specialise_file

    return specialise_file(file, output, on_progress, epilogue=epilogue, check=check, sizes=shape)
