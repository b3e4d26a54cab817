"""Ahead-of-time plugins on a fake TensorRT: what is registered, what it answers, what is refused, and the PTX itself.

The kernels are the library's own templates, which plugins/tests runs on an emulator at every size; here it runs
some of the sources as they are given to the compiler, for the numbers and the order of the arguments in them.
"""

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from simam_deploy import formula
from simam_deploy.ahead_of_time import Device, Options, build, compiler, device, plugin, register, source
from simam_deploy.ahead_of_time.build import mark
from simam_deploy.errors import (
    BuildError,
    InputError,
    NativeError,
    NoBlockError,
    RuntimeUnavailable,
    ShapeError,
    SimAMDeployError,
)
from simam_deploy.formula import OPS

CUDA = Path(__file__).parents[1] / "plugins/cuda"
H200 = Device(132, 90, 60 << 20, (9, 9))
A100 = Device(108, 80, 40 << 20, (9, 9))
TYPES = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


@pytest.fixture(scope="session", autouse=True)
def planner() -> None:
    try:
        source._library()
    except NativeError as error:
        pytest.skip(str(error))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(plugin, "_registered", {})
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # undone at the end, whatever `module` puts there
    return fake_tensorrt.module()


class Echo(compiler.Compiler):
    """Writes PTX with the entry of the source, and nothing in it."""

    version = "9.0"

    def __init__(self) -> None:
        super().__init__(Path("echo"))

    def __call__(self, source: str, *, entry: str, capability: int, headers: Path) -> compiler.Ptx:
        names = re.search(r"SIMAM_ENTRY\(([^)]*)\)", source)
        cluster = re.search(r"__cluster_dims__\((\d+)", source)
        assert names
        parameters = ",".join(f".param .u64 {entry}_{i}" for i in range(names[1].count(",") + 1))
        lines = [f".version {self.version}", f".target sm_{capability}", f".visible .entry {entry}({parameters})"]
        lines += [f".reqnctapercluster {cluster[1]}, 1, 1"] if cluster else []
        return compiler.read("\n".join([*lines, "{ ret; }"]))


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    made = Echo()
    monkeypatch.setattr(compiler, "find", lambda asked: made)
    return made


def model(name: str, shape: tuple[Any, ...], kind: str = "FP16", **attributes: Any) -> onnx.ModelProto:
    """One operator, with a body that nobody may use."""
    op = OPS[name]
    x = helper.make_tensor_value_info("x", TYPES[kind], shape)
    y = helper.make_tensor_value_info("y", TYPES[kind], shape)
    residual = [helper.make_tensor_value_info("r", TYPES[kind], shape)] if op.residual else []
    numbers = [
        helper.make_tensor(each, TensorProto.FLOAT, shape[1:2], [1.0] * shape[1]) for each in "ab" if op.affine
    ]
    inputs = ["x", *(each.name for each in numbers), *(each.name for each in residual)]
    node = helper.make_node(name, inputs, ["y"], name="n", domain="simam", **attributes)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("simam", 1)]
    body = helper.make_function(
        "simam", name, inputs, ["y"], [helper.make_node("Identity", ["x"], ["y"])], opsets[:1]
    )
    body.attribute.extend(["e_lambda"])
    graph = helper.make_graph([node], "g", [x, *residual], [y], numbers)
    return helper.make_model(graph, functions=[body], opset_imports=opsets, ir_version=8)


def built(tmp_path: Path, trt: ModuleType, proto: onnx.ModelProto, options: Options) -> list[dict[str, Any]]:
    onnx.save(proto, tmp_path / "m.onnx")
    build(tmp_path / "m.onnx", tmp_path / "m.engine", tensorrt=trt, options=options)
    kernels: list[dict[str, Any]] = json.loads((tmp_path / "m.engine").read_bytes())["kernels"]
    return kernels


# The plan --------------------------------------------------------------------------------------------------------


def case(
    name: str = "SimAM", shape: Any = (1, 64, 56, 56), kind: str = "FP16", group: int = 1, tactic: int = 1
) -> Any:
    return source.Case(OPS[name], shape, kind, group, 0.1, tactic)


def number(text: str, name: str) -> int:
    found = re.search(rf"p\.{name} = (?:as_float\()?(\w+?)U?\)?;", text)
    assert found, name
    return int(found[1], 0)


def bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def test_the_structures_are_those_of_the_headers() -> None:
    kinds = {"int32_t": 4, "int64_t": 8, "float": 4, "size_t": 8}
    for structure, header in (
        (source.Params, "simam_cuda.h"),
        (source._Device, "ahead.h"),
        (source._Ahead, "ahead.h"),
    ):
        name = {"Params": "SimamParams", "_Device": "SimamDevice", "_Ahead": "SimamAhead"}[structure.__name__]
        body = re.search(rf"struct {name} {{(.*?)\n}};", (CUDA / header).read_text(), re.S)
        assert body
        expected = []
        for kind, names in re.findall(r"^ +(\w[\w ]*[\w*]) (\w[^;]*);", body[1], re.M):
            for each in names.split(", "):
                length = re.search(r"\[(\d+)\]", each)
                size = int(length[1]) if length else 8 if kind.endswith("*") else kinds[kind]
                expected.append((each.split("[")[0], size))
        got = [(field, getattr(structure, field).size) for field, _ in structure._fields_]
        assert got == expected


def test_the_numbers_of_the_source() -> None:
    made = source.source_of(case(shape=(2, 20, 5, 7), kind="FP32"), H200)
    expected = {"pixels": 35, "count": 40, "channels": 20, "lambda": bits(0.1), "per_rest": bits(1 / 34), "first": 0}
    assert {name: number(made.text, name) for name in expected} == expected
    fused = source.source_of(case("SimAMAffineAddSilu"), H200)
    assert number(fused.text, "activation") == 2
    assert "Vectors<F16>" in fused.text
    assert "true>" in fused.text


@pytest.mark.parametrize(
    ("kernel", "start", "has", "cluster"),
    [
        (case(shape=(4, 64, 7, 7)), "Small<F16", "false>", 1),
        (case(shape=(4, 64, 20, 20)), "Planes<Vectors<F16>", "Team::warp, Mode::whole, false>", 1),
        (case(shape=(1, 64, 13, 101)), "Planes<Elements<F16>", "Team::block, Mode::whole, false>", 1),
        (case(shape=(1, 64, 224, 224), tactic=2), "Planes<Vectors<F16>", "Team::block, Mode::cluster, false>", 8),
        (case("SimAMAffine", (3, 20, 14, 14), "BF16", 24), "Tiles<Vectors<BF16>", "Mode::whole, true>", 1),
        (case(shape=(3, 16, 56, 56), group=16, tactic=2), "Tiles<Vectors<F16>", "Mode::cluster, false>", 2),
    ],
    ids=["small", "warp", "odd", "cluster", "tile", "tile-cluster"],
)
def test_the_kernel_that_the_library_would_launch(kernel: Any, start: str, has: str, cluster: int) -> None:
    made = source.source_of(kernel, H200)
    found = re.search(r"^using SimamKernel = (.*);$", made.text, re.M)
    assert found
    assert found[1].startswith(start)
    assert found[1].endswith(has)
    assert made.cluster == cluster
    assert (f"__cluster_dims__({cluster}, 1, 1)" in made.text) == (cluster > 1)
    assert made.blocks % cluster == 0
    assert f"__launch_bounds__({made.threads})" in made.text
    assert number(made.text, "parts") == cluster


def test_one_launch_or_none() -> None:
    with pytest.raises(
        BuildError, match=r"1x2x640x640 FP32 LINEAR, tactic registers: no kernel of this tactic holds"
    ):
        source.source_of(case(shape=(1, 2, 640, 640), kind="FP32"), H200)
    with pytest.raises(BuildError, match="takes two launches and a workspace"):
        source.source_of(case(shape=(1, 2, 640, 640), kind="FP32", tactic=3), H200)
    with pytest.raises(BuildError, match="0/0"):
        source.source_of(case(shape=(1, 2, 1, 1)), H200)


def test_memory_beyond_48_kb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    need = source.source_of(case(shape=(4, 64, 7, 7)), H200).shared
    assert 0 < need <= source.MOST_SHARED
    monkeypatch.setattr(source, "MOST_SHARED", need - 1)
    with pytest.raises(BuildError, match=f"a block needs {need} bytes"):
        source.source_of(case(shape=(4, 64, 7, 7)), H200)


def test_every_header_that_the_source_includes_is_installed() -> None:
    build_file = (CUDA / "CMakeLists.txt").read_text()
    installed = re.search(r"install\(FILES (.*?)\s+DESTINATION simam_deploy/lib/cuda\)", build_file, re.S)
    assert installed
    needed, todo = set[str](), [source.HEADER]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += re.findall(r'#include "(.+)"', (CUDA / name).read_text())
    assert set(installed[1].split()) == needed


