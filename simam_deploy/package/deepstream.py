"""DeepStream: the configuration of nvinfer for an engine that trtexec built."""

from __future__ import annotations

from pathlib import Path

import onnx

from simam_deploy.errors import InputError
from simam_deploy.package import trtexec
from simam_deploy.package.facts import Facts
from simam_deploy.package.quoting import key_file, on_one_command_line, printable
from simam_deploy.package.versions import TensorRT

FLOAT32 = 0
"""Of network-mode. 1 is int8 and 2 is float16."""
OTHER = 100
"""Of network-type: nvinfer hands the outputs on as they are."""
RANK = 4


def config(facts: Facts, version: TensorRT, engine: Path, plugin: Path | None) -> str:
    """The section [property]. Raises InputError for inputs that nvinfer cannot feed."""
    shape = _image(facts)
    trt = on_one_command_line("trtexec", trtexec.building(facts, version, engine, plugin))
    file = key_file(printable("the file", facts.path))
    typed = facts.precision != "fp32"
    return "\n".join(
        (
            f"# nvinfer for {facts.title}",
            "# Checked as text alone: no DeepStream has read it.",
            "# Paths are relative to this file. Build the engine first, on the GPU that runs it:",
            f"#   {trt}",
            *facts.remarks,
            "# With model-engine-file nvinfer builds nothing, so network-mode does not change the engine's types.",
            "[property]",
            "gpu-id=0",
            "gie-unique-id=1",
            f"model-engine-file={key_file(printable('the engine', engine))}",
            *(
                (
                    f"# nvinfer's own build would not keep {facts.precision}: without onnx-file, an engine that it "
                    "cannot load is an error.",
                    f"# onnx-file={file}",
                )
                if typed
                else (f"onnx-file={file}",)
            ),
            f"network-mode={FLOAT32}",
            f"batch-size={_batch(facts)}",
            f"infer-dims={';'.join(map(str, shape[1:]))}",
            f"network-type={OTHER}",
            "output-tensor-meta=1",
            *((f"custom-lib-path={key_file(printable('the plugin', plugin))}",) if plugin is not None else ()),
            "# Of your network: net-scale-factor, offsets, model-color-format; for a detector network-type=0 and",
            "# the function that reads its boxes.",
            "",
        )
    )


def notes(facts: Facts, version: TensorRT, plugin: Path | None) -> list[str]:
    """Remarks of trtexec's build, and on the library."""
    found = trtexec.notes(facts, version, plugin)
    if plugin is not None:
        found.append(
            "nvinfer opens custom-lib-path and registers nothing: name the library that registers itself "
            f"(autoreg) for TensorRT {version.release[0]}; docs/howto/tensorrt.md"
        )
    return found


def _image(facts: Facts) -> tuple[int, ...]:
    """Shape of the only input."""
    what = ", ".join(f"{tensor.name} {facts.best(tensor)}" for tensor in facts.inputs)
    if len(facts.inputs) != 1 or len(facts.best(facts.inputs[0])) != RANK:
        raise InputError(f"nvinfer feeds one input of images, (N, C, H, W); {facts.path} has {what or 'none'}")
    (image,) = facts.inputs
    if image.dtype != onnx.TensorProto.FLOAT:
        raise InputError(
            f"nvinfer feeds float32, and input {image.name!r} is {onnx.TensorProto.DataType.Name(image.dtype)}\n"
            "convert the file with --keep-io, which leaves inputs and outputs in float32"
        )
    return facts.best(image)


def _batch(facts: Facts) -> int:
    (image,) = facts.inputs
    return facts.profiles[image.name].max[0] if image.name in facts.profiles else facts.best(image)[0]
