"""Whole networks, exported and compared: in all forms, slightly wrong, a file alone."""

from pathlib import Path

import pytest
from torch import nn

from benchmarks.parity import WRONG, one_wrong
from export_models import digits
from simam_deploy.compare.inputs import cases
from simam_deploy.compare.matrix import NO_KERNEL, gather
from simam_deploy.compare.verify import verify
from simam_deploy.runtimes import open_session
from simam_deploy.to_onnx import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    module, example = digits.build()
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    export(module, example, path, dynamic=("batch",), check=False)
    return module, path


@pytest.mark.usefixtures("no_library")  # with it there is one candidate more: custom_op in ort
def test_a_network_in_all_forms_on_all_runtimes_with_gates(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    module, path = exported
    chosen = gather([path], ["all"], ["onnx_reference", "ort", "openvino"], tmp_path, taps=True)
    with open_session(path) as session:
        given = list(cases(["adversarial"], session.inputs))
    report = verify(
        chosen.open,
        given,
        truth=lambda: open_session(module, "eager", dtype="float64"),
        twin=lambda: open_session(module, "eager"),
        taps=chosen.taps,
    )
    assert report.passed
    assert len(report.rows) == 10 * 6
    assert len(report.gates) == 10 * 6 * 3
    assert chosen.skipped == [f"custom_op · {name}: {NO_KERNEL}" for name in ("ort", "openvino")]


@pytest.mark.parametrize("name", ["population variance in the last block", "the last block left out"])
def test_a_slightly_wrong_network_fails(exported: tuple[nn.Module, Path], name: str) -> None:
    module, path = exported
    with open_session(path) as session:
        given = list(cases(["adversarial"], session.inputs))
    wrong = one_wrong(module, WRONG[name])
    report = verify(
        {"wrong": lambda: open_session(wrong, "eager")},
        given,
        truth=lambda: open_session(module, "eager", dtype="float64"),
        twin=lambda: open_session(module, "eager"),
    )
    assert not report.passed
    assert max(row.share for row in report.rows) > 10


def test_a_file_alone_is_its_own_truth(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, path = exported
    chosen = gather([path], ["primitive"], ["ort"], tmp_path)
    with open_session(path) as session:
        given = list(cases(["plain"], session.inputs))
    report = verify(
        chosen.open,
        given,
        truth=lambda: open_session(path, "onnx_reference", dtype="float64"),
        twin=lambda: open_session(path, "onnx_reference"),
    )
    assert report.passed
