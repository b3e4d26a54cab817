"""trtexec: the flags of its version, and what a shell makes of the script."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import onnx
import pytest

import simam_deploy as sd
from benchmarks import trtexec_flags
from simam_deploy.package import versions

SHAPES = {"x": ((1, 3, 4, 4), (2, 3, 8, 8), (4, 3, 16, 16))}
KNOWN: dict[str, list[str]] = json.loads(versions.TABLE.read_text())["flags"]
NUMBERS = sorted({number for known in KNOWN.values() for number in known})
GONE = {"--fp16", "--bf16", "--int8", "--fp8", "--best", "--calib"}


def text_of(host: str, file: str, number: str, plugin: str | None) -> str:
    jetpack = {"jetpack": "6.2"} if host == "jetson" else {}
    return sd.recipe(host, file, tensorrt=number, shapes=SHAPES, plugin=plugin, **jetpack).text


def flags_of(text: str) -> set[str]:
    """Those of each command whose program is trtexec, also in a comment."""
    commands = [line for line in text.replace("\\\n", " ").splitlines() if re.search(r"trtexec +--", line)]
    assert commands
    words = [word for line in commands for word in shlex.split(line.lstrip("# "))]
    return {word.partition("=")[0] for word in words if word.startswith("-")}


@pytest.mark.parametrize("host", ["trtexec", "deepstream", "jetson"])
@pytest.mark.parametrize("number", NUMBERS)
def test_each_flag_is_one_of_its_version(folder: Path, host: str, number: str) -> None:
    for file in ("dynamic.onnx", "named.onnx"):
        for plugin in (None, "libours.so"):
            flags = flags_of(text_of(host, file, number, plugin))
            assert {"--onnx", "--saveEngine", "--minShapes"} <= flags
            assert not {flag for flag in flags if number not in KNOWN.get(flag, ())}
            assert not flags & GONE
            assert ("--stronglyTyped" in flags) == number.startswith("10.")


def test_the_table_holds_the_flags_of_each_version() -> None:
    assert {"10.0", "10.3", "10.9", "10.13", "10.16", "11.0", "11.1"} <= set(NUMBERS)
    assert "10.16" in KNOWN["--fp16"]
    assert "11.0" not in KNOWN["--fp16"]
    assert KNOWN["--enablePluginOverride"] == ["10.15", "10.16", "11.0", "11.1"]
    assert len(KNOWN["--noTF32"]) == len(NUMBERS)


def test_an_option_that_the_version_lacks_is_an_error() -> None:
    with pytest.raises(sd.InputError, match=r"trtexec of TensorRT 11.1 has no --fp16"):
        versions.tensorrt("11.1").refuse_unknown(["--onnx=a.onnx", "--fp16"])


def test_the_table_is_made_from_the_source() -> None:
    source = 'getAndDelOption(arguments, "--onnx", m); get(a, s, "--minShapes", k); "  --help  text" "--a is bad"'
    assert trtexec_flags.flags_in(source) == ["--minShapes", "--onnx"]
    tags = trtexec_flags.last_tags(["v8.6.1", "v10.13.0", "v10.13.3", "v10.9.0", "v11.0", "22.01"])
    assert tags == {"10.9": "v10.9.0", "10.13": "v10.13.3", "11.0": "v11.0"}
    text = trtexec_flags.as_text(tags, {"--onnx": ["10.9", "11.0"], "--a": ["11.0"]})
    assert json.loads(text)["flags"] == {"--a": ["11.0"], "--onnx": ["10.9", "11.0"]}


@pytest.mark.parametrize(
    ("file", "number", "override", "note"),
    [
        (
            "dynamic.onnx",
            "10.3",
            False,
            "TensorRT 10.3 takes the fallback definition, not the plugin; for the",
        ),
        ("dynamic.onnx", "10.9", False, "by its changelog TensorRT 10.9 takes the plugin before the fallback"),
        ("dynamic.onnx", "10.16", True, ""),
        ("dynamic.onnx", "11.1", True, ""),
        ("named.onnx", "10.3", False, "TensorRT 10.3 takes the fallback definition"),
        ("named.onnx", "10.16", False, ""),
    ],
)
def test_the_plugin(folder: Path, file: str, number: str, override: bool, note: str) -> None:
    recipe = sd.recipe("trtexec", file, tensorrt=number, plugin="libours.so", shapes=SHAPES)
    assert recipe.text.count("--dynamicPlugins=./libours.so") == 2
    assert ("--enablePluginOverride" in recipe.text) == override
    assert bool(recipe.notes) == bool(note)
    assert all(each.startswith(note) for each in recipe.notes)


def test_a_bare_node_needs_no_override(folder: Path) -> None:
    recipe = sd.recipe("trtexec", "bare.onnx", tensorrt="11.1", plugin="libours.so")
    assert ("--enablePluginOverride" in recipe.text, recipe.notes) == (False, ())


def run_with_stand_in(folder: Path, text: str) -> list[list[str]]:
    """The arguments of each call that the script makes of trtexec."""
    stand_in = folder / "bin/trtexec"
    stand_in.parent.mkdir()
    stand_in.write_text(
        '#!/bin/sh\nfor word in "$@"; do printf "%s\\0" "$word"; done >> calls\nprintf "\\n\\0" >> calls\n'
    )
    stand_in.chmod(0o755)
    variables = {"PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", text], cwd=folder, env=variables, check=True, timeout=60)
    calls = (folder / "calls").read_text().split("\n\0")
    return [call.rstrip("\0").split("\0") for call in calls if call]


def test_a_shell_gives_trtexec_each_word_as_it_is(folder: Path) -> None:
    evil = 'x $(touch pwned) `touch pwned`; "touch" \\ pwned & # é:0'
    model = onnx.load("dynamic.onnx")
    model.graph.input[0].name = model.graph.node[0].input[0] = evil
    onnx.save(model, "a $(touch pwned) '\".onnx")
    shapes = {evil: SHAPES["x"]}
    recipe = sd.recipe(
        "trtexec", "a $(touch pwned) '\".onnx", tensorrt="10.16", shapes=shapes, plugin="my lib's.so", engine="a b"
    )
    build, load = run_with_stand_in(folder, recipe.text)
    assert build == [
        "--onnx=a $(touch pwned) '\".onnx",
        "--saveEngine=a b",
        "--skipInference",
        f"--minShapes={evil}:1x3x4x4",
        f"--optShapes={evil}:2x3x8x8",
        f"--maxShapes={evil}:4x3x16x16",
        "--stronglyTyped",
        "--dynamicPlugins=./my lib's.so",
        "--enablePluginOverride",
    ]
    assert load[:3] == ["--loadEngine=a b", f"--shapes={evil}:2x3x8x8", "--dynamicPlugins=./my lib's.so"]
    assert not (folder / "pwned").exists()


def test_a_fixed_file_has_no_shapes(folder: Path) -> None:
    build, load = run_with_stand_in(folder, sd.recipe("trtexec", "fixed.onnx", tensorrt="11.1").text)
    assert build == ["--onnx=fixed.onnx", "--saveEngine=fixed.engine", "--skipInference"]
    assert load == ["--loadEngine=fixed.engine"]


def test_operators_of_others_are_named(folder: Path) -> None:
    model = onnx.load("fixed.onnx")
    model.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    model.graph.node.append(onnx.helper.make_node("Their", ["x"], ["z"], domain="theirs"))
    onnx.save(model, "theirs.onnx")
    notes = sd.recipe("trtexec", "theirs.onnx", tensorrt="10.3").notes
    assert notes[-1] == "theirs::Their is of another domain, so TensorRT needs a plugin for it too"
