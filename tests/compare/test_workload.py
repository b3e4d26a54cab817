"""Files whose work cannot be told are tried with limits before verify and bench run them, and no others."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.command_line import Run
from helpers.onnx_models import CHAIN
from helpers.onnx_models import model as simam
from onnx import helper, numpy_helper, parser

from simam_deploy.compare import workload
from simam_deploy.compare.workload import doubts, refuse_many_parts, refuse_without_end
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.work import work_of
from simam_deploy.processes import limited
from simam_deploy.processes.limited import Limits
from simam_deploy.rewrite import forms

X = [np.ones((2, 3, 5, 7), np.float32)]
KNOWN = {
    "a block": simam(),
    "a block of ours": forms.alone("function", (2, 3, 5, 7)),
    "dynamic": simam(shape="n, c, h, w"),
    "resized": simam(
        before="sc = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()\n   b = Resize (image, , sc)\n"
        "   x = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (b)"
    ),
    "expanded to a size that is computed": simam(
        shape="n, c, h, w", before="sh = Shape (image)\n   x = Expand (image, sh)"
    ),
    "padded": simam(
        before="p = Constant <value_ints = [0, 0, 1, 1, 0, 0, 1, 1]> ()\n   b = Pad (image, p)\n"
        "   x = MaxPool <kernel_shape: ints = [3, 3]> (b)"
    ),
}


def around(lines: str) -> ir.Model:
    """A block in whose middle there are these lines, from e to ee."""
    return simam(CHAIN.replace("   z = Add (e, half)", f"{lines}\n   z = Add (ee, half)"))


def big(size: int) -> str:
    return f"   big = Constant <value_ints = [1, 3, {size}, {size}]> ()\n"


OPEN = {
    "expand": (
        around(big(3000) + "   o = Expand (half, big)\n   r = ReduceMean (o)\n   ee = Mul (e, r)"),
        "27,000,000",
    ),
    "many of half the size": (
        around(
            big(2000) + "   o = Expand (half, big)\n   q2 = Expand (lam, big)\n   o2 = Add (o, q2)\n"
            "   r = ReduceMean (o2)\n   ee = Mul (e, r)"
        ),
        "24,000,000",
    ),
    "an outer product": (
        around(
            "   five = Constant <value_ints = [5000]> ()\n   o = ConstantOfShape (five)\n"
            "   ax = Constant <value_ints = [1]> ()\n   o2 = Unsqueeze (o, ax)\n   o3 = Add (o, o2)\n"
            "   r = ReduceMean <keepdims: int = 0> (o3)\n   ee = Add (e, r)"
        ),
        "Add at .* makes 25,000,000 numbers",
    ),
    "sizes that hang on values": (
        around(
            "   m0 = ReduceMax <keepdims: int = 0> (e)\n   m1 = Cast <to: int = 7> (m0)\n"
            "   a = Constant <value_int = 0> ()\n   d1 = Constant <value_int = 1> ()\n"
            "   rg = Range (a, m1, d1)\n   rf = Cast <to: int = 1> (rg)\n"
            "   r = ReduceSum <keepdims: int = 0> (rf)\n   ee = Add (e, r)"
        ),
        "nothing tells how much Range at .* makes",
    ),
    "more axes than any x has": (
        around(
            "   ten = Constant <value_ints = [100]> ()\n   axis = Constant <value_ints = [1]> ()\n"
            "   hundred = Expand (axis, ten)\n   ee = ReduceMean <keepdims: int = 1> (e, hundred)"
        ),
        "ReduceMean at .* names 100 axes",
    ),
    "a large window": (
        around(
            big(1000) + "   o = Expand (half, big)\n   p = MaxPool <kernel_shape: ints = [801, 801], "
            "pads: ints = [400, 400, 400, 400]> (o)\n   r = ReduceMean (p)\n   ee = Mul (e, r)"
        ),
        r"computes 1\.9e\+12 products, the most in MaxPool",
    ),
    "products of large matrices": (
        around(
            big(2000)
            + "   o = Expand (half, big)\n"
            + "".join(f"   o{i + 1} = MatMul (o{i or ''}, o)\n" for i in range(12))
            + "   r = ReduceMean (o12)\n   ee = Mul (e, r)"
        ),
        r"computes 2\.9e\+11 products, the most in MatMul",
    ),
}


def saved(model: ir.Model, folder: Path) -> Path:
    onnx_file.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def with_a_loop(folder: Path, times: int) -> Path:
    text = """<ir_version: 8, opset_import: ["": 18]>
    net (float[2, 3, 5, 7] image) => (float[2, 3, 5, 7] out) <int64 times = {3}> {
        x = Loop <body = body (int64 i, bool c, float[2, 3, 5, 7] v) => (bool d, float[2, 3, 5, 7] w) {
            d = Identity (c)
            w = Relu (v)
        }> (times, , image)
        out = Relu (x)
    }"""
    proto = parser.parse_model(text)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(times), "times"))
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


def no_child(*_: Any, **__: Any) -> None:
    raise AssertionError("it was tried")


@pytest.mark.parametrize("model", KNOWN.values(), ids=KNOWN)
def test_a_network_of_known_sizes_is_not_tried(
    tmp_path: Path, model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited, "call", no_child)
    refuse_without_end(saved(model, tmp_path), X, ["ort", "onnx_reference"])


@pytest.mark.parametrize(("model", "words"), OPEN.values(), ids=OPEN)
def test_work_that_is_not_told(tmp_path: Path, model: ir.Model, words: str) -> None:
    assert re.search(words, "\n".join(doubts(saved(model, tmp_path), X)))


def test_much_is_much_beside_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "MOST_NUMBERS", 100)
    tiles = "   times = Constant <value_ints = [{}, 1, 1, 1]> ()\n   o = Tile (e, times)\n"
    tiles += "   zero = Constant <value_ints = [0]> ()\n   ee = ReduceMean <keepdims: int = 1> (o, zero)"
    assert not list(doubts(saved(around(tiles.format(64)), tmp_path), X))
    assert "13,650 numbers out of 210, the most by Tile" in next(doubts(saved(around(tiles.format(65)), tmp_path), X))


@pytest.mark.parametrize(("count", "few"), [(240, True), (400, False)])
def test_all_that_is_kept_counts(count: int, few: bool, tmp_path: Path) -> None:
    lines = (
        big(300) + "   o = Expand (half, big)\n" + "".join(f"   o{i + 1} = Neg (o{i or ''})\n" for i in range(count))
    )
    found = list(doubts(saved(around(f"{lines}   r = ReduceMean (o{count})\n   ee = Mul (e, r)"), tmp_path), X))
    assert not found if few else "numbers in all" in found[0]


def test_a_file_of_more_parts_than_networks_have(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(forms.alone("function", (2, 3, 5, 7)), tmp_path)
    parts = onnx_file.count_nodes(onnx_file.read(file), file) + 4 * 2  # an input, a function
    assert parts > 5 + 4 * 2
    monkeypatch.setattr(workload, "MOST_PARTS", parts)
    refuse_many_parts(file, onnx_file.read(file))
    monkeypatch.setattr(workload, "MOST_COST", 100)
    with pytest.raises(InputError, match=r"to read it, .*, takes \d+\.\d times as long .*--no-limits"):
        refuse_many_parts(file, onnx_file.read(file))
    monkeypatch.setattr(workload, "MOST_PARTS", parts - 1)
    for command in ("verify", "bench"):
        status, _, said = run(f"{command} {file} --runtimes onnx_reference")
        assert status == 2
        assert f"it has {parts} parts" in said
        assert "run it with --no-limits" in said
    assert run(f"verify {file} --runtimes onnx_reference --inputs plain --no-limits")[0] == 0


@pytest.mark.parametrize("runtime", ["ort", "onnx_reference"])
def test_a_loop_that_ends_is_run(tmp_path: Path, runtime: str) -> None:
    refuse_without_end(with_a_loop(tmp_path, 3), X, [runtime])


@pytest.mark.parametrize("times", [10**7, 2**62])
def test_a_loop_that_does_not_end(tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ends in ONNX Runtime alone, after a while."""
    monkeypatch.setattr(workload, "LIMITS", Limits(cpu_s=3, wall_s=20, memory=2**30))
    with pytest.raises(InputError, match=r"(?s)m\.onnx is not run: Loop at 'x' runs as often.* --no-limits"):
        refuse_without_end(with_a_loop(tmp_path, times), X, ["ort", "onnx_reference"])


