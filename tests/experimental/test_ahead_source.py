"""The source of an ahead-of-time kernel: which kernel, its launch, and what it computes.

The kernels are the library's own templates, which plugins/tests runs on an emulator at every size; here it runs
some of the sources as they are given to the compiler, for the numbers and the order of the arguments in them.
"""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ahead
from helpers.ahead import CUDA, H200, bits, case, number

from simam_deploy import formula
from simam_deploy.errors import BuildError
from simam_deploy.experimental.ahead_of_time import plugin, source


@pytest.fixture(scope="module", autouse=True)
def planner() -> None:
    ahead.need_planner()


def test_the_structures_are_those_of_the_headers() -> None:
    kinds = {"int32_t": 4, "int64_t": 8, "float": 4, "size_t": 8}
    for structure, header in (
        (source._Device, "ahead.h"),
        (source._Ahead, "ahead.h"),
    ):
        name = {"_Device": "SimamDevice", "_Ahead": "SimamAhead"}[structure.__name__]
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
        (case(shape=(4, 64, 20, 20)), "Planes<Vectors<F16>", "Team::lanes, Mode::whole, false>", 1),
        (case(shape=(1, 64, 13, 101)), "Planes<Elements<F16>", "Team::block, Mode::whole, false>", 1),
        (case(shape=(1, 64, 224, 224), tactic=2), "Planes<Vectors<F16>", "Team::block, Mode::cluster, false>", 8),
        (case("SimAMAffine", (3, 20, 14, 14), "BF16", 24), "Tiles<Vectors<BF16>", "Mode::whole, true>", 1),
        (case(shape=(3, 16, 56, 56), group=16, tactic=2), "Tiles<Vectors<F16>", "Mode::cluster, false>", 8),
    ],
    ids=["small", "lanes", "odd", "cluster", "tile", "tile-cluster"],
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
def test_the_source_computes_the_formula(one: source.KernelCase, tmp_path: Path) -> None:
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
        within = formula.epilogue_tolerance(within, exact, scale, bias, more, dtype=kind)
        exact = formula.apply_epilogue(exact, scale, bias, more, activation=one.op.activation)
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
