"""The matrix of engines, for one network: every type and form builds, and what fails is told."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import simam_deploy as sd
from benchmarks import matrix
from benchmarks.matrix import PRECISION, Cell, cells
from benchmarks.pixels import NETWORKS
from simam_deploy.engines.plugin_host import PLUGIN
from simam_deploy.precision.convert import convert_file
from simam_deploy.precision.wanted import Wanted

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


def quiet(_: str) -> None: ...


@pytest.mark.parametrize("precision", PRECISION)
def test_every_form_of_digits_builds_with_the_same_bytes(precision: str, tmp_path: Path) -> None:
    found = list(cells("digits", tmp_path, quiet, targets=("sm80", "sm121"), precisions=(precision,)))
    assert [(cell.form, cell.plugin) for cell in found] == [
        *((form, False) for form in matrix.FORMS),
        *((form, True) for form in matrix.WITH_PLUGIN),
    ]
    for cell in found:
        if cell.plugin and PLUGIN.find() is None:
            assert cell.failed == ["no plugin library is here"]
        else:
            assert (cell.refused, cell.failed, cell.blocks) == ("", [], 3)
            assert cell.layers > 15
            assert cell.bytes > 100_000


def test_a_cell_fails_for_other_bytes_warnings_types_and_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NETWORKS["digits"].export(tmp_path / "out.onnx", quiet)
    real = sd.build_engine
    salt = iter(range(9))

    def salted(model: Path, engine: Path, **options: object) -> object:
        report = real(model, engine, **options)
        engine.write_bytes(engine.read_bytes() + bytes([next(salt)]))
        return report

    monkeypatch.setattr(sd, "build_engine", salted)
    cell = Cell("digits", "fp16", "function", plugin=False)
    matrix._build(cell, tmp_path / "out.onnx", tmp_path, ("sm80", "sm99"))
    told = "\n".join(cell.failed)
    assert "unknown target sm99" in told
    assert "the engine is fp32 (sm80)" in told
    assert "inspect: " in told
    cell = Cell("digits", "fp32", "function", plugin=False)
    matrix._build(cell, tmp_path / "out.onnx", tmp_path, ("sm80",))
    assert "a second build has other bytes" in cell.failed


def test_a_file_that_is_not_written_fails_its_cells_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object, **options: object) -> None:
        raise sd.FormError(f"no {options['form']}\nfor a reason")

    def unfit(_: Path, __: Path, wanted: Wanted, ___: object) -> None:
        raise sd.InputError(f"no {wanted.to}")

    monkeypatch.setattr(sd, "fuse", refusing)
    monkeypatch.setattr(matrix, "convert_file", unfit)
    found = list(cells("digits", tmp_path, quiet, targets=("sm80",), precisions=("fp32", "int8")))
    assert [cell.refused for cell in found] == [""] * 14
    assert found[1].failed == ["not written: no primitive"]
    assert [cell.failed for cell in found[7:]] == [["no file in int8: no int8"]] * 7


def test_warnings_of_scales_are_let_through_in_one_precision_alone(tmp_path: Path) -> None:
    NETWORKS["digits"].export(tmp_path / "out.onnx", quiet)
    report = sd.build_engine(tmp_path / "out.onnx", tmp_path / "e", targets=["sm80"])
    cell = Cell("digits", "fp32", "function", plugin=False)
    assert matrix._faults(report, cell) == []
    line = f"WARNING: casts the {matrix.SCALES}"
    assert matrix._faults(replace(report, log=(line,)), cell) == [line]
    mixed = replace(report, log=(line,), precision="int8+fp16")
    assert matrix._faults(mixed, replace(cell, precision="int8+fp16")) == []


@pytest.mark.parametrize(("precision", "why"), [("fp32", "a matrix product in float32"), ("bf16", "bfloat16")])
def test_sm75_takes_float16_alone(precision: str, why: str, tmp_path: Path) -> None:
    source, low, engine = tmp_path / "net.onnx", tmp_path / "low.onnx", tmp_path / "net.engine"
    NETWORKS["digits"].export(source, quiet)
    samples = NETWORKS["digits"].samples(source).fewer(matrix.FEW)
    convert_file(source, low, Wanted("fp16"), samples)
    assert sd.build_engine(low, engine, targets=["sm75"]).precision == "fp16"
    if precision != "fp32":
        convert_file(source, low, Wanted(precision), samples)
    with pytest.raises(sd.BuildError, match=f"not built for sm75(?s:.*): {why}"):
        sd.build_engine(source if precision == "fp32" else low, engine, targets=["sm75"])
