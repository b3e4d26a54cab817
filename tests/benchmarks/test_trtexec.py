"""`python -m benchmarks.tensorrt` with a stand-in for trtexec, and what reads trtexec's files, on files by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.tensorrt import layers, trtexec  # noqa: E402
from simam_deploy.errors import BuildError  # noqa: E402

FAKE = Path(__file__).parents[1] / "helpers/fake_trtexec.py"
F16 = "Channel major FP16 format where channel % 8 == 0"
F32 = "Row major linear FP32"
Layer = dict[str, object]


def layer(name: str, kind: str, x: str, y: str, nodes: str = "", formats: tuple[str, str] = (F16, F16)) -> Layer:
    """As IEngineInspector writes one. nodes : the ONNX nodes, with spaces between."""
    tensors = [
        [{"Name": each, "Location": "Device", "Dimensions": [4, 64, 112, 112], "Format/Datatype": format}]
        for each, format in zip((x, y), formats, strict=True)
    ]
    metadata = "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes.split())
    return {
        "Name": name, "LayerType": kind, "Inputs": tensors[0], "Outputs": tensors[1], "TacticValue": "0x0",
        "StreamId": 0, "Metadata": metadata,
    }  # fmt: skip


def read(tmp_path: Path, *several: Layer) -> list[layers.Layer]:
    path = tmp_path / "layers.json"
    text = json.dumps({"Layers": several, "Bindings": ["x", "y"]})
    path.write_text(text.replace("\\u001e", "\x1e"))
    return layers.read_layers(path)


CONV = layer("/conv1", "CaskConvolution", "x", "a", "/conv1")
AFTER = layer("/conv2 + /relu", "CaskConvolution", "b", "y", "/conv2 /relu")
PLUGIN = layer("/simam", "PluginV3", "a", "b", "/simam")
COPIES = (
    layer("Reformatting CopyNode for Input Tensor 0 to /simam", "Reformat", "a", "a2", "", (F16, F32)),
    layer("/simam", "PluginV3", "a2", "b2", "/simam", (F32, F32)),
    layer("Reformatting CopyNode for Output Tensor 0 to /simam", "Reformat", "b2", "b", "", (F32, F16)),
)
OTHERS = ["/conv1", "/conv2", "/relu", "/simam2"]


def test_a_plugin(tmp_path: Path) -> None:
    found = layers.block(read(tmp_path, CONV, PLUGIN, AFTER), ["/simam"], OTHERS)
    assert found.by_plugin
    assert (found.words, found.formats, found.reformats) == ("PluginV3", ("FP16 HWC8", "FP16 HWC8"), ())


def test_reformats_beside_it(tmp_path: Path) -> None:
    far = layer("Reformatting CopyNode for Input Tensor 0 to /conv1", "Reformat", "image", "x")
    free = layer("Reformatting CopyNode for Output Tensor 0 to /simam ", "NoOp", "b", "c")
    found = layers.block(read(tmp_path, far, CONV, *COPIES, free, AFTER), ["/simam"], OTHERS)
    assert found.by_plugin
    assert [each.name.split()[3] for each in found.reformats] == ["Input", "Output"]
    assert found.formats == ("FP32 linear", "FP32 linear")
    profile = {"/simam": 5.0, COPIES[0]["Name"]: 2.0, COPIES[2]["Name"]: 3.0}
    assert layers.time_of(found.layers, profile) == 5  # type: ignore[arg-type]
    assert layers.time_of((*found.layers, *found.reformats), profile) == 10  # type: ignore[arg-type]


def test_a_reformat_that_names_no_node_is_found_by_its_tensors(tmp_path: Path) -> None:
    cast = layer("a copy", "Reformat", "a", "a2")
    found = layers.block(read(tmp_path, CONV, cast, COPIES[1]), ["/simam"], OTHERS)
    assert [each.name for each in found.reformats] == ["a copy"]


def test_primitives(tmp_path: Path) -> None:
    nodes = ["/simam", "/simam/mean", "/simam/c", "/simam/sum", "/simam/gate"]
    several = [
        layer("/simam/mean", "Reduce", "a", "m", "/simam/mean", (F32, F32)),
        layer("PWN(/simam/c, /simam/d)", "PointWiseV2", "a", "d", ""),
        layer("/simam/sum", "Reduce", "d", "s", "/simam/sum"),
    ]
    found = layers.block(read(tmp_path, CONV, *several, AFTER), nodes, OTHERS)
    assert not found.by_plugin
    assert found.words == "3: Reduce (2), PointWiseV2"
    assert found.formats == ("FP32 linear", "FP16 HWC8")
    assert layers.time_of(found.layers, {"/simam/mean": 1.0}) is None
    assert layers.time_of([], {}) is None


@pytest.mark.parametrize(
    "whole",
    [
        layer("{ForeignNode[/conv1.../simam/gate]}", "Myelin", "x", "y", ""),
        layer("__myl_Fused", "kgen", "x", "y", "/relu /simam/gate"),
        layer("/simam", "PluginV3", "x", "y", "/simam /conv1"),
    ],
)
def test_layers_with_other_nodes_in_them(tmp_path: Path, whole: Layer) -> None:
    found = layers.block(read(tmp_path, whole), ["/simam", "/simam/gate"], OTHERS)
    assert found.shared
    assert not found.by_plugin
    assert found.words == f"1: {whole['LayerType']} + others"


def test_names_that_begin_alike_are_not_the_same(tmp_path: Path) -> None:
    other = layer("/simam2", "PluginV3", "a", "b", "/simam2")
    deeper = layer("/net/simam", "PluginV3", "b", "c", "/net/simam")
    found = layers.block(read(tmp_path, other, deeper), ["/simam"], [])
    assert (found.words, found.formats, found.by_plugin) == ("not found", ("-", "-"), False)


@pytest.mark.parametrize("found", [{"Layers": ["/conv1", "/simam"]}, {"Layers": []}, ["/conv1"], {}])
def test_no_details(tmp_path: Path, found: object) -> None:
    (path := tmp_path / "layers.json").write_text(json.dumps(found))
    with pytest.raises(BuildError, match=r"no detailed layers: .*--profilingVerbosity=detailed"):
        layers.read_layers(path)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("Row major linear FP32", "FP32 linear"),
        ("Row major linear FP16 format", "FP16 linear"),
        ("Channel major FP16 format where C % 8 == 0 and H Stride % 32 == 0", "FP16 HWC8"),
        ("Thirty-two wide channel vectorized row major Int8 format", "Int8 CHW32"),
        ("N/A due to dynamic shapes", "N/A due to dynamic shapes"),
        ("", "-"),
    ],
)
def test_formats(words: str, wanted: str) -> None:
    assert layers.short(words) == wanted


def test_profile_and_times(tmp_path: Path) -> None:
    rows = '[ { "count" : 10 }\n, { "name" : "a", "timeMs" : 5, "averageMs" : 0.5, "medianMs" : 0.25 }\n'
    (path := tmp_path / "p.json").write_text(f'{rows}, {{ "name" : "a", "medianMs" : 0.5 }} ]')
    assert layers.read_profile(path) == {"a": 750.0}
    path.write_text('[ { "computeMs" : 0.5, "latencyMs" : 9 }, { "computeMs" : 0.25 }, { "computeMs" : 4 } ]')
    assert layers.read_times(path) == 500
    path.write_text("[]")
    with pytest.raises(BuildError, match="measured nothing"):
        layers.read_times(path)
    for text in ("[ {", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(BuildError, match=r"p\.json is not what trtexec writes"):
            layers.read_profile(path)


def test_an_output(tmp_path: Path) -> None:
    y = np.arange(6, dtype=np.float16)
    y.tofile(tmp_path / "net_y_0.output.2.3.Half.raw")
    y.tofile(tmp_path / "net_y_0.input.2.3.Half.raw")
    np.testing.assert_array_equal(layers.read_output(tmp_path, "net/y:0", y.dtype, (2, 3)), y.reshape(2, 3))
    with pytest.raises(BuildError, match=r"has 12 bytes; float32 of shape"):
        layers.read_output(tmp_path, "net/y:0", np.dtype(np.float32), (2, 3))
    with pytest.raises(BuildError, match=r"no file z\.output.*there is .*net_y_0"):
        layers.read_output(tmp_path, "z", y.dtype, (2, 3))


@pytest.mark.parametrize(
    ("words", "version"),
    [("v100300]", (10, 3, 0)), ("v101303] [b9]", (10, 13, 3)), ("v110100]", (11, 1, 0)), ("v8601]", (8, 6, 1))],
)
def test_versions(words: str, version: tuple[int, ...]) -> None:
    assert trtexec.version_in(f"&&&& RUNNING TensorRT.trtexec [TensorRT {words} # trtexec --help") == version
