"""Which version of TensorRT has a name, in words."""

import pytest

from simam_deploy.engines.api_table import TITLES, Api, FlavorName, _names, _versions, since
from simam_deploy.errors import InputError


@pytest.mark.parametrize(
    ("flavor", "version", "name", "there"),
    [
        ("tensorrt", "10.0.1", "BuilderFlag.STRIP_PLAN", True),
        ("tensorrt", "10.0.1", "RuntimePlatform", False),
        ("tensorrt", "10.3.0", "RuntimePlatform", True),
        ("tensorrt", "10.3.0", "IBuilderConfig.max_num_tactics", False),
        ("tensorrt", "10.4", "IBuilderConfig.max_num_tactics", True),
        ("tensorrt", "10.14.1", "OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE", False),
        ("tensorrt", "10.15.1", "OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE", True),
        ("tensorrt", "10.13.0.35", "BuilderFlag.FP16", True),
        ("tensorrt", "11.0.0.114", "BuilderFlag.FP16", False),
        ("tensorrt", "11.4.0.106", "ComputeCapability.SM86", False),
        ("tensorrt_rtx", "1.7.1.116", "ComputeCapability.SM86", True),
        ("tensorrt_rtx", "1.7.1.116", "BuilderFlag.FP16", False),
    ],
)
def test_names_of_versions(flavor: FlavorName, version: str, name: str, there: bool) -> None:
    assert Api.of(flavor, version).has(name) is there


@pytest.mark.parametrize(
    ("flavor", "version", "known", "note"),
    [
        ("tensorrt", "10.3.0", "10.3.0", ""),
        ("tensorrt", "10.3.0.26", "10.3.0", ""),
        ("tensorrt", "10.9", "10.9.0.34", ""),
        (
            "tensorrt",
            "10.17.1",
            "10.16.0.72",
            "TensorRT 10.17.1 is not in the table; it is taken for TensorRT 10.16.0.72",
        ),
        (
            "tensorrt",
            "12.0",
            "11.4.0.106",
            "TensorRT 12.0 is newer than all that are known; it is taken for TensorRT 11.4.0.106",
        ),
        ("tensorrt_rtx", "1.7.0.23", "1.7.1.116", ""),
        (
            "tensorrt_rtx",
            "1.8",
            "1.7.1.116",
            "TensorRT-RTX 1.8 is newer than all that are known; it is taken for TensorRT-RTX 1.7.1.116",
        ),
    ],
)
def test_the_nearest_version_answers_and_says_so(flavor: FlavorName, version: str, known: str, note: str) -> None:
    assert Api.of(flavor, version) == Api(flavor, version, known, note)


def test_a_version_that_is_too_old_or_is_none() -> None:
    with pytest.raises(InputError, match=r"^TensorRT 8.6.1 is too old; TensorRT 10.0 or later is needed$"):
        Api.of("tensorrt", "8.6.1")
    with pytest.raises(InputError, match=r"^TensorRT-RTX 1.2 is too old; TensorRT-RTX 1.7 or later is needed$"):
        Api.of("tensorrt_rtx", "1.2")
    with pytest.raises(InputError, match=r"^cannot read the version 'new'; write it as 10.3 or 10.3.0$"):
        Api.of("tensorrt", "new")


@pytest.mark.parametrize(
    ("name", "flavor", "words"),
    [
        ("BuilderFlag.STRIP_PLAN", "tensorrt", "TensorRT 10.0 or later"),
        ("BuilderFlag.STRIP_PLAN", "tensorrt_rtx", "TensorRT-RTX 1.7 or later"),
        ("IBuilderConfig.max_num_tactics", "tensorrt", "TensorRT 10.4 or later"),
        ("OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE", "tensorrt", "TensorRT 10.15 or later"),
        ("BuilderFlag.FP16", "tensorrt", "TensorRT 10 (gone in 11.0)"),
        ("BuilderFlag.FP16", "tensorrt_rtx", "TensorRT 10 (gone in 11.0), not TensorRT-RTX"),
        ("BuilderFlag.FP4", "tensorrt", "TensorRT 10.8 to 10.16 (gone in 11.0)"),
        ("IBuilderConfig.remote_auto_tuning_config", "tensorrt_rtx", "TensorRT 10.13 or later, not TensorRT-RTX"),
        ("ComputeCapability", "tensorrt", "TensorRT-RTX alone"),
    ],
)
def test_versions_in_words(name: str, flavor: FlavorName, words: str) -> None:
    assert since(name, flavor) == words


def test_a_name_that_no_version_has_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError, match=r"BuilderFlag.STRIPPED"):
        Api.of("tensorrt", "10.3").has("BuilderFlag.STRIPPED")
    with pytest.raises(KeyError, match=r"BuilderFlag.STRIPPED"):
        since("BuilderFlag.STRIPPED", "tensorrt")


@pytest.mark.parametrize("flavor", TITLES)
def test_each_name_has_words(flavor: FlavorName) -> None:
    assert len(_names()) > 300
    for name in _names():
        words = since(name, flavor)
        assert words.startswith("TensorRT")
        if "or later" in words and "not" not in words and "alone" not in words:
            assert Api.of(flavor, _versions(flavor)[-1]).has(name), words