# In place of ahead_of_time.cuh: the emulator for the GPU. Each of its threads calls the entry in turn.
HOST = """
#include "small.h"
#include "tiles.h"
#include "../tests/emulator.h"
#define __global__
#define __launch_bounds__(threads)
#define __cluster_dims__(x, y, z)
using View = simam::test::Emulator::View;
inline View const* the_view;
struct Block : View { Block() : View(*the_view) {} };
"""
GO = """
extern "C" void go(void* const* a, int blocks, int threads, int shared, int cluster) {
  simam::test::Emulator emulator;
  emulator.order = simam::test::Order::mixed;
  emulator.launch([&](View const& view) { the_view = &view; SIMAM_ENTRY(%s); }, blocks, threads, shared, cluster);
}
"""


@pytest.mark.parametrize(
    "one",
    [
        case("SimAMAffineAddRelu", (2, 3, 5, 7), "FP32"),
        case("SimAMAffineAddSilu", (1, 3, 64, 96), "FP32", tactic=2),
        case("SimAMAffine", (2, 11, 6, 5), "FP16", 16),
        case("SimAM", (2, 3, 20, 20), "FP16"),
    ],
    ids=str,
)
def test_the_source_computes_the_formula(one: source.Case, tmp_path: Path) -> None:
    if (gxx := shutil.which("g++")) is None:
        pytest.skip("no g++")
    made = source.source_of(one, H200)
    names = [*plugin.input_names(one.op), "y"]
    numbers = ("scale", "bias")
    given_as = [f"static_cast<float const*>(a[{i}])" if n in numbers else f"a[{i}]" for i, n in enumerate(names)]
    (tmp_path / source.HEADER).write_text(HOST)
    (tmp_path / "it.cpp").write_text(made.text + GO % ", ".join(given_as))
    command = [gxx, "-O1", "-std=c++17", "-shared", "-fPIC", "-DSIMAM_ENTRY=simam_it", f"-I{tmp_path}", f"-I{CUDA}"]
    subprocess.run([*command, "-o", tmp_path / "it.so", tmp_path / "it.cpp"], check=True)

    rng = np.random.default_rng(7)
    kind = np.dtype("float32" if one.type == "FP32" else "float16")
    x, residual = (rng.normal(m, 1, one.shape).astype(kind) for m in (0.5, 0))
    scale, bias = (rng.normal(1, 1, one.shape[1]).astype(np.float32) for _ in range(2))
    given = {"x": laid(x, one.group), "residual": laid(residual, one.group), "scale": scale, "bias": bias}
    given["y"] = np.full_like(given["x"], np.nan)
    pointers = (ctypes.c_void_p * len(names))(*(given[name].ctypes.data for name in names))
    ctypes.CDLL(str(tmp_path / "it.so")).go(pointers, made.blocks, made.threads, made.shared, made.cluster)

    exact, within = formula.reference(x, one.e_lambda), formula.tolerance(x, kind, one.e_lambda)
    if one.op.affine:
        more = residual if one.op.residual else 0.0
        within = formula.neighbours_tolerance(within, exact, scale, bias, more, dtype=kind)
        exact = formula.neighbours(exact, scale, bias, more, activation=one.op.activation)
    y = given["y"]
    if one.group > 1:
        assert not y[..., one.shape[1] :].any()  # the padding
        y = y[..., : one.shape[1]].transpose(0, 3, 1, 2)
    assert (np.abs(y - exact) <= within).all()


def laid(x: Any, group: int) -> Any:
    """As it lies in memory: NCHW, or NHWC with the channels padded to `group`."""
    if group == 1:
        return np.ascontiguousarray(x)
    last = np.full((x.shape[0], *x.shape[2:], group), 9, x.dtype)
    last[..., : x.shape[1]] = x.transpose(0, 2, 3, 1)
    return last


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


def test_nodes_are_marked_and_bodies_are_out() -> None:
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
    with pytest.raises(RuntimeUnavailable, match=r"no TensorRT here .*10.9 or newer.*simam-deploy\[tensorrt\]"):
        register()


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


# The device and the compilers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "ptx"),
    [
        ((11, 8), (7, 8)),
        ((12, 0), (8, 0)),
        ((12, 6), (8, 5)),
        ((12, 9), (8, 8)),
        ((13, 0), (9, 0)),
        ((13, 2), (9, 2)),
    ],
)
def test_the_newest_ptx_of_a_driver(cuda: tuple[int, int], ptx: tuple[int, int]) -> None:
    assert device.newest_ptx_of(*cuda) == ptx


