"""Arguments of build_engine that cannot be used are refused in words, before anything runs or is replaced."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers.small_onnx import names

from simam_deploy.engines.arguments import GPUS, bounds_told, targets_of, unknown_targets
from simam_deploy.engines.builder import build_engine
from simam_deploy.errors import InputError, OutputError


@pytest.mark.parametrize("given", ["sm86,sm89", ["SM86", "sm89"], ("sm86", " sm89 "), iter(["sm86", "sm89"])])
def test_targets_as_a_list_or_as_one_text(given: Any) -> None:
    assert targets_of(given) == ["sm86", "sm89"]


@pytest.mark.parametrize("given", [86, [86], [None], {"sm86": 1}.items()])
def test_targets_that_are_no_texts(given: Any, static: Path) -> None:
    with pytest.raises(InputError, match=r"targets are texts, as \['sm86', 'sm89'\]; got"):
        build_engine(static, static.with_name("e"), targets=given)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("8.6", "8.6 may be sm86"),
        ("sm_89", "sm_89 may be sm89"),
        ("sm87", r"sm87 is a Jetson \(sm87 Orin\), where TensorRT builds on the device: simam-deploy recipe jetson"),
        ("sm110", r"sm110 is a Jetson \(sm110 Thor\)"),
        ("sm90", r"sm90 \(H100, H200\) is for TensorRT, on that machine: --flavor tensorrt"),
        ("orin", r"orin is a Jetson \(sm87 Orin\), where TensorRT builds on the device: simam-deploy recipe jetson"),
        ("sm89 sm86", "separate targets by commas"),
        ("ada", r"sm89 \(RTX 40, L4, L40\)"),
    ],
)
def test_an_unknown_target_says_what_it_may_be(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        raise InputError(unknown_targets([name], list(GPUS), "TensorRT-RTX 1.7"))


@pytest.mark.parametrize("place", ["model", "engine"])
@pytest.mark.parametrize("value", [b"m.onnx", 7, None, onnx.ModelProto()])
def test_paths_that_are_none(place: str, value: Any, static: Path) -> None:
    paths = {"model": static, "engine": static.with_name("e")} | {place: value}
    with pytest.raises(InputError, match=rf"the {place} is a path, as text; got {type(value).__name__}"):
        build_engine(*paths.values(), targets=["sm86"])


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"timeout_s": 0}, "--timeout is more than 0 and up to 10,000,000 seconds; got 0\nleave it out for no bound"),
        ({"timeout_s": -1}, "--timeout is more than 0 .*; got -1"),
        ({"timeout_s": float("nan")}, "--timeout is more than 0 .*; got nan"),
        ({"timeout_s": float("inf")}, "--timeout is more than 0 .*; got inf"),
        ({"timeout_s": 1e400}, "--timeout is more than 0 .*; got inf"),
        ({"memory_mb": 10}, "--memory is 256 MiB or more, as the builder itself takes 200; got 10"),
    ],
)
def test_bounds_that_no_build_keeps(bounds: dict[str, Any], words: str, static: Path) -> None:
    with pytest.raises(InputError, match=words):
        build_engine(static, static.with_name("e"), targets=["sm86"], **bounds)


def test_a_bound_is_told_where_a_build_fails() -> None:
    assert bounds_told(None, None) == ""
    assert bounds_told(1, 300) == "\nit had --workspace 1 MiB and --memory 300 MiB; raise that, or leave it out"


@pytest.mark.parametrize("name", ["notes.txt", "net.engine", "weights.pt"])
def test_a_file_that_is_no_engine_stays(name: str, static: Path) -> None:
    there = static.with_name(name)
    there.write_text("three months of work")
    with pytest.raises(OutputError, match=f"cannot write .*{name}: a file is there, and it is no engine"):
        build_engine(static, there, targets=["sm86"])
    assert there.read_text() == "three months of work"
    assert names(static.parent) == sorted(["model.onnx", name])


def test_an_engine_is_not_named_as_a_model(static: Path) -> None:
    with pytest.raises(OutputError, match=r"an engine is no ONNX file; name it other\.engine"):
        build_engine(static, static.with_name("other.onnx"), targets=["sm86"])
    with pytest.raises(OutputError, match=r"an engine is no manifest; name it model\.onnx\.engine"):
        build_engine(static, static.with_name("model.onnx.json"), targets=["sm86"])
    assert names(static.parent) == ["model.onnx"]
