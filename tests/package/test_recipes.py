"""What holds for the recipes of all hosts: refusals, notes, names that mean harm."""

import re
import shlex
from pathlib import Path

import onnx
import pytest
from helpers.command_line import Run
from helpers.half_nets import naive

import simam_deploy as sd
from simam_deploy.artifacts import manifest
from simam_deploy.package.recipes import HOSTS, TAKES

LIBRARY = "libours.so"
SHAPES = {"x": ((1, 3, 4, 4), (2, 3, 8, 8), (4, 3, 16, 16))}


def made(host: str, file: str, **options: object) -> sd.package.Recipe:
    if "shapes" not in TAKES[host]:
        options.pop("shapes", None)
    if host == "jetson":
        options = {"jetpack": "6.2", **options}
    return sd.recipe(host, file, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", HOSTS)
def test_it_says_that_no_gpu_ran_it(folder: Path, host: str) -> None:
    text = made(host, "fixed.onnx").text
    assert re.search(r"^# Checked as text alone: no ", text, re.M)
    assert text.endswith("\n")
    assert "fixed.onnx (fp32, opset 18, 1 SimAM node)" in text


@pytest.mark.parametrize("host", HOSTS)
def test_a_node_without_definition_needs_the_library(folder: Path, host: str) -> None:
    if host == "jetson":
        assert "--dynamicPlugins=build/native/cuda/libsimam_tensorrt.so" in made(host, "bare.onnx").text
        return
    with pytest.raises(sd.InputError, match=r"1 SimAM node without a fallback definition .* name it with --plugin"):
        made(host, "bare.onnx")
    assert LIBRARY in made(host, "bare.onnx", plugin=LIBRARY).text


@pytest.mark.parametrize("host", HOSTS)
def test_a_library_that_no_node_needs(folder: Path, host: str) -> None:
    assert made(host, "primitive.onnx").text
    with pytest.raises(sd.InputError, match=r"no SimAM node, so libours.so has nothing to do; leave --plugin out"):
        made(host, "primitive.onnx", plugin=LIBRARY)


@pytest.mark.parametrize("host", [host for host in HOSTS if "shapes" in TAKES[host]])
def test_a_missing_shape_is_asked_for_as_build_does(folder: Path, host: str) -> None:
    with pytest.raises(sd.InputError, match=r"input 'x' is Nx3xHxW, and an engine needs sizes; give them with"):
        made(host, "dynamic.onnx")
    with pytest.raises(sd.InputError, match="no input is called 'z'"):
        made(host, "dynamic.onnx", shapes={"z": (1, 3, 4, 4)})


@pytest.mark.parametrize("host", [host for host in HOSTS if "shapes" in TAKES[host]])
def test_sizes_that_nobody_gave_are_told_in_the_lines(folder: Path, host: str) -> None:
    model = onnx.load("dynamic.onnx")
    onnx.helper.set_model_props(model, {manifest.EXAMPLE: '{"x": [1, 3, 32, 64]}'})
    onnx.save(model, "example.onnx")
    comment = r"^# Shapes: built for x:1x3x32x64, the size that the model was exported with; --shapes x:MIN\.\.MAX"
    assert re.search(comment, made(host, "example.onnx").text, re.M)
    assert "# Shapes" not in made(host, "dynamic.onnx", shapes=SHAPES).text


@pytest.mark.parametrize("host", HOSTS)
def test_int8_that_tensorrt_refuses(folder: Path, host: str) -> None:
    """As `convert --to int8` writes it for the CPU."""
    model = onnx.load("fixed.onnx")
    scale, zero = (onnx.helper.make_tensor(name, dtype, [], [3]) for name, dtype in (("scale", 1), ("zero", 2)))
    model.graph.initializer.extend([scale, zero])
    for op, x, y in (("QuantizeLinear", "x", "q"), ("DequantizeLinear", "q", "d")):
        model.graph.node.append(onnx.helper.make_node(op, [x, "scale", "zero"], [y], f"{op} of x"))
    onnx.save(model, "int8.onnx")
    if host == "onnxruntime":
        assert made(host, "int8.onnx").text
        return
    engine = {"engine": "a.engine"} if host == "triton" else {}
    with pytest.raises(sd.InputError) as refused:
        made(host, "int8.onnx", **engine)
    assert f"{refused.value}" == (
        "TensorRT's parser refuses int8.onnx: QuantizeLinear 'QuantizeLinear of x' has a zero point that is not 0\n"
        "int8 for TensorRT is made of the float32 file: simam-deploy convert FLOAT.onnx --to int8 --target tensorrt"
    )


@pytest.mark.parametrize("host", HOSTS)
def test_blocks_in_primitive_operators_are_counted(folder: Path, host: str) -> None:
    recipe = made(host, "primitive.onnx")
    assert "primitive.onnx (fp32, opset 18, 1 SimAM block in primitive operators)" in recipe.text
    assert not [note for note in recipe.notes if "overflows" in note]


@pytest.mark.parametrize("host", HOSTS)
def test_sums_in_float16_are_told(folder: Path, host: str) -> None:
    onnx.save(naive(16), "half.onnx")
    if host == "deepstream":  # it feeds float32
        return
    words = "1 block: SimAM is computed in float16, which overflows in silence on large maps; simam-deploy fuse"
    assert [note for note in made(host, "half.onnx").notes if note.startswith(words)]


def test_unknown_hosts_and_options_that_a_host_does_not_use(folder: Path) -> None:
    with pytest.raises(sd.InputError, match="no recipe for 'tvm'; there are recipes for trtexec, deepstream, triton"):
        sd.recipe("tvm", "fixed.onnx")
    with pytest.raises(
        sd.InputError, match="recipe for onnxruntime has no --engine; with it: trtexec, deepstream, triton, jetson"
    ):
        sd.recipe("onnxruntime", "fixed.onnx", engine="a.engine")
    with pytest.raises(sd.InputError, match=r"recipe for trtexec has no --jetpack; with it: jetson$"):
        sd.recipe("trtexec", "fixed.onnx", jetpack="6.2")


@pytest.mark.parametrize("host", ["trtexec", "deepstream", "jetson"])
def test_an_unknown_tensorrt(folder: Path, host: str) -> None:
    for number in ("8.6", "11", "12.0", "ten", "10.3; rm"):
        with pytest.raises(sd.InputError, match=r"no TensorRT .*; it has 10\.0, 10\.1, .*, 11\.0, 11\.1\n"):
            made(host, "fixed.onnx", tensorrt=number)
    assert "TensorRT 10.3 " in made("trtexec", "fixed.onnx", tensorrt="10.3.0").text


def test_a_version_is_a_text(folder: Path) -> None:
    for option, number in (("jetpack", 6.2), ("tensorrt", 10.3), ("tensorrt", 11)):
        words = f'^{option} takes a text, as "{number}"; got {number}, and as a number 10.10 would be 10.1'
        with pytest.raises(sd.InputError, match=words):
            made("jetson", "fixed.onnx", **{option: number})


NAMES = ("a\nrm -rf x", "a\rb", "\x1b[31m", "", "a\u2028b")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_cannot_begin_a_line(folder: Path, host: str, name: str) -> None:
    model = onnx.load("fixed.onnx")
    model.graph.output[0].name = model.graph.node[-1].output[0] = name
    Path("named.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(sd.InputError):  # "" is refused before, as not ONNX
        made(host, "named.onnx")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("option", ["plugin", "engine"])
def test_nor_can_a_path(folder: Path, host: str, option: str) -> None:
    if option in TAKES[host]:
        with pytest.raises(sd.InputError, match=r"is 'a\\nb', which is empty or has characters that no recipe can"):
            made(host, "bare.onnx", **{"plugin": LIBRARY, option: "a\nb"})
    evil = Path("a\nb.onnx")
    evil.write_bytes(Path("fixed.onnx").read_bytes())
    with pytest.raises(sd.InputError, match=r"the file is 'a\\nb.onnx'"):
        made(host, str(evil))


@pytest.mark.parametrize("name", ["a,b", "it's"])
def test_a_name_at_which_trtexec_splits(folder: Path, name: str) -> None:
    model = onnx.load("dynamic.onnx")
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, "named.onnx")
    with pytest.raises(sd.InputError, match=r"trtexec splits it at .*\nrename it"):
        made("trtexec", "named.onnx", shapes={name: SHAPES["x"]})


def test_on_the_command_line_stdout_has_the_recipe_alone(folder: Path, run: Run) -> None:
    status, out, err = run("recipe trtexec dynamic.onnx --tensorrt 10.3 --shapes x:1x3x4x4,2x3x8x8,4x3x16x16")
    assert (status, out) == (0, made("trtexec", "dynamic.onnx", tensorrt="10.3", shapes=SHAPES).text)
    assert err == (
        "note: SimAM runs as its fallback definition; for the plugin, write the file with: "
        "simam-deploy fuse dynamic.onnx -o OUT.onnx --form custom_op, and name the library with --plugin\n"
    )
    assert run("recipe trtexec fixed.onnx -q")[2] == ""
    assert run("recipe trtexec fixed.onnx")[2].startswith("note: for TensorRT 11.1; --tensorrt names another\n")
    status, out, err = run("recipe trtexec bare.onnx")
    assert (status, out) == (2, "")
    assert "form custom_op" in err


def test_print_gives_the_text(folder: Path) -> None:
    recipe = made("trtexec", "fixed.onnx")
    assert f"{recipe}\n" == recipe.text
    assert shlex.split(recipe.text, comments=True)
