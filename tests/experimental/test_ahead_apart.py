"""As everywhere else: a body that computes another λ is refused, and so is a program of the current folder."""

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from simam_deploy.errors import InputError
from simam_deploy.experimental.ahead_of_time import compiler
from simam_deploy.experimental.ahead_of_time.build import mark
from simam_deploy.formula import DEFAULT_LAMBDA
from simam_deploy.rewrite.forms import alone


def without_lambda(default: float) -> onnx.ModelProto:
    """A node that does not say its λ, and a body with this default."""
    model = ir.to_proto(alone("function", (2, 3, 6, 5)))
    del model.graph.node[0].attribute[:]
    (attribute,) = model.functions[0].attribute_proto
    attribute.f = default
    return model


def test_an_engine_does_not_take_another_lambda() -> None:
    with pytest.raises(InputError, match=r"takes λ = 0\.25.*simam-deploy fuse"):
        mark(without_lambda(0.25))


def test_an_engine_takes_the_default() -> None:
    marked, count = mark(without_lambda(DEFAULT_LAMBDA))
    assert count == 1
    assert onnx.helper.get_node_attr_value(marked.graph.node[0], "e_lambda") == pytest.approx(DEFAULT_LAMBDA)


@pytest.mark.parametrize("path", ["", ".", None])
def test_a_compiler_is_not_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    program = tmp_path / "nvcc"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setenv("PATH", f".:{tmp_path}" if path is None else path)
    found = compiler.candidates()
    assert (program in found) == (path is None)
    assert Path("nvcc") not in found