@pytest.mark.parametrize("command", ["verify --runtimes ort --inputs plain", "bench --runtimes ort --seconds 0"])
def test_both_commands_refuse_it_unless_told(
    tmp_path: Path, run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, options = command.partition(" ")
    file = with_a_loop(tmp_path, 3)
    assert run(f"{name} {file} {options}")[0] == 0
    monkeypatch.setattr(workload, "LIMITS", Limits(cpu_s=1, wall_s=0.01, memory=2**30))
    status, _, said = run(f"{name} {file} {options}")
    assert status == 2
    assert re.search(r"error: .* was tried in ort with limits, and it took more than 0\.01 s; .*--no-limits", said)
    assert run(f"{name} {file} {options} --no-limits")[0] == 0


def test_what_does_not_run_at_all_is_said_by_the_real_run(tmp_path: Path) -> None:
    """A trial speaks of limits alone."""
    refuse_without_end(with_a_loop(tmp_path, 3), [np.ones((9, 9), np.float32)], ["ort"])
    proto = onnx.load(with_a_loop(tmp_path, 3))
    proto.graph.node.append(helper.make_node("Thing", ["out"], ["more"], domain="of.others"))
    proto.opset_import.append(helper.make_opsetid("of.others", 1))
    onnx.save(proto, tmp_path / "m.onnx")
    refuse_without_end(tmp_path / "m.onnx", X, ["ort"])


SHAPES = {"a": (2, 3, 8, 8), "k": (5, 3, 3, 3), "t": (3, 5, 3, 3), "m": (4, 6), "w": (6, 7)}
SHAPES |= {"s": (10, 2, 3), "W": (1, 16, 3), "R": (1, 16, 4)}


@pytest.mark.parametrize(
    ("node", "made", "work"),
    [
        (helper.make_node("Conv", ["a", "k"], ["y"]), (2, 5, 6, 6), 360 * 27),
        (helper.make_node("QLinearConv", ["a", "", "", "k"], ["y"]), (2, 5, 6, 6), 360 * 27),
        (helper.make_node("ConvTranspose", ["a", "t"], ["y"]), (2, 5, 10, 10), 384 * 45),
        (helper.make_node("MaxPool", ["a"], ["y"], kernel_shape=[4, 4]), (2, 3, 5, 5), 150 * 16),
        (helper.make_node("MatMul", ["m", "w"], ["y"]), (4, 7), 28 * 6),
        (helper.make_node("Gemm", ["m", "w"], ["y"]), (4, 7), 28 * 6),
        (helper.make_node("Gemm", ["m", "m"], ["y"], transA=1), (6, 6), 36 * 4),
        (helper.make_node("Einsum", ["m", "w"], ["y"], equation="ij,jk->ik"), (4, 7), 4 * 6 * 7),
        (helper.make_node("LSTM", ["s", "W", "R"], ["y"], hidden_size=4), (10, 1, 2, 4), 20 * (48 + 64)),
        (helper.make_node("Add", ["m", "m"], ["y"]), (4, 6), 3 * 24),
        (helper.make_node("Conv", ["a", "unknown"], ["y"]), (2, 5, 6, 6), 384 + 1 + 360),
    ],
)
def test_products_are_counted(node: onnx.NodeProto, made: tuple[int, ...], work: int) -> None:
    assert work_of(node, SHAPES | {"y": made}) == work