def test_the_device_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        context = 201  # CUDA_ERROR_INVALID_CONTEXT: no context is current

        def cuInit(self, flags: int) -> int:
            return 0

        def cuDriverGetVersion(self, out: Any) -> int:
            out._obj.value = 13020
            return 0

        def cuCtxGetDevice(self, out: Any) -> int:
            out._obj.value = 3
            return self.context

        def cuDeviceGet(self, out: Any, number: int) -> int:
            out._obj.value = 7 + number
            return 0

        def cuDeviceGetAttribute(self, out: Any, attribute: int, number: int) -> int:
            out._obj.value = {16: 100 + number, 75: 9, 76: 0, 38: 4096}[attribute]
            return 0

    driver = Driver()
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: driver)
    assert Device.here() == Device(107, 90, 4096, (9, 2))
    driver.context = 0
    assert Device.here().multiprocessors == 103
    monkeypatch.setattr(Driver, "cuInit", lambda self, flags: 100)
    with pytest.raises(RuntimeUnavailable, match=r"cuInit .* fails with 100; build on the machine with the GPU"):
        Device.here()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "candidates", list)
    with pytest.raises(RuntimeUnavailable, match=r"nvidia-cuda-nvrtc.*nvcc"):
        compiler.find()
    with pytest.raises(RuntimeUnavailable, match="nowhere, which is no file"):
        compiler.find(tmp_path / "nowhere")
    (tmp_path / "libnvrtc.so.13").write_bytes(b"not ELF")
    with pytest.raises(RuntimeUnavailable, match="is no NVRTC that can be used"):
        compiler.find(tmp_path / "libnvrtc.so.13")


def real_compilers() -> list[Any]:
    found = [pytest.param(path, id=path.name.split(".")[0]) for path in compiler.candidates()]
    return found or [pytest.param(None, marks=pytest.mark.skip("neither NVRTC nor nvcc is here"))]


REAL = {
    "small": case(shape=(4, 64, 7, 7)),
    "warp-add-silu": case("SimAMAffineAddSilu", kind="BF16"),
    "odd": case("SimAMAffine", (1, 64, 13, 101), "FP32"),
    "cluster": case(shape=(1, 64, 224, 224), tactic=2),
    "tile": case("SimAMAffineRelu", (3, 20, 14, 14), "FP16", 24),
    "tile-cluster": case(shape=(3, 16, 56, 56), kind="BF16", group=16, tactic=2),
}


@pytest.mark.parametrize("path", real_compilers())
@pytest.mark.parametrize("name", REAL)
def test_real_ptx(name: str, path: Path, tmp_path: Path) -> None:
    one, make = REAL[name], compiler.find(path)
    made = source.source_of(one, H200)
    ptx = make(made.text, entry="simam_it", capability=90, headers=source.headers())
    plugin.check(ptx, one, made, "simam_it", (99, 0), str(make))  # entry, parameters, cluster, memory
    assert ptx.target == "sm_90"
    assert ptx.shared == 0
    assert (".reqnctapercluster" in ptx.text) == (made.cluster > 1)
    assert f".maxntid {made.threads}" in ptx.text
    assert not re.search(r"\bcall\b|\.local\b", ptx.text)  # everything is inlined, nothing lies in memory
    _assemble(ptx, path, 90, tmp_path)


@pytest.mark.parametrize("path", real_compilers())
@pytest.mark.parametrize("capability", [75, 87, 120])
def test_other_gpus(capability: int, path: Path, tmp_path: Path) -> None:
    one = case(shape=(8, 64, 14, 14))
    made = source.source_of(one, Device(40, capability, 4 << 20, (9, 9)))
    ptx = compiler.find(path)(made.text, entry="simam_it", capability=capability, headers=source.headers())
    assert ptx.target == f"sm_{capability}"
    _assemble(ptx, path, capability, tmp_path)


@pytest.mark.parametrize("path", real_compilers())
def test_a_compiler_that_refuses(path: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)cannot compile the kernel.*undeclared_name"):
        compiler.find(path)("int v = undeclared_name;", entry="e", capability=90, headers=CUDA)
    with pytest.raises(BuildError, match="no GPU of compute capability 1"):
        compiler.find(path)("", entry="e", capability=10, headers=CUDA)


def _assemble(ptx: compiler.Ptx, path: Path, capability: int, folder: Path) -> None:
    """ptxas takes it, if there is one that knows this version of PTX: that of the nvcc that wrote it."""
    beside = path.resolve().with_name("ptxas")
    ptxas = str(beside) if beside.is_file() else shutil.which("ptxas")
    if ptxas is None or "nvcc" not in path.name:
        return
    (folder / "k.ptx").write_text(ptx.text)
    command = [ptxas, f"-arch=sm_{capability}", "-v", "-o", folder / "k.cubin", folder / "k.ptx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores" in done.stderr
