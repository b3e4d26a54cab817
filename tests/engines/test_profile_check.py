"""Sizes of an engine against its network: what a node or a SimAM block cannot take."""

import onnx_ir as ir
import pytest
from helpers.graphs import BODY, parse
from helpers.profiled import PAIR, profiles

from simam_deploy.engines.shape_ranges import ShapeRange
from simam_deploy.errors import InputError
from simam_deploy.match import find
from simam_deploy.rewrite.fuse import fuse

DOWN = "s = MaxPool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>"
BLOCK = f"g (float[N,3,H,W] x) => (float[N,3,A,B] y) {{ {DOWN}(x) t = Relu(s) [block] y = simam.SimAM(t) }}"
NECK = f"""g (float[N,3,H,W] x) => (float[N,6,H,W] y) {{ {DOWN}(x)
    two = Constant<value_floats=[1.0,1.0,2.0,2.0]>() u = Resize(s, , two) [cat] y = Concat<axis=1>(x, u) }}"""


# ---- SimAM on maps of one value


@pytest.mark.parametrize("functions", [(BODY,), ()], ids=["function", "custom_op"])
def test_a_block_on_one_value(functions: tuple[str, ...]) -> None:
    words = (
        r"^x:1x3x2x2, the smallest size: maps of M = 1 value for SimAM, which divides by M - 1: at 'block' 1x3x1x1\n"
        r"the next size that fits, in multiples of 4: x:1x3x4x4$"
    )
    with pytest.raises(InputError, match=words):
        profiles(parse(BLOCK, *functions), ["x:1x3x2x2..4x3x64x64"])
    with pytest.raises(InputError, match=r"^x:1x3x2x2: maps of M = 1"):
        profiles(parse(BLOCK, *functions), ["x:1x3x2x2"])
    assert profiles(parse(BLOCK, *functions), {"x": (1, 3, 2, 3)})[1] == []  # M = 2


@pytest.mark.parametrize("form", ["primitive", "function"])
def test_a_block_in_each_form(form: str) -> None:
    model = ir.to_proto(fuse(ir.from_proto(parse(BLOCK, BODY)), form).model)
    with pytest.raises(InputError, match=r"at 'block' 1x3x1x1\nthe next size"):
        profiles(model, ["x:1x3x2x2"])
    assert profiles(model, ["x:1x3x2x3"])[1] == []


def test_a_block_inside_a_function() -> None:
    inner = '<domain: "net", opset_import: ["" : 18, "simam" : 1]> Stage (x) => (y) { [block] y = simam.SimAM(x) }'
    model = parse("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { [stage] y = net.Stage(x) }", BODY, inner)
    model.opset_import.add(domain="net", version=1)
    with pytest.raises(InputError, match=r"SimAM, which divides by M - 1: at '.*block.*' 1x3x1x1\n"):
        profiles(model, ["x:1x3x1x1"])


def test_a_block_of_fixed_sizes() -> None:
    with pytest.raises(InputError, match=r"^at the sizes in the file: maps of M = 1 value for SimAM"):
        profiles(parse(BLOCK.replace("N,3,H,W", "1,3,2,2"), BODY))


def test_many_blocks_are_counted() -> None:
    calls = "".join(f"[b{i}] v{i + 1} = simam.SimAM(v{i}) " for i in range(6))
    model = parse(f"g (float[N,3,H,W] v0) => (float[N,3,H,W] v6) {{ {calls} }}", BODY)
    with pytest.raises(InputError, match=r"'b0' 1x3x1x1, 'b1' 1x3x1x1, 'b2' 1x3x1x1, 'b3' 1x3x1x1 and 2 more\n"):
        profiles(model, ["v0:1x3x1x1"])


def test_the_search_runs_where_a_map_may_be_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second or two."""
    model = ir.to_proto(fuse(ir.from_proto(parse(BLOCK, BODY)), "primitive").model)

    def stop(_: ir.Model) -> None:
        raise KeyError("searched")

    monkeypatch.setattr(find, "find", stop)
    assert profiles(model, ["x:1x3x8x8..4x3x64x64"])[1] == []
    with pytest.raises(KeyError, match="searched"):
        profiles(model, ["x:1x3x2x2..4x3x64x64"])


# ---- nodes that refuse a size


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("x:1x3x7x8..4x3x64x64", "x:1x3x7x8, the smallest size"),
        ("x:1x3x8x8..4x3x64x63", "x:4x3x64x63, the largest size"),
        ("x:1x3x8x8..1x3x9x8..4x3x64x64", "x:1x3x9x8, the best size"),
        ("x:1x3x8x7", "x:1x3x8x7"),
    ],
)
def test_a_size_that_a_node_refuses(text: str, where: str) -> None:
    words = rf"^{where}: node 'cat' \(Concat\) cannot take \S+ and \S+: Can't merge"
    with pytest.raises(InputError, match=words):
        profiles(parse(NECK), [text])


def test_the_shapes_and_the_next_size_that_fits() -> None:
    words = r"take 2x3x7x30 and 2x3x8x30: (?s:.*)\nthe next size that fits, in multiples of 2: x:2x3x8x30$"
    with pytest.raises(InputError, match=words):
        profiles(parse(NECK), ["x:2x3x7x30"])


def test_no_size_fits() -> None:
    model = parse("g (float[N,3,H,W] x, float[1,3,5,5] z) => (float[N,3,H,W] y) { [add] y = Add(x, z) }")
    with pytest.raises(InputError, match=r"node 'add' \(Add\) cannot take 1x3x4x4 and 1x3x5x5: Incompatible dim\w+$"):
        profiles(model, ["x:1x3x4x4"])


def test_a_combination_that_fails_is_a_note() -> None:
    """Callers may know that the picture is square."""
    model = parse("g (float[N,A,B] x) => (float[N,A,B] y) { t = Transpose<perm=[0,2,1]>(x) [add] y = Add(x, t) }")
    ranges, notes = profiles(model, ["x:1x4x4..2x8x8"])
    assert ranges == {"x": ShapeRange((1, 4, 4), (2, 8, 8), (2, 8, 8))}
    assert [note.split(":")[1] for note in notes] == [
        f"{shape} is within the range, but a run at that size fails" for shape in ("1x8x4", "2x4x8", "1x4x8", "2x8x4")
    ]
    assert notes[0].startswith("x:1x8x4 is within")
    assert "node 'add' (Add) cannot take 1x8x4 and 1x4x8: Incompatible" in notes[0]


def test_fixed_sizes_are_the_parsers_matter() -> None:
    text = "g (float[1,4] x, float[1,5] z) => (float[1,5] y) { y = Add(x, z) }"
    assert profiles(parse(text)) == ({}, [])


def test_one_name_has_one_size() -> None:
    words = (
        r"axis 'N' has one size in the file, and the largest shapes give it two: 4 in x:\S+, 8 in z:1x7\.\.2x7\.\.8x7"
    )
    with pytest.raises(InputError, match=words):
        profiles(parse(PAIR), ["x:1x3x4x4..2x3x4x4..4x3x4x4,mask:1x4x4..2x4x4..4x4x4,z:1x7..2x7..8x7"])
