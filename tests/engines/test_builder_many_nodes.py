"""A graph that takes the builder minutes is refused before it starts."""

import sys
from pathlib import Path

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from simam_deploy.engines import builder, refusals, run_worker
from simam_deploy.errors import BuildError, InputError, ModelFileError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite import forms

STARTED = "import json; print(json.dumps({'error': ['BuildError', 'started']}))"
FOLDED = """<ir_version: 8, opset_import: ["": 18]> g (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y)
    <int64[1] size = {100}, int64[1] one = {1}, float[2] w = {0, 0}> {
        a = ConstantOfShape (size)
        b = Unsqueeze (a, one)
        c = Mul (a, b)
        m = ReduceMean <keepdims: int = 0> (c)
        y = Add (x, m)
    }"""


def test_too_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.onnx"
    onnx_file.save(forms.alone("function", (2, 3, 5, 7)), file)
    count = onnx_file.count_nodes(onnx_file.read(file), file) + refusals.A_CALL
    monkeypatch.setattr(refusals, "MOST_NODES", count - 1)
    with pytest.raises(
        InputError, match=f"it has {count} nodes with all functions in place.*up to {count - 1} are .*--no-limits"
    ):
        builder.build_engine(file, tmp_path / "m.engine", targets=["sm86"])
    assert not (tmp_path / "m.engine").exists()


def test_a_node_of_many_inputs_counts_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST_NODES", 100)
    monkeypatch.setattr(run_worker, "WORKER", (sys.executable, "-c", STARTED))
    for inputs, error, words in ((99, BuildError, "^started$"), (100, InputError, "it has 101 nodes .*--no-limits")):
        graph = f"g (float[1] x) => (float[1] y) {{ y = Sum ({', '.join(['x'] * inputs)}) }}"
        onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {graph}'), tmp_path / "m.onnx")
        with pytest.raises(error, match=words):
            builder.build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", targets=["sm86"])


def test_a_file_that_is_no_valid_onnx_is_named_so(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(FOLDED)
    proto.graph.initializer[0].data_type = onnx.TensorProto.FLOAT
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=r"m\.onnx is (not valid ONNX|damaged)"):
        builder.build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", targets=["sm86"])


@pytest.mark.parametrize(("most", "refused"), [(10_196, True), (10_197, False)])
def test_numbers_that_are_made_of_constants_alone(
    most: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 + 100 + 100 x 100 + 1, and 4 weights."""
    onnx.save(onnx.parser.parse_model(FOLDED), tmp_path / "m.onnx")
    monkeypatch.setattr(refusals, "MOST_FOLDED", most)
    monkeypatch.setattr(run_worker, "WORKER", (sys.executable, "-c", STARTED))
    words = r"makes 10,201 numbers of constants alone, .*up to 10,196 .*--no-limits" if refused else "^started$"
    with pytest.raises(InputError if refused else BuildError, match=words):
        builder.build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", targets=["sm86"])
    with pytest.raises(BuildError, match=r"^started$"):
        builder.build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", targets=["sm86"], limits=False)


def test_names_that_are_too_long_for_an_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux takes 128 KiB in one."""
    proto = ir.to_proto(forms.alone("function", (2, 3, 5, 7)))
    (function,) = proto.functions
    more = proto.functions.add()
    more.CopyFrom(function)
    more.name, more.domain = "f" * 2**18, "other"
    proto.opset_import.add(domain="other", version=1)
    onnx.save(proto, tmp_path / "m.onnx")
    answer = "import json, sys; print(json.dumps({'error': ['BuildError', str(len(sys.stdin.read()))]}))"
    monkeypatch.setattr(run_worker, "WORKER", (sys.executable, "-c", answer))
    with pytest.raises(BuildError, match=r"^26\d{4}$"):
        builder.build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", targets=["sm86"])
