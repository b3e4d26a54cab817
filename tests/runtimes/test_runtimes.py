"""What every ONNX runtime promises, and what each does on its own."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs import TWO_OUTPUTS, WEIGHT, beside, check, parse, save, simam

from simam_deploy import open_session
from simam_deploy.errors import InputError, ModelFileError, RuntimeUnavailable
from simam_deploy.formula import reference, tolerance
from simam_deploy.runtimes import TensorSpec, installed

ONNX_RUNTIMES = ["onnx_reference", "ort", "openvino", *{"trt_network"}.intersection(installed())]
every = pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
INPUTS = {
    "plain": lambda rng, shape: rng.standard_normal(shape),
    "constant": lambda rng, shape: np.full(shape, 3.0) + 0 * rng.random(),
    "offset": lambda rng, shape: rng.standard_normal(shape) + 1000,
    "outlier": lambda rng, shape: np.where(np.indices(shape).sum(0) == 1, 1e4, rng.random(shape)),
    "faint": lambda rng, shape: 0.5 * rng.standard_normal(shape),  # spread = sqrt of the λ of `simam`
}


@pytest.fixture(scope="module")
def function_file(tmp_path_factory) -> Path:
    return save(simam(), tmp_path_factory.mktemp("function") / "model.onnx")


# values


@every
@pytest.mark.parametrize("shape", [(1, 3, 1, 2), (2, 3, 5, 7), (1, 3, 56, 56)])
def test_simam_is_the_formula_at_every_size(runtime: str, shape: tuple[int, ...], function_file: Path) -> None:
    with open_session(function_file, runtime) as session:
        for make in INPUTS.values():
            check(session, make(np.random.default_rng(0), shape).astype(np.float32))


@every
def test_half_precision_file(runtime: str, tmp_path: Path) -> None:
    with open_session(save(simam(dtype="float16"), tmp_path / "m.onnx"), runtime) as session:
        x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float16)
        t = x * WEIGHT.astype(np.float16)
        y = session.run({"x": x})["y"]
        assert y.dtype == np.float16
        assert (np.abs(y - reference(t, 0.25)) <= tolerance(t, np.float16, 0.25)).all()


@every
def test_weights_in_another_file(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = beside(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    with open_session(path.relative_to(tmp_path), runtime) as session:
        check(session, np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32))
    assert sorted(p.name for p in path.parent.rglob("*")) == ["model.onnx", "sub", "weights.bin"]


# the contract of a session


@every
def test_specs_are_those_of_the_file(runtime: str, function_file: Path) -> None:
    with open_session(str(function_file), runtime) as session:
        assert session.inputs == (TensorSpec("x", np.dtype(np.float32), ("N", 3, "H", "W")),)
        assert session.outputs == (TensorSpec("y", np.dtype(np.float32), ("N", 3, "H", "W")),)
        assert str(session.inputs[0]) == "x: float32[N, 3, H, W]"


@every
def test_several_inputs_and_outputs_keep_names_and_order(runtime: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 2, 3)).astype(np.float32)
    with open_session(save(parse(TWO_OUTPUTS), tmp_path / "m.onnx"), runtime) as session:
        assert [s.name for s in session.inputs] == ["b", "a"]
        got = session.run({"a": a, "b": b})
        assert list(got) == ["sum", "same", "weight"]
        np.testing.assert_array_equal(got["sum"], a - b)
        np.testing.assert_array_equal(got["same"], b)


@every
def test_feeds_stay_and_results_are_the_callers(runtime: str, tmp_path: Path) -> None:
    feeds = {name: np.arange(6, dtype=np.float32).reshape(3, 2).T for name in "ab"}  # not contiguous
    for array in feeds.values():
        array.flags.writeable = False
    with open_session(save(parse(TWO_OUTPUTS), tmp_path / "m.onnx"), runtime) as session:
        first = session.run(feeds)
        kept = {name: array.copy() for name, array in first.items()}
        second = session.run({name: array + 1 for name, array in feeds.items()})
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])  # not reused for the second run
            assert array.flags.writeable
            array[:] = 99
        assert not any(np.shares_memory(first[n], second[n]) for n in first)
        for name, array in session.run(feeds).items():
            np.testing.assert_array_equal(array, kept[name])  # 99 reached neither the feeds nor the model


@every
def test_wrong_feeds_are_listed_together(runtime: str, tmp_path: Path) -> None:
    path = save(parse(TWO_OUTPUTS), tmp_path / "m.onnx")
    with open_session(path, runtime) as session, pytest.raises(InputError) as error:
        session.run({"a": np.zeros((2, 3)), "c": np.zeros(1)})
    for words in ["c: is not an input", "b: is missing", "a: expected float32, got float64", "  b: float32[2, 3]"]:
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((3, 5, 5), np.float32), r"x: expected 4 dimensions, got shape \(3, 5, 5\)"),
        (np.zeros((1, 4, 5, 5), np.float32), r"x: expected shape N, 3, H, W, got \(1, 4, 5, 5\)"),
        ([[[[1.0, 2.0]]]], "x: expected a NumPy array, got list"),
    ],
)
def test_wrong_shape_or_kind(x, words: str, function_file: Path) -> None:
    with open_session(function_file) as session, pytest.raises(InputError, match=words):
        session.run({"x": x})


@every
def test_closed_is_closed(runtime: str, function_file: Path) -> None:
    session = open_session(function_file, runtime)
    session.close()
    session.close()
    with pytest.raises(RuntimeUnavailable, match="this session is closed"):
        session.run({"x": np.zeros((1, 3, 2, 2), np.float32)})


@every
def test_nothing_is_printed(runtime: str, function_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with open_session(function_file, runtime) as session:
        session.run({"x": np.ones((1, 3, 2, 2), np.float32)})
    assert capfd.readouterr() == ("", "")


@every
def test_old_files_list_their_weights_among_the_inputs(runtime: str, tmp_path: Path) -> None:
    model = parse("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }", opset=8)
    model.ir_version = 3
    with open_session(save(model, tmp_path / "m.onnx"), runtime) as session:
        assert [spec.name for spec in session.inputs] == ["x"]
        assert session.run({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 3]


# files that cannot be used


@every
def test_unreadable_files(runtime: str, tmp_path: Path, function_file: Path) -> None:
    path = tmp_path / "m.onnx"
    for content, words in [
        (None, "there is no file"),
        (b"hello world" * 50, "not an ONNX file"),
        (function_file.read_bytes()[:300], "not an ONNX file, or is truncated"),
        (b"", "it holds no graph"),
    ]:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelFileError, match=words):
            open_session(path, runtime)
    with pytest.raises(ModelFileError, match="is a folder"):
        open_session(tmp_path, runtime)


@every
def test_weights_missing_truncated_or_elsewhere(runtime: str, tmp_path: Path) -> None:
    path = beside(tmp_path / "model")
    weights = path.parent / "sub/weights.bin"
    weights.write_bytes(weights.read_bytes()[:5])
    with pytest.raises(ModelFileError, match=r"weights.bin is truncated: model.onnx needs 12 bytes of it, it has 5"):
        open_session(path, runtime)
    weights.unlink()
    with pytest.raises(ModelFileError, match="which is missing; put it back"):
        open_session(path, runtime)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="outside its own folder"):
        open_session(path, runtime)


@every
def test_operator_that_no_runtime_has(runtime: str, tmp_path: Path) -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = simam.Other (x) }")
    model.graph.node[0].domain = "elsewhere"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    with pytest.raises(RuntimeUnavailable, match="Other"):
        open_session(save(model, tmp_path / "m.onnx"), runtime)


@every
def test_input_that_is_no_tensor(runtime: str, tmp_path: Path) -> None:
    model = parse("g (seq(float[2]) x) => (int64 y) { y = SequenceLength (x) }")
    with pytest.raises(InputError, match="'x' is declared as sequence_type"):
        open_session(save(model, tmp_path / "m.onnx"), runtime)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_bfloat16_cannot_be_exchanged(runtime: str, tmp_path: Path) -> None:
    model = parse("g (bfloat16[2] x) => (float[2] y) { y = Cast <to: int = 1> (x) }")
    with pytest.raises(RuntimeUnavailable, match=r"cannot exchange x: bfloat16\[2\] with NumPy"):
        open_session(save(model, tmp_path / "m.onnx"), runtime)


def test_broken_graph(tmp_path: Path) -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu (missing) }")
    with pytest.raises(ModelFileError, match="reads 'missing', which nothing makes"):
        open_session(save(model, tmp_path / "m.onnx"))
