"""`build` through NVIDIA's bindings of each TensorRT: our calls, not their builder. See tests/trt_api."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.small_onnx import names, save

from simam_deploy.engines import flavors
from simam_deploy.engines.api_table import Api
from simam_deploy.engines.builder import EngineReport, build_engine
from simam_deploy.engines.options import SETTINGS, needed
from simam_deploy.errors import BuildError, InputError

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
SHAPES = {"x": [(1, 3, 16, 16), (1, 3, 32, 32), (8, 3, 64, 64)]}
TAKEN = {
    "workspace_mb": 1024,
    "optimization_level": 1,
    "tf32": False,
    "sparse_weights": True,
    "profiling_verbosity": "detailed",
    "max_aux_streams": 0,
}
"""Options that every version has, and that the core behind the bindings builds with."""


@pytest.fixture
def installed(trt_version: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`tensorrt` is on the path of the worker alone."""
    monkeypatch.setattr(flavors, "find_spec", lambda _: object())
    return trt_version


def built(model: Path, **options: object) -> EngineReport:
    return build_engine(model, model.with_name("e"), flavor="tensorrt", shapes=SHAPES, **options)  # type: ignore[arg-type]


def test_an_engine_is_built(installed: str, dynamic: Path) -> None:
    stages: list[str] = []
    report = built(dynamic, on_progress=stages.append, **TAKEN)
    assert (report.flavor, report.version, report.targets) == ("tensorrt", installed, ())
    assert [(block["node"], block["built"]) for block in report.blocks] == [("block", "fallback")]
    assert report.options == TAKEN
    assert [stage for stage in stages if ": " not in stage] == ["parse", "build", "write"]
    assert names(dynamic.parent) == ["e", "e.json", "model.onnx"]


def test_options_that_the_version_lacks(installed: str, dynamic: Path) -> None:
    """Each by the name that it lacks, before anything is parsed."""
    api = Api.of("tensorrt", installed)
    given = {"max_tactics": 3, "hardware_compatible": "same_compute_capability", "version_compatible": True}
    lacking = [(option, name) for option, name in needed(given) if not api.has(name)]
    assert bool(lacking) == (installed in ("10.0.1", "10.3.0"))
    for option, name in lacking:
        stages: list[str] = []
        words = rf"TensorRT {installed} has no {name}: --{option.replace('_', '-')} needs TensorRT 10\.\d+ or later"
        with pytest.raises(InputError, match=words):
            built(dynamic, on_progress=stages.append, **{option: given[option]})
        assert stages == []


def test_the_network_is_strongly_typed(installed: str, tmp_path: Path) -> None:
    """The flag has another number in 10 and 11. A weakly typed network takes float + float16."""
    path = save(tmp_path, "g (float[1,8] x, float16[1,8] h) => (float[1,8] y) { y = Add(x, h) }")
    with pytest.raises(BuildError, match=r"(?s)cannot parse model\.onnx:.*Add.*type"):
        build_engine(path, tmp_path / "e", flavor="tensorrt")


def test_targets_are_for_rtx(installed: str, static: Path) -> None:
    with pytest.raises(InputError, match="takes no targets"):
        build_engine(static, static.with_name("e"), flavor="tensorrt", targets=["sm87"])


def test_every_name_of_an_option_is_in_the_table() -> None:
    for option, setting in SETTINGS.items():
        for name in setting.names:
            for value in ("AMPERE_PLUS",) if "Hardware" in name else ("DETAILED",):
                assert isinstance(Api.of("tensorrt", "11.4.0").has(name.format(value)), bool), option
