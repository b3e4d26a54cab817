"""Ahead-of-time plugins on a fake TensorRT: what is registered, what it answers, and what is refused."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import ahead, fake_tensorrt
from helpers.ahead import A100, CUDA, H200, Echo, bits, built, case, model, number
from onnx import helper

from simam_deploy.errors import BuildError, InputError, NoBlockError, RuntimeUnavailable, ShapeError, SimAMDeployError
from simam_deploy.experimental.ahead_of_time import Options, build, compiler, plugin, register, source
from simam_deploy.experimental.ahead_of_time.build import mark
from simam_deploy.formula import OPS


@pytest.fixture(scope="module", autouse=True)
def planner() -> None:
    ahead.need_planner()


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(plugin, "_registered", {})
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # undone at the end, whatever `module` puts there
    return fake_tensorrt.module()


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    made = Echo()
    monkeypatch.setattr(compiler, "find", lambda asked: made)
    return made


# What TensorRT gets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPS)
def test_arguments_and_launch(name: str, tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    kernels = built(tmp_path, trt, model(name, (2, 24, 14, 14), e_lambda=0.1), Options(H200))
    plugins = register(trt, Options(H200))
    inputs = plugin.input_names(OPS[name])
    full = {"SimAM": 2, "SimAMAffine": 4, "SimAMAffineAdd": 5}[re.sub("Relu|Silu", "", name)]
    assert len(kernels) >= 2
    for each in kernels:
        kernel = plugins.kernels[each["name"]]
        entry = re.search(r"SIMAM_ENTRY\(([^)]*)\)", kernel.source.text)
        assert entry
        assert [part.split()[-1] for part in entry[1].split(",")] == [*inputs, "y"]
        ptx = compiler.read(each["ptx"])
        assert ptx.parameters == ("u64",) * full
        assert ptx.entry == each["name"]
        assert each["extra"] == 0  # all numbers are in the kernel
        sizes = [each[f"{what}_{axis}"] for what in ("grid", "block") for axis in "xyz"]
        assert sizes == [kernel.source.blocks, 1, 1, kernel.source.threads, 1, 1]
        assert each["shared_mem"] == kernel.source.shared
        assert number(kernel.source.text, "lambda") == bits(0.1)


def test_layouts_types_and_tactics(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    kernels = built(tmp_path, trt, model("SimAMAffineAdd", (2, 20, 56, 56), "BF16"), Options(H200))
    assert {tuple(each["types"]) for each in kernels} == {("BF16", "FLOAT", "FLOAT", "BF16", "BF16")}
    got = {(each["formats"][0], each["tactic"]) for each in kernels}
    assert got == {("LINEAR", 1), ("LINEAR", 2), ("HWC8", 2)}  # 3136 pixels of 8 channels: more than one block holds
    for each in kernels:
        assert each["formats"] == [each["formats"][0], "LINEAR", "LINEAR", each["formats"][0], each["formats"][0]]
        text = register(trt, Options(H200)).kernels[each["name"]].source.text
        assert number(text, "group") == (1 if each["formats"][0] == "LINEAR" else 24)
        assert number(text, "channels") == 20


def test_float32_is_linear_and_an_a100_has_no_clusters(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    kernels = built(tmp_path, trt, model("SimAM", (2, 24, 56, 56), "FP32"), Options(A100))
    assert [(each["formats"], each["tactic"]) for each in kernels] == [(["LINEAR", "LINEAR"], 1)]
    assert ".reqnctapercluster" not in kernels[0]["ptx"]


def test_tactics_may_be_left_out(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    options = Options(H200, tactics=("registers",))
    kernels = built(tmp_path, trt, model("SimAM", (1, 64, 56, 56)), options)
    assert [(each["formats"][0], each["tactic"]) for each in kernels] == [("LINEAR", 1)]
    with pytest.raises(InputError, match="no tactic 'fast'; there are registers, cluster"):
        Options(tactics=("registers", "fast"))


def test_lambda_makes_another_kernel(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    options = Options(A100)
    lambdas = {}
    for given in ({"e_lambda": 0.1}, {"e_lambda": 0.2}, {"e_lambda": 0.1}, {}):
        (made,) = built(tmp_path, trt, model("SimAM", (1, 8, 13, 13), "FP32", **given), options)
        lambdas[made["name"]] = number(register(trt, options).kernels[made["name"]].source.text, "lambda")
    assert list(lambdas.values()) == [bits(0.1), bits(0.2), bits(1e-4)]


def test_the_network_is_strongly_typed_and_ahead_of_time(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    onnx.save(model("SimAM", (1, 8, 14, 14)), tmp_path / "m.onnx")
    report = build(tmp_path / "m.onnx", tmp_path / "m.engine", tensorrt=trt, options=Options(A100))
    flags = trt.NetworkDefinitionCreationFlag
    wanted = 1 << flags.STRONGLY_TYPED | 1 << flags.PREFER_AOT_PYTHON_PLUGINS
    assert json.loads(report.path.read_bytes())["flags"] == wanted
    assert report.nodes == 1
    assert {each.by for each in report.kernels} == {"echo"}


def test_nodes_are_marked_and_fallback_definitions_are_out() -> None:
    proto = model("SimAM", (1, 8, 14, 14), e_lambda=0.1)
    outer = helper.make_function(
        "other", "Twice", ["a"], ["c"],
        [helper.make_node("SimAM", [a], [b], domain="simam") for a, b in ("ab", "bc")],
        proto.opset_import,
    )  # fmt: skip
    proto.functions.append(outer)
    proto.opset_import.append(helper.make_opsetid("other", 1))
    proto.graph.node[0].output[0] = "m"
    proto.graph.node.append(helper.make_node("Twice", ["m"], ["y"], domain="other"))
    marked, count = mark(proto)
    assert count == 3
    assert not marked.functions
    for node, e_lambda in zip(marked.graph.node, (0.1, 1e-4, 1e-4), strict=True):
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        assert attributes == {"e_lambda": pytest.approx(e_lambda), "plugin_namespace": b"simam", "aot": 1}


# What is refused ---------------------------------------------------------------------------------------------------


def test_dynamic_shapes(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    with pytest.raises(ShapeError, match=r"-1x8x14x14.*#4849.*fixed sizes.*libsimam_tensorrt.so"):
        built(tmp_path, trt, model("SimAM", ("n", 8, 14, 14)), Options(A100))
    assert not (tmp_path / "m.engine").exists()


def test_planes_too_large(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    with pytest.raises(BuildError, match=r"(?s)1x2x640x640 FP32 LINEAR, tactic registers.*libsimam_tensorrt.so"):
        built(tmp_path, trt, model("SimAM", (1, 2, 640, 640), "FP32"), Options(H200))


@pytest.mark.parametrize(
    ("name", "inputs", "kind", "words"),
    [
        ("SimAM", [(1, 8, 7, 7)], "INT8", "SimAM of .*only for FP32, FP16, BF16"),
        ("SimAM", [(1, 8, 49)], "HALF", r"1x8x49; it takes \(N, C, H, W\)"),
        ("SimAMAffine", [(1, 8, 7, 7), (8,), (4,)], "HALF", "bias of a SimAM node is 4, and x 1x8x7x7; 8 fits"),
        ("SimAM", [(1, 8, 1, 1)], "HALF", "0/0"),
    ],
)
def test_inputs_that_do_not_fit(name: str, inputs: Any, kind: str, words: str, trt: ModuleType, echo: Echo) -> None:
    plugins = register(trt, Options(A100))
    creator = trt.registry.get_creator(name, "1", "simam")
    field = fake_tensorrt.PluginField("e_lambda", np.array([0.1], np.float32))
    aot = trt.QuickPluginCreationRequest.STRICT_AOT
    made = creator.create_plugin(name, "simam", [field], trt.TensorRTPhase.BUILD, aot)
    with pytest.raises(SimAMDeployError, match=words) as raised:
        fake_tensorrt.ask(trt, made, [(shape, trt.DataType[kind]) for shape in inputs])
    assert plugins.refusal is raised.value


@pytest.mark.parametrize(
    ("version", "name", "words"),
    [
        ("10.8.0.43", "tensorrt", r"TensorRT 10.8.0.43 has no ahead-of-time plugins, which came with 10.9.*libsimam"),
        ("8.6.1", "tensorrt", "TensorRT 8.6.1 has no"),
        ("1.7.1.116", "tensorrt_rtx", "TensorRT-RTX 1.7.1.116 has no ahead-of-time plugins"),
    ],
)
def test_versions(version: str, name: str, words: str) -> None:
    old = ModuleType(name)
    old.__version__ = version  # type: ignore[attr-defined]
    with pytest.raises(RuntimeUnavailable, match=words):
        register(old)


def test_a_newer_tensorrt_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = ModuleType("tensorrt")
    bare.__version__ = "10.9.0.34"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", bare)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", None)
    with pytest.raises(RuntimeUnavailable, match=r"10.9.0.34 has no tensorrt.plugin here"):
        register(bare)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", ModuleType("tensorrt.plugin"))
    with pytest.raises(RuntimeUnavailable, match="lacks aot_impl, KernelLaunchParams, SymIntExprs"):
        register(bare)


def test_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RuntimeUnavailable, match=r"no TensorRT here .*10.9 or newer.*simam-deploy\[ahead-of-time\]"):
        register()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("tensorrt",), r"takes the imported module .*register\(tensorrt\).*got 'tensorrt'"),
        ((Options(A100),), r"takes the imported module .*got Options\("),
        ((None, {"device": A100}), r"options is \{'device': .*must be an ahead_of_time.Options"),
    ],
)
def test_what_register_does_not_take(given: tuple[Any, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=words):
        register(*given)
    onnx.save(model("SimAM", (1, 8, 14, 14)), tmp_path / "m.onnx")
    with pytest.raises(TypeError, match=words):
        build(tmp_path / "m.onnx", tmp_path / "m.engine", **dict(zip(("tensorrt", "options"), given, strict=False)))


def test_registered_once(trt: ModuleType) -> None:
    first = register(trt, Options(A100))
    assert register(trt, Options(A100)) is first
    with pytest.raises(InputError, match="another process"):
        register(trt, Options(H200))


def test_ptx_that_the_driver_does_not_load(tmp_path: Path, trt: ModuleType, echo: Echo) -> None:
    with pytest.raises(BuildError, match=r"echo writes PTX 9.0, and the driver .* takes 8.5 at most"):
        built(tmp_path, trt, model("SimAM", (1, 8, 14, 14)), Options(H200, newest_ptx=(8, 5)))


def test_ptx_that_cannot_be_launched(trt: ModuleType) -> None:
    one = case(shape=(1, 64, 224, 224), tactic=2)
    made = source.source_of(one, H200)
    good = Echo()(made.text, entry="e", capability=90, headers=CUDA)
    plugin.check(good, one, made, "e", (9, 0), "it")
    for change in ({"entry": "f"}, {"parameters": ("u64",)}, {"cluster": 1}, {"shared": 48 * 1024}):
        bad = compiler.Ptx(**{**good.__dict__, **change})
        with pytest.raises(BuildError, match=next(iter(change)).replace("shared", "memory beyond 48 KB")):
            plugin.check(bad, one, made, "e", (9, 0), "it")


def test_a_model_without_simam_and_a_parser_that_does_not_take_it(
    tmp_path: Path, trt: ModuleType, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = model("SimAM", (1, 8, 14, 14))
    monkeypatch.setattr(trt.OnnxParser, "parse", lambda self, data, path: True)
    with pytest.raises(BuildError, match="made 0 plugins of the 1 SimAM nodes"):
        built(tmp_path, trt, proto, Options(A100))
    monkeypatch.setattr(trt.OnnxParser, "parse", lambda self, data, path: False)
    with pytest.raises(BuildError, match=r"(?s)cannot parse .*fake error 0"):
        built(tmp_path, trt, proto, Options(A100))
    proto.graph.node[0].CopyFrom(helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(NoBlockError, match="simam-deploy fuse"):
        built(tmp_path, trt, proto, Options(A100))


def test_a_compiler_that_is_not_there(tmp_path: Path, trt: ModuleType) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"compiler .*, which is a folder; name nvcc or libnvrtc"):
        built(tmp_path, trt, model("SimAM", (1, 8, 14, 14)), Options(A100, compiler=tmp_path))
    assert not (tmp_path / "m.engine").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tactics": ()}, "tactics is empty"),
        ({"newest_ptx": "8.5"}, "two integers"),
        ({"newest_ptx": 8.5}, "two integers"),
        ({"newest_ptx": ("8", "5")}, "two integers"),
        ({"newest_ptx": (8, -5)}, "two integers"),
        ({"device": 0}, "device is 0; it must be an ahead_of_time.Device, or None"),
        ({"device": "H200"}, "device is 'H200'; it must be an ahead_of_time.Device"),
        ({"compiler": 13}, "compiler is 13; it must be the path of libnvrtc or nvcc, or None"),
        ({"compiler": b"nvcc"}, "compiler is b'nvcc'; it must be the path"),
    ],
)
def test_options_that_are_none(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Options(**options)
