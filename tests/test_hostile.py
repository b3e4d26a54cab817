"""Files made to do harm get an answer: within ten seconds of CPU and 1 GB, without a trace, without a crash, and
without a change to what lies around.

`make hostile` runs every file through every command.
"""

import os
import re
from collections.abc import Iterator

import pytest
from hostile import HOSTILE, LARGE
from hostile.shell import Shell, faults, shell

EVERY = "SIMAM_HOSTILE"
"""Set in the environment, every file goes through every command."""
SAID = {
    "circle": "wait for each other",
    "own_output": "wait for each other",
    "circle_in_the_block": "wait for each other",
    "function_that_calls_itself": "functions call themselves: f::a -> f::a",
    "functions_that_call_each_other": "functions call themselves",
    "billion_laughs": "1,099,511,627,776 nodes with all of them in place",
    "functions_nested_deeply": "3001 levels deep",
    "if_1000_deep": "is not an ONNX file, or is truncated",
    "opset_0": "is damaged: it has opset 0",
    "opset_-1": "is damaged: it has opset -1",
    "missing_weights": "which nothing makes",
    "sparse_weights": "keeps weights as sparse tensors",
    "training": "holds training information, which would be lost",
    "weights_huge_dims": "is damaged",
    "weights_negative_dims": "is damaged: its weights 'w' have the shape",
    "weights_fewer_values": "its weights 'w' are 2 numbers, where FLOAT .* takes 4",
    "weights_absurd_offset": "have the offset '1208925819614629174706176', which is no number of bytes",
    "weights_of_offset_beyond_the_end": "is truncated: .* needs 13 bytes of it, it has 12",
    "default_above": "wants weights from ../secret, outside its own folder",
    "default_link": "in w.bin, which is a symbolic link",
    "initializer_fifo": "in w.bin, which is a device or a pipe",
    "weights_a_device": "outside its own folder",
    "inside_unknown_type": "casts to type 999, which is none",
    "a_million_axes_of_x": "'image' has 1,000,004 axes; up to 64 are read",
    "a_million_axes_of_a_weight": "'w' has 1,000,000 axes; up to 64 are read",
    "a_constant_through_a_chain": "more than 500 nodes compute its sizes and constants",
    "very_many_of_attribute": "is not read: it holds more nodes, attributes, weights and values than networks do",
    "very_many_of_initializer": "is not read: it holds more",
    "heavy_padding": "AveragePool has a sliding window; SimAM takes the whole plane",
    "heavy_matmul": "it takes too long on x of 1x2x600x600, at MatMul",
}
"""Words of some of the answers of fuse."""
INSPECTED = ("blocks_in_a_row", "chain_of_identity", "long_dimension", "long_every_node", "many_uses")
"""Of the files with much of one thing: those that inspect looks into as well."""
RUN = (
    "a_constant_through_a_chain",
    "a_million_axes_to_reduce",
    "attributes_of_unknown_type",
    "chain_of_identity",
    "constants_of_type_7",
    "if_10_deep",
    "inside_expand_that_fits",
    "inside_outer_product",
    "inside_tile",
    "laughs_around_a_block",
    "long_value_names",
    "loop_without_end",
    "many_dimensions",
    "many_inputs_of_one_node",
    "names_with_control_characters",
    "no_names",
    "thousands_of_functions",
    "weights_raw_and_fields",
    "weights_the_folder",
    "x_huge",
    "x_negative",
    "x_nothing",
    "x_of_type_7",
)
"""Files that also go through the commands that run them."""
STATUSES = {"names_with_control_characters": {0}, "weights_the_folder": {2}}
"""Exit statuses of one that runs and of one that is refused."""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file gets a process that is forked")


@pytest.fixture(scope="session")
def hostile_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with shell(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.mark.parametrize("name", HOSTILE)
def test_fuse_answers(name: str, hostile_shell: Shell) -> None:
    """And inspect, where fuse read the file: of the others it says the same once more."""
    (answer,) = given = hostile_shell.answers(name, ["fuse"])
    assert answer["file"] == name
    assert not faults(given)
    assert re.search(SAID.get(name, ""), str(answer["said"]))
    if answer["status"] == 0 and (name not in LARGE or name in INSPECTED):
        assert not faults(hostile_shell.answers(name, ["inspect"]))


@pytest.mark.parametrize("name", RUN)
def test_commands_that_run_a_file_answer(name: str, hostile_shell: Shell) -> None:
    given = hostile_shell.answers(name, ["convert", "verify", "bench", "build", "recipe"])
    assert not faults(given)
    assert {answer["status"] for answer in given} >= STATUSES.get(name, set())


@pytest.mark.skipif(EVERY not in os.environ, reason="make hostile")
@pytest.mark.parametrize("name", HOSTILE if EVERY in os.environ else ("each",))
def test_every_command_answers(name: str, hostile_shell: Shell) -> None:
    given = hostile_shell.answers(name, ["inspect", "fuse", "convert", "verify", "bench", "build", "recipe"])
    assert len(given) == 7
    assert not faults(given)


def test_files_that_are_named_are_there() -> None:
    assert len(HOSTILE) >= 180
    assert HOSTILE.keys() >= {*SAID, *INSPECTED, *RUN, *STATUSES}
