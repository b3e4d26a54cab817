"""NVIDIA's bindings of each version: the table is theirs, and engines are built through them. See tests/trt_api."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest
import trt_api
from trt_api import install, table

import simam_deploy as sd
from export_models import digits
from simam_deploy.engines.api_table import Api, FlavorName, _names

HERE = Path(trt_api.__file__).parent
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


def python(*arguments: object) -> str:
    """Output of a child process, which inherits PYTHONPATH."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_the_table(flavor: FlavorName, version: str) -> set[str]:
    api = Api.of(flavor, version)
    assert (api.known, api.note) == (version, "")
    return {name for name in _names() if api.has(name)}


@pytest.mark.parametrize("module", ["tensorrt_bindings", "tensorrt"])
def test_the_table_holds_the_names_of_the_bindings(trt_version: str, module: str) -> None:
    if module == "tensorrt" and find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    listed = json.loads(python(HERE / "names.py", module))
    assert listed["version"] == trt_version
    assert table.kept(listed["names"]) == in_the_table("tensorrt", trt_version)


@needs_rtx
def test_the_table_holds_the_names_of_rtx() -> None:
    listed = table.of_rtx()
    assert table.kept(listed["names"]) == in_the_table("tensorrt_rtx", listed["version"])


def test_a_span_has_no_hole() -> None:
    versions = ["10.0.1", "10.3.0", "11.0.0.114"]
    assert table.span([False, True, True], versions) == ["10.3"]
    assert table.span([True, True, False], versions) == ["10.0", "10.3"]
    with pytest.raises(AssertionError, match="came back"):
        table.span([True, False, True], versions)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, exporter="torchscript")
    return path


@needs_rtx
def test_engines_are_built_through_the_bindings(trt_version: str, network: Path, dynamic: Path) -> None:
    """Settings come back as they were made: each call met the method that it meant."""
    built = json.loads(python(HERE / "build.py", network, dynamic))
    assert built["version"] == trt_version
    for each, layers in zip(built["files"], (50, 20), strict=True):
        assert each.pop("layers") > layers
        assert each.pop("bytes") > 100_000
        assert each.pop("events") > 50
        assert each == {
            "errors": [],
            "profiles": 1,
            "level": 2,
            "verbosity": "DETAILED",
            "workspace": 2**30,
            "flags": ["DISABLE_TIMING_CACHE"],
            "registry": True,
        }


OVERLAY = """
import json, sys
import tensorrt as trt
def words(expression):
    try:
        return repr(eval(expression))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
builder = trt.Builder(trt.Logger())
config = builder.create_builder_config()
print(json.dumps([words(line) for line in sys.argv[1:]]))
"""


@needs_rtx
@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("trt.__version__", "'10.3.0'"),
        ("int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)", "1"),
        ("trt.BuilderFlag.STRIP_PLAN.value", "19"),
        ("trt.BuilderFlag.WEIGHTLESS == trt.BuilderFlag.STRIP_PLAN", "True"),
        ("trt.BuilderFlag.__members__['FP16']", "<BuilderFlag.FP16: 0>"),
        ("'ENABLE_PLUGIN_OVERRIDE' in trt.OnnxParserFlag.__members__", "False"),
        ("config.set_flag(trt.BuilderFlag.FP16)", "TypeError: set_flag(): incompatible function arguments"),
        ("trt.ComputeCapability", "AttributeError: TensorRT 10.3.0 has no ComputeCapability"),
        ("config.num_compute_capabilities", "AttributeError: "),
        ("setattr(config, 'max_num_tactics', 1)", "AttributeError: "),
        ("trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE", "AttributeError: "),
        ("config.flags", "NotImplementedError: IBuilderConfig.flags of TensorRT 10.3.0 has no counterpart"),
        ("config.int8_calibrator", "NotImplementedError: IBuilderConfig.int8_calibrator of TensorRT 10.3.0"),
        ("trt.IInt8Calibrator", "NotImplementedError: IInt8Calibrator of TensorRT 10.3.0 has no counterpart"),
        ("builder.create_network(1 << 0)", "NotImplementedError: the network is weakly typed (flags=1)"),
        ("builder.create_network(1 << 2)", "ValueError: TensorRT 10.3.0 has no such flags of a network: 4"),
        ("builder.create_network(1 << 1).num_layers", "0"),
    ],
)
def test_the_overlay_has_the_names_of_its_version_alone(
    expression: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := trt_api.missing("10.3.0"):
        pytest.skip(reason)
    monkeypatch.setenv("PYTHONPATH", trt_api.path_for("10.3.0"))
    (got,) = json.loads(python("-c", OVERLAY, expression))
    assert got.startswith(words)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is installed, and two versions are wanted."""
    monkeypatch.setattr(trt_api, "ROOT", tmp_path / "trt-api")
    monkeypatch.setattr(install, "ROOT", tmp_path / "trt-api")
    monkeypatch.setattr(install, "VERSIONS", ("10.0.1", "11.4.0.106"))
    return tmp_path


def test_versions_that_cannot_be_had_are_named(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    install.main()
    monkeypatch.setattr("shutil.which", lambda _: None)
    install.main()
    said = capfd.readouterr().out.splitlines()
    words = "TensorRT 10.0.1: cannot be had, its tests are skipped: "
    assert len(said) == 4
    assert said[0] == f"{words}ERROR: No matching distribution found for tensorrt-cu12-bindings==10.0.1"
    assert said[2] == f"{words}there is no C compiler, cc"
    assert trt_api.missing("10.0.1").endswith(": make trt-api")


@pytest.mark.skipif(which("cc") is None, reason="there is no C compiler")
def test_a_mistake_of_ours_is_no_reason_to_skip(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "download", lambda version: trt_api.folder(version).mkdir())
    monkeypatch.setattr(install, "HERE", empty)
    for name in ("core.c", "install.py", "names.py", "overlay.py"):
        (empty / name).write_text("no code")
    with pytest.raises(subprocess.CalledProcessError, match="cc"):
        install.main()
    assert trt_api.missing("10.0.1")
