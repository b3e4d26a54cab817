"""Bad input on the command line is told apart, is exit status 2, and leaves nothing behind."""

import re
import sys
from pathlib import Path

import pytest
import torch
from helpers.command_line import EXPORT, TINY, Run, contents

from simam_deploy.rewrite.forms import FORMS

POPULATION = "divides the sum of squares by M = 16, not by M - 1 = 15 .population variance"

BAD: list[tuple[str, str]] = [
    # a model without SimAM, and what came nearest
    (f"{EXPORT}without -o out.onnx --exporter torchscript", "found no SimAM block, nor anything like one"),
    (
        f"{EXPORT}population -o out.onnx --exporter torchscript",
        r"found no SimAM block; what came nearest:\n/Mul.*:\n  " + POPULATION,
    ),
    (
        "fuse population_variance.onnx -o out.onnx",
        r"found no SimAM block; what came nearest:\nsimam:\n  " + POPULATION,
    ),
    # maps of 1x1, x that is not 4-D
    (f"{EXPORT}map_1x1 -o out.onnx", r"SimAM on a 1x1 map is 0/0 .* got x of shape \(1, 2, 1, 1\)"),
    ("fuse one.onnx -o out.onnx", r"simam:\n  its map is 1x1, where SimAM is 0/0 .*; take SimAM out there"),
    (f"{EXPORT}input_3d -o out.onnx", r"takes x of shape \(N, C, H, W\); got 3-D \(2, 4, 4\)"),
    (f"{EXPORT}input_5d -o out.onnx", r"got 5-D \(1, 2, 4, 4, 4\)"),
    # opsets and forms
    (
        "fuse old.onnx -o out.onnx",
        r"SimAM is written in opset 7 or later; the file has opset 6\nraise it first, .*convert_version",
    ),
    (
        f"{EXPORT}build -o out.onnx --opset 13",
        "dynamo exporter writes opset 18 and later; asked for 13\nuse --exporter torchscript",
    ),
    (f"{EXPORT}build -o out.onnx --opset 99", r"there is no opset 99; the installed onnx [\d.]+ knows 1 to \d+"),
    (f"{EXPORT}build -o out.onnx --opset 0 --exporter torchscript", "there is no opset 0"),
    (
        "fuse dynamic.onnx -o out.onnx --form instance_norm",
        "form 'instance_norm' cannot lower the SimAM block at node 'simam':\n  H is not fixed\n  W is not fixed\n"
        ".*--shape 1,3,224,224.*--form primitive",
    ),
    ("fuse fixed.onnx -o out.onnx --form nope", f"there is no form 'nope'; the forms are {', '.join(FORMS)}"),
    (f"{EXPORT}build -o out.onnx --form nope", "there is no form 'nope'; the forms are function"),
    ("verify fixed.onnx --forms primitive,nope", "there is no form 'nope'"),
    # files that cannot be read
    *(
        (command.format(file), words)
        for command in (
            "fuse {} -o out.onnx",
            "inspect {}",
            "verify {}",
            "bench {}",
            "build {} -o out.onnx --targets sm86",
        )
        for file, words in (
            ("cut.onnx", "cut.onnx.*truncated"),
            ("empty.onnx", "empty.onnx.*(truncated|graph)"),
            ("text.onnx", "text.onnx.*(truncated|graph)"),
            ("weights_elsewhere.onnx", r"weights.* in w.bin, which is (missing|not beside it)"),
            ("nowhere.onnx", "(?i)no (such )?file"),
            (".", "(?i)is a (folder|directory)"),
        )
    ),
    ("fuse newer_ir.onnx -o out.onnx", "has IR version 99; .*\npip install --upgrade onnx"),
    ("inspect newer_opset.onnx", "has opset 99; .*\npip install --upgrade onnx"),
    # weights and models by name
    (
        f"{EXPORT}build -o out.onnx --weights misfit.pt",
        "weights in misfit.pt do not fit Net:\n  missing: conv.bias\n  left over: head.weight\n$",
    ),
    (f"{EXPORT}build -o out.onnx --weights w.pt", "w.pt is not a file of torch.save, or is truncated"),
    (f"{EXPORT}build -o out.onnx --weights nowhere.pt", "there is no file nowhere.pt"),
    (f"{EXPORT}nope -o out.onnx", "has no callable 'nope'; it has .*build"),
    ("export nowhere.py:build -o out.onnx", "there is no file nowhere.py"),
    ("export tiny -o out.onnx", "'tiny' does not name a model; give package.module:callable or file.py:callable"),
    (f"{EXPORT}no_example -o out.onnx", "gives no example input; say its size with --shape"),
    ("verify fixed.onnx --weights misfit.pt", "--weights are for a PyTorch model; name it with --against"),
    # the place to write to
    (f"{EXPORT}build -o nowhere/out.onnx", "the folder does not exist; create it with mkdir -p nowhere"),
    ("fuse fixed.onnx -o nowhere/out.onnx", "the folder does not exist; create it with mkdir -p nowhere"),
    ("fuse fixed.onnx -o text.onnx/out.onnx", "text.onnx is not a folder"),
    ("fuse fixed.onnx -o .", "it is a folder; give the name of a file in it"),
    ("fuse fixed.onnx -o ..", "it is a folder; give the name of a file in it"),
    (f"{EXPORT}build -o .", "it is a folder; give the name of a file in it"),
    ("fuse fixed.onnx -o fixed.onnx", "same file as the input fixed.onnx, and inputs are never modified"),
    ("fuse fixed.onnx -o ./../{folder}/fixed.onnx", "same file as the input fixed.onnx"),
    ("fuse fixed.onnx -o fixed.onnx.json", "same file as the input fixed.onnx.json, and inputs are never modified"),
    ("export mine.py:build -o mine.py", "same file as the input mine.py, and inputs are never modified"),
    ("export mine:build -o mine.py", "same file as the input .*mine.py"),
    ("export using.py:build -o helper.py", "same file as the input .*helper.py"),
    ("export inner.mine:build -o inner/mine.py", "same file as the input .*mine.py"),
    (f"{EXPORT}build --weights fits.pt -o fits.pt", "same file as the input fits.pt"),
    (f"{EXPORT}build --weights fits.pt.json -o fits.pt", r"fits.pt.json \(written next to fits.pt\)"),
    ("build fixed.onnx -o fixed.onnx --targets sm86", "same file as the input fixed.onnx"),
    # runtimes and providers
    ("verify fixed.onnx --runtimes nope", "no such runtime for ONNX files: nope; there are onnx_reference, ort"),
    ("verify fixed.onnx --runtimes eager", "no such runtime for ONNX files: eager"),
    ("verify fixed.onnx --runtimes ,", "--runtimes names none"),
    (
        "verify fixed.onnx --runtimes ort --provider NopeExecutionProvider",
        "ort: asked for NopeExecutionProvider, but .*\nonnxruntime .* has .*CPUExecutionProvider",
    ),
    (
        "verify fixed.onnx --runtimes onnx_reference --provider CUDAExecutionProvider",
        "--provider CUDAExecutionProvider is for ort, which is not among onnx_reference",
    ),
    ("verify fixed.onnx --threads -1", "threads must be 0 .* to 1024; got -1"),
    (
        "verify custom.onnx --runtimes ort",
        r"simam.SimAM .*has no fallback definition in the file.*use --form function",
    ),
    (
        "bench fixed.onnx --forms custom_op --runtimes ort",
        "nothing is left to run:\n  custom_op · ort: form custom_op",
    ),
    ("verify fixed.onnx --forms custom_op --runtimes ort", "nothing is left to run"),
    # axes, shapes and inputs
    (
        f"{EXPORT}build -o out.onnx --dynamic depth",
        "no input has an axis depth: 'x' is 4-D .*, which has batch, height, width\n.* x:1 or",
    ),
    (f"{EXPORT}build -o out.onnx --exporter nope", "no exporter 'nope'; the exporters are dynamo, torchscript"),
    (f"{EXPORT}build -o out.onnx --shape 1,a", "cannot read the shape 1,a; give positive numbers, as 1,3,224,224"),
    (f"{EXPORT}build -o out.onnx --shape 1,0,2", "cannot read the shape 1,0,2"),
    (f"{EXPORT}build -o out.onnx --shape 1,5,6,6", r"does not run on inputs of shape \(1, 5, 6, 6\)"),
    ("verify fixed.onnx --shape ' '", "cannot read the shape"),
    ("verify fixed.onnx --shape ''", r"input 'x' has shape \(1, 3, 4, 4\); \(\) does not fit it"),
    ("verify fixed.onnx --shape 1,3,5,5", r"input 'x' has shape \(1, 3, 4, 4\); \(1, 3, 5, 5\) does not fit it"),
    ("verify fixed.onnx --shape 1,3,4,4 --shape 1", "2 sizes are given; the model has 1 inputs: x: float32"),
    ("verify fixed.onnx --inputs nope", "'nope' names no inputs; there are plain"),
    ("verify fixed.onnx --inputs nope.npz", "there is no file nope.npz"),
    ("verify fixed.onnx --inputs ''", "no inputs are named"),
    (
        f"verify fixed.onnx --against {TINY}:other_inputs --runtimes onnx_reference",
        r"eager.* does not run on inputs of shape \(1, 3, 4, 4\): .*5 channels",
    ),
    # engines
    ("build fixed.onnx -o out.onnx --targets ''", "no target to build for"),
    ("build dynamic.onnx -o out.onnx --targets sm86", r"give them with --shapes x:"),
    ("build dynamic.onnx -o out.onnx --targets sm86 --shapes x=1", "cannot read 'x=1'"),
    ("build dynamic.onnx -o out.onnx --targets sm86 --shape y:1x3x4x4", "no input is called 'y'"),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line.replace(f"{TINY}:", "") for line, _ in BAD])
