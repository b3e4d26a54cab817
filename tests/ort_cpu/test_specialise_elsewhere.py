"""A file for the CPU of one machine is marked so, and refused by others and by what cannot run it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.blocked import outputs

from simam_deploy import native
from simam_deploy.artifacts import manifest
from simam_deploy.errors import (
    InputError,
    OutputError,
    RuntimeUnavailable,
)
from simam_deploy.formula import BLOCKED_DOMAIN
from simam_deploy.ort_cpu import blocked_layout, specialise
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import open_session

pytestmark = pytest.mark.usefixtures("library")


def test_the_kernel_runs_and_the_file_is_marked(target: Path, library: native.Library) -> None:
    mark = {"machine": library.machine, "block": blocked_layout.block_size(), "onnxruntime": blocked_layout.version()}
    assert json.loads(Path(f"{target}.json").read_text())[manifest.SPECIALISED] == mark
    with open_session(target, "ort") as session:
        assert session.notes == []
        use = session.kernel_use({"x": np.zeros((1, 3, 12, 10), np.float32)})
    assert (use.ran, use.of) == (1, 1)


def test_the_source_stays_as_it_was(portable: Path, tmp_path: Path) -> None:
    before = portable.read_bytes()
    specialise.specialise_file(portable, tmp_path / "cpu.onnx")
    assert portable.read_bytes() == before
    with pytest.raises(OutputError, match="same file as the input"):
        specialise.specialise_file(portable, portable)


def test_without_an_epilogue_simam_alone_is_blocked(portable: Path, tmp_path: Path) -> None:
    specialise.specialise_file(portable, tmp_path / "cpu.onnx", epilogue=False)
    nodes = onnx.load(tmp_path / "cpu.onnx").graph.node
    assert [node.op_type for node in nodes if node.domain == BLOCKED_DOMAIN] == ["SimAM"]
    assert np.abs(outputs(tmp_path / "cpu.onnx") - outputs(portable)).max() < 1e-5


def remarked(target: Path, machine: str, inside: str | None = None) -> None:
    """As if the file had been specialised for another machine; `inside` : what the operators say."""
    model = onnx.load(target)
    for entry in model.metadata_props:
        if entry.key == manifest.PROPERTY:
            held = json.loads(entry.value)
            held[manifest.SPECIALISED]["machine"] = machine
            entry.value = json.dumps(held)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "machine" and inside is not None:
                attribute.s = inside.encode()
    onnx.save(model, target)


def test_a_session_refuses_the_file_of_another_machine(target: Path) -> None:
    remarked(target, "x86_64 other")
    with pytest.raises(RuntimeUnavailable, match=r"specialised for 'x86_64 other' and this machine is"):
        open_session(target, "ort")


def test_the_operators_refuse_it_too(target: Path, library: native.Library) -> None:
    """Whoever loads the file without this package is told by the library."""
    remarked(target, library.machine, "x86_64 other")
    with pytest.raises(RuntimeUnavailable, match=r"specialised for 'x86_64 other'.*ship the original"):
        open_session(target, "ort")


@pytest.mark.parametrize("runtime", ["onnx_reference", "openvino"])
def test_other_runtimes_refuse_it(target: Path, runtime: str) -> None:
    with pytest.raises(RuntimeUnavailable, match="specialised for ONNX Runtime on"):
        open_session(target, runtime)


def test_without_the_library_it_is_refused(target: Path, no_library: None) -> None:
    with pytest.raises(RuntimeUnavailable, match="no kernel library"):
        open_session(target, "ort")
    with pytest.raises(RuntimeUnavailable, match="no kernel library"):
        specialise.specialise_file(target.with_name("portable.onnx"), target)


@pytest.mark.parametrize("again", [specialise.specialise_file, fuse_file])
def test_a_specialised_file_is_not_worked_on_again(target: Path, again: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="specialised"):
        again(target, target.with_name("again.onnx"))
    assert not target.with_name("again.onnx").exists()
