"""Which builder is chosen, and the options that each refuses."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_onnx import save
from onnx import numpy_helper

from simam_deploy.engines import builder, flavors
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.flavors import FLAVORS, RTX, TENSORRT, chosen
from simam_deploy.engines.options import COMPATIBILITIES, SETTINGS, VERBOSITIES, BuildOptions, needed
from simam_deploy.errors import InputError, RuntimeUnavailable

GIVEN = {
    "workspace_mb": 64,
    "optimization_level": 5,
    "timing_cache": Path("times.cache"),
    "version_compatible": True,
    "hardware_compatible": COMPATIBILITIES[0],
    "refit": True,
    "strip": True,
    "sparse_weights": True,
    "tf32": False,
    "profiling_verbosity": VERBOSITIES[2],
    "max_aux_streams": 0,
    "max_tactics": 10,
}


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavors, "find_spec", lambda name: object())


@pytest.mark.usefixtures("both")
def test_auto_goes_by_the_targets() -> None:
    assert chosen("auto", ["sm86"]) == (RTX, "flavor: tensorrt_rtx, as targets are named")
    assert chosen("auto", []) == (TENSORRT, "flavor: tensorrt, as no targets are named and tensorrt is installed")
    assert chosen("tensorrt", []) == (TENSORRT, "")
    assert chosen("tensorrt_rtx", ["sm86"]) == (RTX, "")


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("name", "targets", "words"),
    [
        ("trt", [], "--flavor takes auto, tensorrt, tensorrt_rtx; got 'trt'"),
        ("tensorrt", ["sm87"], r"takes no targets; asked for sm87\nleave --targets out, or build with --flavor"),
        ("tensorrt_rtx", [], "no target to build for; name the GPU kinds"),
    ],
)
def test_flavors_that_do_not_fit(name: str, targets: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        chosen(name, targets)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
def test_a_builder_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavors, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailable, match=f"no {FLAVORS[name].title} here; install it with: pip install"):
        chosen(name, ["sm86"] if name == "tensorrt_rtx" else [])


def test_without_tensorrt_auto_asks_for_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavors, "find_spec", lambda name: object() if name == "tensorrt_rtx" else None)
    with pytest.raises(InputError, match="no target to build for"):
        chosen("auto", [])


def test_every_option_has_a_setting_and_names() -> None:
    assert set(GIVEN) == set(SETTINGS) == set(vars(BuildOptions()))
    assert BuildOptions.of({}).asked() == {}
    asked = BuildOptions.of({**GIVEN, "timing_cache": "times.cache"}).asked()
    assert asked == {**GIVEN, "timing_cache": "times.cache"}
    names = dict(needed({"hardware_compatible": "ampere_plus", "profiling_verbosity": "none"}))
    assert names == {
        "hardware_compatible": "HardwareCompatibilityLevel.AMPERE_PLUS",
        "profiling_verbosity": "ProfilingVerbosity.NONE",
    }


@pytest.mark.parametrize("option", [name for name, setting in SETTINGS.items() if setting.not_rtx])
def test_rtx_refuses_what_has_no_effect(option: str, static: Path) -> None:
    with pytest.raises(
        InputError, match=rf"TensorRT-RTX has no --{option.replace('_', '-')}: .*\n.*--flavor tensorrt"
    ):
        build_engine(static, static.with_name("e"), targets=["sm86"], **{option: GIVEN[option]})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workspace_mb": 0}, "--workspace is 1 or more; got 0"),
        ({"optimization_level": 6}, "--optimization-level takes 0, 1, 2, 3, 4, 5; got 6"),
        ({"hardware_compatible": "all"}, "--hardware-compatible takes ampere_plus, same_compute_capability"),
        ({"profiling_verbosity": "loud"}, "--profiling-verbosity takes layer_names_only, none, detailed"),
        ({"max_aux_streams": -1}, "--max-aux-streams is 0 or more"),
        ({"fp16": True}, "a build has no option 'fp16'; there are workspace_mb, optimization_level"),
    ],
)
def test_options_that_cannot_be(given: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        BuildOptions.of(given)


def sparse(folder: Path) -> Path:
    """Two convolutions side by side, with two zeros in each four weights."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((64, 64, 3, 3)).astype(np.float32) for _ in range(2)]
    for kernel in weights:
        kernel[:, 0::4], kernel[:, 2::4] = 0, 0  # the groups are input channels
    text = "g (float[1,64,16,16] x) => (float[1,64,14,14] y) { a = Conv(x, v) b = Conv(x, w) y = Add(a, b) }"
    model = onnx.load(save(folder, text))
    held = [numpy_helper.from_array(value, name) for name, value in zip("vw", weights, strict=True)]
    model.graph.initializer.extend(held)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_the_table_of_effects_is_what_the_builder_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option without effect leaves the bytes as they are; one with an effect changes them."""
    model, engine = sparse(tmp_path), tmp_path / "e.engine"
    monkeypatch.setattr(builder, "refuse_without_effect", lambda _: None)
    build_engine(model, engine, targets=["sm86"])
    plain = engine.read_bytes()
    asked = {
        "workspace_mb": 64,
        "tf32": False,
        "profiling_verbosity": "detailed",
        "optimization_level": 0,
        "sparse_weights": True,
        "max_aux_streams": 2,
    }
    same = []
    for option, value in asked.items():
        build_engine(model, engine, targets=["sm86"], **{option: value})
        same += [option] * (engine.read_bytes() == plain)
    assert same == ["optimization_level", "sparse_weights", "max_aux_streams"]
    assert same == [option for option in asked if SETTINGS[option].not_rtx]
