"""A file laid out for this machine's CPU: the same numbers, operators in the blocked layout."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.blocked import NETWORKS, SIMAM, network, outputs, saved
from helpers.command_line import Run
from onnx import parser

from simam_deploy import cli
from simam_deploy.errors import (
    FormError,
    ModelFileError,
    VerificationError,
)
from simam_deploy.formula import BLOCKED_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.match import find
from simam_deploy.ort_cpu import compare, specialise
from simam_deploy.runtimes import open_session

pytestmark = pytest.mark.usefixtures("library")


def ours(path: Path) -> Counter[str]:
    nodes = onnx.load(path).graph.node
    return Counter(node.domain for node in nodes if node.domain.startswith("simam"))


@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize("what", NETWORKS)
def test_the_numbers_stay_and_the_layout_is_used(what: str, channels: int, tmp_path: Path) -> None:
    source = saved(network(NETWORKS[what], channels), tmp_path)
    target = tmp_path / "cpu.onnx"
    made = specialise.specialise_file(source, target, check=False)
    exact = outputs(source)
    assert np.abs(outputs(target) - exact).max() <= 1e-5 * np.abs(exact).max()
    assert ours(target)[BLOCKED_DOMAIN] == len(made.rows) - len(made.notes)
    blocked = [node for node in onnx.load(target).graph.node if node.domain == BLOCKED_DOMAIN]
    assert {a.name for node in blocked for a in node.attribute} == {"e_lambda", "block", "machine"}  # no plugin's
    kinds = Counter(node.op_type for node in onnx.load(target).graph.node)
    assert kinds["ReorderInput"] == 0
    assert kinds["ReorderOutput"] == 1  # for the output of the network


def test_where_no_convolution_is_there_is_nothing_to_gain(tmp_path: Path) -> None:
    model = network(NETWORKS["alone"])
    del model.graph.node[0], model.graph.node[-1]
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("a", 1, [2, 8, 12, 10]))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("b", 1, [2, 8, 12, 10]))
    with pytest.raises(FormError, match="no blocked layout"):
        specialise.specialise_file(saved(model, tmp_path), tmp_path / "cpu.onnx")
    assert not (tmp_path / "cpu.onnx").exists()


def test_a_wrong_layout_is_noticed(portable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with the portable file: here every channel gets the scale of the one beside it."""
    true = specialise._parameter

    def shifted(model: ir.Model, node: ir.Node, value: ir.Value) -> ir.Value:
        made = true(model, node, value)
        assert made.const_value is not None
        made.const_value = ir.tensor(np.roll(made.const_value.numpy(), 1), name=made.name)
        return made

    monkeypatch.setattr(specialise, "_parameter", shifted)
    with pytest.raises(VerificationError, match="off that in the portable one"):
        specialise.specialise_file(portable, tmp_path / "cpu.onnx")
    assert not (tmp_path / "cpu.onnx").exists()


NHWC = (
    """
    t = Transpose <perm = [0, 2, 3, 1]> (a)
"""
    + SIMAM.format("", "t", "s", 0)
    + """
    b = Transpose <perm = [0, 3, 1, 2]> (s)
"""
)
"""SimAM over W and C: ONNX Runtime would move the transpositions through a Mul and cancel them."""


def test_simam_between_transpositions_stays_what_it_is(tmp_path: Path) -> None:
    model = network(NHWC, 12, size="2,3,12,10")  # maps of W x C = 10 x 12 values: M is the same
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Conv", ["b", "w1"], ["logits"]))
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["logits"], ["y"], axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 7, [2, 12, 10]))
    with pytest.raises(FormError, match="no blocked layout"):
        specialise.specialise_file(saved(model, tmp_path), tmp_path / "cpu.onnx")


def test_products_of_the_users_own_stay_what_they_are(tmp_path: Path) -> None:
    """x * x beside SimAM of the same x, consumed first."""
    between = (
        "p = Mul (a, a)\n o = Conv (p, w2)\n" + SIMAM.format("", "a", "s", 0) + "k = Conv (s, w2)\n b = Add (o, k)\n"
    )
    source = saved(network(between), tmp_path)
    made = specialise.specialise_file(source, tmp_path / "cpu.onnx")
    assert made.rows[0].form == "blocked"
    exact = outputs(source)
    assert np.abs(outputs(tmp_path / "cpu.onnx") - exact).max() <= 1e-5 * np.abs(exact).max()


def test_channels_that_do_not_fill_a_block_stay_in_nchw(tmp_path: Path) -> None:
    with pytest.raises(FormError, match="no blocked layout"):
        specialise.specialise_file(saved(network(NETWORKS["alone"], 20), tmp_path), tmp_path / "cpu.onnx")