@pytest.mark.usefixtures("no_library")
def test_bad_input_is_an_error_of_its_own(folder: Path, run: Run, line: str, words: str) -> None:
    before = contents(folder)
    status, out, err = run(line.format(folder=folder.name))
    assert status == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert re.search(words, err), err
    assert contents(folder) == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".simam")]


@pytest.mark.parametrize(
    "line",
    [
        "nope",
        "",
        "fuse",
        "fuse fixed.onnx",
        "fuse fixed.onnx -o a --nope",
        "verify fixed.onnx --threads many",
        "inspect",
    ],
)
def test_a_line_that_cannot_be_parsed(folder: Path, run: Run, line: str) -> None:
    before = contents(folder)
    assert run(line)[0] == 2
    assert contents(folder) == before


# what this machine lacks


def test_an_unknown_engine_target(folder: Path, run: Run) -> None:
    pytest.importorskip("tensorrt_rtx")
    before = contents(folder)
    status, _, err = run("build fixed.onnx -o new.engine --targets sm86,sm1")
    assert status == 2
    assert "unknown target sm1; TensorRT-RTX" in err
    assert contents(folder) == before


def test_cuda_where_there_is_none(folder: Path, run: Run) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    status, out, err = run("verify fixed.onnx --runtimes ort --provider CUDAExecutionProvider")
    assert (status, out) == (2, "")
    assert "ort: asked for CUDAExecutionProvider, but" in err
    assert 'pip install "simam-deploy[ort-gpu]"' in err


@pytest.mark.parametrize(
    ("line", "module", "extra"),
    [
        ("verify fixed.onnx --runtimes ort", "onnxruntime", "ort"),
        ("verify fixed.onnx --runtimes openvino", "openvino", "openvino"),
        ("bench fixed.onnx --runtimes ort", "onnxruntime", "ort"),
    ],
)
def test_a_runtime_that_is_not_installed(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, line: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    status, out, err = run(line)
    assert (status, out) == (2, "")
    assert f'\npip install "simam-deploy[{extra}]"' in err
    assert run("verify fixed.onnx")[0] == 0  # the others still work, and are what is taken when none is named
