"""`verify --gates` judges the gate of every node that is called SimAM, or says which it does not judge, or fails."""

import re
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from helpers.command_line import Run
from helpers.onnx_models import CHAIN
from helpers.onnx_models import model as network

from simam_deploy.compare.matrix import gather
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.fuse import fuse

POPULATION = CHAIN.replace("v = Div (s, n)", "v = ReduceMean <keepdims: int = 1> (d, hw)")


def written(tmp_path: Path, chain: str = CHAIN) -> Path:
    path = tmp_path / "net.onnx"
    onnx_file.save(network(chain), path)
    return path


def left_out(path: Path) -> list[str]:
    return gather([path], [], ["ort"], path.parent, taps=True).skipped


def test_every_gate_is_judged(tmp_path: Path) -> None:
    assert left_out(written(tmp_path)) == []


def test_a_near_miss_is_named(tmp_path: Path) -> None:
    (reason,) = left_out(written(tmp_path, POPULATION))
    assert re.match("the gate at Mul_11, which is no SimAM block: .*population", reason), reason


def test_a_near_miss_of_several_files_is_named_with_its_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", written(tmp_path, POPULATION)
    onnx_file.save(network(), good)
    (reason,) = gather([good, bad], [], ["ort"], tmp_path, taps=True).skipped
    assert reason.startswith("net: the gate at Mul_11, which is")


def test_a_file_without_blocks_is_named(tmp_path: Path) -> None:
    assert left_out(written(tmp_path, "y = Relu (x)")) == ["no gate, as no SimAM block was found"]


def fused(tmp_path: Path, **changed: str) -> Path:
    """Fused, and then with other operators in the definition of SimAM."""
    proto = ir.to_proto(fuse(network()).model)
    for node in proto.functions[0].node:
        node.op_type = changed.get(node.name, node.op_type)
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    return path


def test_a_node_of_ours_is_judged(tmp_path: Path) -> None:
    assert left_out(fused(tmp_path)) == []


@pytest.mark.parametrize("changed", [{"sum": "ReduceMean"}, {"gate": "Tanh"}, {"y": "Add"}, {"d": "Add"}])
def test_a_node_of_ours_that_is_no_simam_is_an_error(tmp_path: Path, changed: dict[str, str]) -> None:
    words = r"nodes that are called SimAM and are no SimAM block:\nMul_11:\n  .*\n(.*\n)*make the file anew"
    with pytest.raises(InputError, match=words):
        left_out(fused(tmp_path, **changed))


def test_the_command(tmp_path: Path, run: Run) -> None:
    name = str(fused(tmp_path, sum="ReduceMean"))
    status, _, err = run(f"verify {name} --runtimes ort --gates")
    assert (status, "called SimAM" in err) == (2, True)
    status, _, err = run(f"verify {written(tmp_path, POPULATION)} --runtimes ort --gates")
    assert (status, "the gate at Mul_11, which is no SimAM block" in err) == (2, True)
