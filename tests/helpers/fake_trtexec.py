"""A stand-in for trtexec: its options, its files and its words as its source has them, an engine that is none.

The output is that of onnx.reference. FAKE_TRTEXEC names how it is to misbehave: see MOODS.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

MOODS = (
    "",
    "body",  # the parser expands the body
    "reformat",  # a reformat on either side of the plugin
    "refuse",  # the parser knows no SimAM
    "hang",  # the build takes long
    "names",  # the engine has the names of its layers alone
    "wrong",  # the output is off by one
    "nan",  # the output is not a number
    "silent",  # it dies without a word
    "old",  # TensorRT 8.6.1
    "other",  # no trtexec at all
    "eleven",  # TensorRT 11.1, which has no option --stronglyTyped here
)
MOOD = os.environ.get("FAKE_TRTEXEC", "")
VERSION = {"old": "8601", "eleven": "110100"}.get(MOOD, "101303")
OF_10 = ["--stronglyTyped", "--useCudaGraph", "--noDataTransfers", "--useSpinWait", "--separateProfileRun"]
KINDS = {"Conv": "CaskConvolution", "SimAM": "PluginV3", "ReduceMean": "Reduce", "ReduceSum": "Reduce"}
TYPES = {"float32": "FP32", "float16": "FP16"}


def main() -> None:
    asked = parse()
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{VERSION}] [b9] # {' '.join(sys.argv)}" * (MOOD != "other"))
    if asked.help:
        return
    assert asked.profilingVerbosity == "detailed"
    print("[11/23/2026-05:00:00] [I] Selected Device: NVIDIA Stand-in")
    if asked.onnx:
        assert asked.skipInference
        assert asked.noTF32
        build(asked)
    else:
        load(asked)
    print(f"&&&& PASSED TensorRT.trtexec [TensorRT v{VERSION}] [b9] # {' '.join(sys.argv)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags = ["--help", "--skipInference", "--noTF32", "--dumpRawBindingsToFile"]
    for flag in [*flags, *(OF_10 if MOOD != "eleven" else [])]:
        parser.add_argument(flag, action="store_true")
    names = ["onnx", "saveEngine", "loadEngine", "loadInputs", "dynamicPlugins", "profilingVerbosity"]
    for name in [*names, "exportLayerInfo", "exportProfile", "exportTimes"]:
        parser.add_argument(f"--{name}", default="")
    asked, unknown = parser.parse_known_args()
    if unknown:
        fail(*(f"Unknown option: {option} " for option in unknown))
    return asked


def fail(*words: str) -> None:
    for line in words:
        print(f"[11/23/2026-05:00:00] [E] {line}", file=sys.stderr)
    print("[11/23/2026-05:00:00] [I] Set shape of input tensor\n" * 20, file=sys.stderr)
    sys.exit(1)


def build(asked: argparse.Namespace) -> None:
    if MOOD == "hang":
        time.sleep(8)
    if MOOD == "silent":
        sys.exit(139)
    import onnx

    custom = any(node.domain == "simam" for node in onnx.load(asked.onnx).graph.node)
    if custom and (not asked.dynamicPlugins or MOOD == "refuse"):
        fail("Error Code 4: no importer registered for op: SimAM.", "Failed to parse onnx file")
    Path(asked.saveEngine).write_text(json.dumps({"onnx": asked.onnx, "plugin": custom}))


def load(asked: argparse.Namespace) -> None:
    engine = json.loads(Path(asked.loadEngine).read_text())
    if engine["plugin"] and not asked.dynamicPlugins:
        fail("IRuntime::deserializeCudaEngine: could not find plugin creator SimAM")
    run(asked, engine["onnx"])
    layers = layers_of(engine["onnx"])
    names = [layer["Name"] for layer in layers]
    text = json.dumps({"Layers": names if MOOD == "names" else layers, "Bindings": ["x"]})
    Path(asked.exportLayerInfo).write_text(text.replace("\\u001e", "\x1e"))
    rows = [f', {{ "name" : "{name}", "timeMs" : 1.5, "averageMs" : 0.02, "medianMs" : 0.01 }}' for name in names]
    Path(asked.exportProfile).write_text("\n".join(['[\n  { "count" : 75 }', *rows, "]"]))
    times = [{"startComputeMs": 0, "computeMs": ms, "latencyMs": 2 * ms} for ms in (0.25, 0.125, 0.5)]
    Path(asked.exportTimes).write_text(json.dumps(times))


def run(asked: argparse.Namespace, onnx_file: str) -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class SimAM(OpRun):
        op_domain = "simam"

        def _run(self, x: np.ndarray, e_lambda: float = 1e-4, **_: str) -> tuple[np.ndarray]:
            wide = x.astype(np.float64)
            d = (wide - wide.mean((2, 3), keepdims=True)) ** 2
            e = d / (4 * (d.sum((2, 3), keepdims=True) / (d[0, 0].size - 1) + e_lambda)) + 0.5
            return ((wide / (1 + np.exp(-e))).astype(x.dtype),)

    model = onnx.load(onnx_file)
    files = dict(pair.rsplit(":", 1) for pair in asked.loadInputs.split(","))
    feeds = {}
    for x in model.graph.input:
        kind = x.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[x.name] = np.fromfile(files[x.name], dtype).reshape([size.dim_value for size in kind.shape.dim])
    assert asked.dumpRawBindingsToFile
    for spec, result in zip(
        model.graph.output, ReferenceEvaluator(model, new_ops=[SimAM]).run(None, feeds), strict=True
    ):
        y = result + result.dtype.type({"wrong": 1, "nan": np.nan}.get(MOOD, 0))
        y.tofile(f"{spec.name}.output.{'.'.join(map(str, y.shape))}.{TYPES[str(y.dtype)]}.raw")


Layer = dict[str, Any]


def layers_of(onnx_file: str) -> list[Layer]:
    """A layer per node, but one for what is pointwise in a row."""
    import onnx

    graph = onnx.load(onnx_file).graph
    layers = []
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    for kind, several in groupby(nodes, lambda node: KINDS.get(node.op_type, "PointWiseV2")):
        for part in [list(several)] if kind == "PointWiseV2" else ([node] for node in several):
            layers += layer(kind, part)
    return layers


def layer(kind: str, nodes: list[Any]) -> list[Layer]:
    def tensor(name: str, format: str) -> Layer:
        return {"Name": name, "Location": "Device", "Dimensions": [1], "Format/Datatype": format}

    def one(name: str, kind: str, metadata: str, x: Layer, y: Layer) -> Layer:
        return {"Name": name, "LayerType": kind, "Inputs": [x], "Outputs": [y], "Metadata": metadata}

    plain, wide = "Row major linear FP32", "Channel major FP16 format where channel % 8 == 0"
    name = " + ".join(node.name for node in nodes)
    metadata = "\x1e".join(f"[ONNX Layer: {node.name}]" for node in nodes)
    x, y = nodes[0].input[0], nodes[-1].output[0]
    if kind == "PluginV3" and MOOD == "body":
        inner = [one(f"{name}/mean", "Reduce", metadata, tensor(x, plain), tensor(f"{name}.mean", plain))]
        return [*inner, one(f"PWN({name}/gate)", "PointWiseV2", metadata, inner[0]["Outputs"][0], tensor(y, plain))]
    if kind == "PluginV3" and MOOD == "reformat":
        copies = [f"Reformatting CopyNode for {end} Tensor 0 to {name}" for end in ("Input", "Output")]
        before = one(copies[0], "Reformat", "", tensor(x, plain), tensor(f"{x} copy", wide))
        after = one(copies[1], "Reformat", "", tensor(f"{y} copy", wide), tensor(y, plain))
        return [before, one(name, kind, metadata, before["Outputs"][0], after["Inputs"][0]), after]
    return [one(name, kind, metadata, tensor(x, plain), tensor(y, plain))]


main()
