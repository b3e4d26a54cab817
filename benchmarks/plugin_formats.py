"""The formats that TensorRT-RTX's builder asks our plugin for, and the layers around it. No GPU is needed.

    python -m benchmarks.plugin_formats                 prints, keeps, writes the table of the page
    python -m benchmarks.plugin_formats digits scenes   these networks alone
    python -m benchmarks.plugin_formats --table         writes that table anew

A plugin in Python with the names, inputs and formats of ours takes its place and writes down the questions. It is
configured once for each format that it accepts, and the builder then picks one in silence: this is not seen, nor are
its reformats.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.matrix import FEW, PRECISION
from benchmarks.page import grid, put
from benchmarks.pixels import NETWORKS
from benchmarks.record import RESULTS, Growing
from simam_deploy.cli import render
from simam_deploy.engines.our_functions import settle
from simam_deploy.engines.plugin_host import environment_for
from simam_deploy.formula import OP_DOMAIN, OP_NAME, OPS
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.wanted import Wanted

PAGE = Path(__file__).parents[1] / "docs/howto/tensorrt.md"
NAME = "plugin_formats"
ONE = "--one"
ACCEPTED = {
    "FLOAT": ("LINEAR", "HWC", "CHW32"),
    "HALF": ("LINEAR", "HWC8", "HWC16"),
    "BF16": ("LINEAR", "HWC8"),
    "INT8": ("LINEAR", "CHW4", "CHW32", "HWC16"),
}
"""By our plugin, with 4 dimensions: those of docs/howto/tensorrt.md."""


def main(arguments: Sequence[str]) -> None:
    """See the head of this file."""
    if arguments and arguments[0] == ONE:
        print(json.dumps(seen(Path(arguments[1]))))
        return
    networks = [name for name in arguments if not name.startswith("-")] or list(NETWORKS)
    if "--table" not in arguments:
        kept = Growing(RESULTS / f"{NAME}.jsonl")
        with render.progress() as say, tempfile.TemporaryDirectory() as folder:
            for network in networks:
                source, low = (Path(folder, f"{network}.{kind}.onnx") for kind in ("source", "low"))
                NETWORKS[network].export(source, say)
                samples = NETWORKS[network].samples(source).fewer(FEW)
                for precision in PRECISION:
                    say(f"{network}: {precision}")
                    if precision != "fp32":
                        convert_file(source, low, Wanted(precision, target="tensorrt"), samples)
                    row = {"network": network, "precision": precision}
                    row |= _apart(source if precision == "fp32" else low)
                    print(row, flush=True)
                    kept.add(row)
    put(PAGE, "\n".join(_table()))


def _apart(model: Path) -> dict[str, Any]:
    """`seen` in a process that can parse plugin nodes."""
    command = [sys.executable, "-m", "benchmarks.plugin_formats", ONE, str(model)]
    with tempfile.TemporaryDirectory() as links:
        done = subprocess.run(command, env=environment_for(Path(links)), stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def seen(model: Path) -> dict[str, Any]:
    """Types and neighbours of the plugin's layers, and the formats that a build for sm86 asks and configures."""
    import tensorrt_rtx as trt

    asked: Counter[str] = Counter()
    configured: Counter[str] = Counter()
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    creators = [_creator(trt, op, asked, configured) for op in OPS]  # the registry does not keep them
    for creator in creators:
        trt.get_plugin_registry().register_creator(creator, OP_DOMAIN)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    proto = onnx.load(model)
    settle(proto, plugin=True)
    if not parser.parse(proto.SerializeToString(), str(model)):
        raise RuntimeError(str(parser.get_error(0)))
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    from_layer = {layer.get_output(0).name: layer.type.name for layer in layers}
    plugins = [layer for layer in layers if layer.type == trt.LayerType.PLUGIN_V3]
    results = {layer.get_output(0).name for layer in plugins}
    inputs = [(layer, layer.get_input(at)) for layer in layers for at in range(layer.num_inputs)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return {
        "plugins": len(plugins),
        "types": sorted({layer.get_input(0).dtype.name for layer in plugins}),
        "from": Counter(from_layer.get(layer.get_input(0).name, "input") for layer in plugins),
        "to": Counter(layer.type.name for layer, tensor in inputs if tensor is not None and tensor.name in results),
        "built": builder.build_serialized_network(network, config) is not None,
        "asked": asked,
        "configured": configured,
    }


def _creator(trt: Any, op: str, asked: Counter[str], configured: Counter[str]) -> Any:
    kind = trt.PluginFieldType.FLOAT32

    class Recorder(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
        def __init__(self) -> None:
            for base in Recorder.__bases__:
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version, self.num_outputs = op, OP_DOMAIN, "1", 1

        def get_capability_interface(self, _: Any) -> Any:
            return self

        def get_output_data_types(self, types: list[Any]) -> list[Any]:
            return [types[0]]

        def get_output_shapes(self, inputs: list[Any], *_: Any) -> list[Any]:
            return [trt.DimsExprs(inputs[0])]

        def supports_format_combination(self, at: int, tensors: list[Any], _: int) -> bool:
            x, one = tensors[0].desc, tensors[at].desc
            if op != OP_NAME and at in (1, 2):  # scale and bias
                return (one.type.name, one.format.name) == ("FLOAT", "LINEAR")
            if at == 0:
                asked[f"{one.type.name} {one.format.name}"] += 1
            same = (one.type, one.format) == (x.type, x.format)
            return same and one.format.name in ACCEPTED.get(one.type.name, ())

        def configure_plugin(self, inputs: list[Any], _: list[Any]) -> None:
            configured[f"{inputs[0].desc.type.name} {inputs[0].desc.format.name}"] += 1

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection([trt.PluginField("e_lambda", np.zeros(1, np.float32), kind)])

        def clone(self) -> Any:
            return Recorder()

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = op, OP_DOMAIN, "1"
            self.field_names = trt.PluginFieldCollection([trt.PluginField("e_lambda", np.array([]), kind)])

        def create_plugin(self, *_: Any) -> Any:
            return Recorder()

    return Creator()


def _table() -> list[str]:
    run = json.loads((RESULTS / f"{NAME}.jsonl").read_text().splitlines()[-1])
    head = ["network", "types", "plugins", "x is", "made by", "read by", "asked for", "configured with"]
    rows = [
        [
            *(row["network"], row["precision"], str(row["plugins"]), ", ".join(row["types"])),
            *(", ".join(f"{count} {kind}" for kind, count in row[side].items()) for side in ("from", "to")),
            *(", ".join(sorted(row[formats])) for formats in ("asked", "configured")),
        ]
        for row in run["rows"]
    ]
    versions = f"TensorRT-RTX {run['versions']['tensorrt-rtx-cu13']}, {run['date']}, built for sm86."
    return [*grid(head, rows, "---"), "", versions]


if __name__ == "__main__":
    main(sys.argv[1:])