def test_the_type_of_one_that_stays_in_nchw_is_told(tmp_path: Path, run: Run) -> None:
    """Behind the blocked layout nothing can be inferred."""
    within = "o = Conv (s, w3)\n" + SIMAM.format("1", "o", "t", 0) + "u = Relu (t)\n b = Conv (u, w4)\n"
    model = network(SIMAM.format("0", "a", "s", 0) + within)
    for name, shape in (("w3", (20, 32, 1, 1)), ("w4", (32, 20, 1, 1))):
        weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    source = saved(model, tmp_path)
    specialise.specialise_file(source, tmp_path / "cpu.onnx")
    found = find.find(onnx_file.load(tmp_path / "cpu.onnx"))
    assert [(b.shape, b.dtype.name, b.op) for b in found.blocks] == [((None, 20, 12, 10), "FLOAT", "SimAMAffineRelu")]
    assert not found.near_misses
    status, printed, _ = run(f"verify {source} {tmp_path / 'cpu.onnx'} --runtimes ort --inputs plain --gates")
    assert status == 0, printed
    assert "left out: cpu: the gate at s, in the blocked layout, where nothing else sees x and y" in printed


def test_an_output_of_nan_is_equal_to_itself(tmp_path: Path) -> None:
    model = network(NETWORKS["affine, relu"])
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(onnx.helper.make_node("Log", ["logits"], ["y"]))
    source = saved(model, tmp_path)
    specialise.specialise_file(source, tmp_path / "cpu.onnx")
    exact, got = outputs(source), outputs(tmp_path / "cpu.onnx")
    assert 0 < np.isnan(exact).mean() < 1
    assert (np.isnan(got) == np.isnan(exact)).all()


@pytest.mark.parametrize("opset", [11, 13])
def test_old_opsets(opset: int, tmp_path: Path) -> None:
    model = network(NETWORKS["affine, relu"].replace("ReduceSum (d, axes)", "ReduceSum <axes = [2, 3]> (d)"))
    model.opset_import[0].version = opset
    if opset == 13:
        node = next(node for node in model.graph.node if node.op_type == "ReduceSum")
        del node.attribute[:]
        node.input.append("axes")
    source = saved(model, tmp_path)
    made = specialise.specialise_file(source, tmp_path / "cpu.onnx")
    assert [row.form for row in made.rows] == ["blocked"]
    exact = outputs(source)
    assert np.abs(outputs(tmp_path / "cpu.onnx") - exact).max() <= 1e-5 * np.abs(exact).max()


def test_a_block_in_a_branch_is_not_called_blocked(tmp_path: Path) -> None:
    """Beside one in the graph that is."""
    model = network(NETWORKS["alone"])
    constants = "float n = {119}, float l0 = {0.1}, float four = {4}, float half = {0.5}, int64[2] axes = {2, 3}"
    inner = SIMAM.format("i", "b", "u", 0)
    graph = parser.parse_graph(f"then () => (float[N,32,12,10] u) <{constants}> {{ {inner} }}")
    other = parser.parse_graph("otherwise () => (float[N,32,12,10] w) { w = Relu (b) }")
    last = model.graph.node.pop()
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0))
    model.graph.node.append(onnx.helper.make_node("Greater", ["most", "half"], ["yes"]))
    model.graph.node.append(onnx.helper.make_node("If", ["yes"], ["chosen"], then_branch=graph, else_branch=other))
    last.input[0] = "chosen"
    model.graph.node.append(last)
    source = saved(model, tmp_path)
    made = specialise.specialise_file(source, tmp_path / "cpu.onnx")
    assert sorted(row.form for row in made.rows) == ["blocked", "custom_op"]
    assert ours(tmp_path / "cpu.onnx")[BLOCKED_DOMAIN] == 1


def test_the_command_line_says_what_differs(
    portable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "SAME", -1.0)
    monkeypatch.setattr(
        "sys.argv", ["simam-deploy", "fuse", str(portable), "-o", f"{tmp_path}/c.onnx", "--specialise", "cpu"]
    )
    with pytest.raises(SystemExit) as status:
        cli.main()
    assert status.value.code == 1
    assert "error: " in (err := capsys.readouterr().err)
    assert "Traceback" not in err


def test_a_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08garbage")
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        specialise.specialise_file(tmp_path / "broken.onnx", tmp_path / "cpu.onnx")


def test_dynamic_sizes_stay_dynamic(tmp_path: Path) -> None:
    """H and W are free in the specialised file too: the portable one is the judge at each size."""
    from torch import nn, randn

    from simam_deploy.pytorch.module import SimAM
    from simam_deploy.to_onnx import export

    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), SimAM(), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 8, 1)
    ).eval()
    export(net, randn(1, 3, 16, 16), tmp_path / "p.onnx", dynamic=["batch", "height", "width"], check=False)
    specialise.specialise_file(tmp_path / "p.onnx", tmp_path / "cpu.onnx")
    with open_session(tmp_path / "p.onnx", "ort") as before, open_session(tmp_path / "cpu.onnx", "ort") as after:
        for size in [(1, 3, 16, 16), (3, 3, 7, 31), (2, 3, 40, 24)]:
            x = {after.inputs[0].name: np.random.default_rng(3).standard_normal(size).astype(np.float32)}
            wanted, got = before.run(x), after.run(x)
            for a, b in zip(wanted.values(), got.values(), strict=True):
                np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())
