"""Files made to do harm get an answer: within ten seconds of CPU and 1 GB, without a trace, without a crash, and
without a change to what lies around.

`make hostile` runs every file through every command.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hostile import HOSTILE, bulk

SECONDS, MIB = 10, 1000
"""Of CPU, and of memory, for each file."""
EVERY = "SIMAM_HOSTILE"
"""Set in the environment, every file goes through every command."""
MEANT = {"verify": (0, 1, 2)}
"""Exit statuses of a command, if not 0 and 2."""
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
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file gets a process that is forked")


def answers(names: Iterable[str], commands: Sequence[str], folder: Path) -> list[dict[str, object]]:
    """Of the commands, run in folder/models/work; there may be changes to what is below it alone."""
    models = folder / "models"
    for part in ("models/work", "home", "temporary"):
        (folder / part).mkdir(parents=True)
    files = [HOSTILE.write(name, models) for name in names]
    for part in (folder, folder / "home", models):
        (part / "precious.txt").write_text("as it was")
    before = contents(folder)
    runner = Path(__file__).with_name("hostile") / "runner.py"
    python_path = os.pathsep.join((str(runner.parents[1]), os.environ.get("PYTHONPATH", "")))
    run = subprocess.run(
        [sys.executable, str(runner), str(models / "work"), ",".join(commands), *map(str, files)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=models,
        env={
            **os.environ,
            "PYTHONPATH": python_path,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "temporary"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",  # the runner imports it before this package does
        },
    )
    given: list[dict[str, object]] = [json.loads(line) for line in run.stdout.splitlines()]
    killed = [
        (answer["command"], answer["file"], answer["status"]) for answer in given if int(str(answer["status"])) < 0
    ]
    assert contents(folder) == before, f"killed: {killed}"  # these leave temporary files
    made = [path.name for path in (models / "work").rglob("*")]
    assert [name for name in made if not re.fullmatch(r".*\.(fuse|build)\.out(\.json)?", name)] == []
    return given


def contents(folder: Path) -> dict[str, str]:
    """Of each file, by a hash, and the folders; without those that the commands may write."""
    paths = [path for path in folder.rglob("*") if "work" not in path.relative_to(folder).parts]
    return {str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths}


def faults(answer: dict[str, object]) -> list[str]:
    found = []
    command, status = str(answer["command"]), answer["status"]
    if status not in MEANT.get(command, (0, 2)) or (status == 1) != ("FAIL" in str(answer["printed"])):
        found.append(f"status {status}: {answer['said']}")
    if "Traceback" in str(answer["said"]) + str(answer["printed"]):
        found.append(f"a trace: {answer['said']}")
    if status == 2 and "error: " not in str(answer["said"]):
        found.append(f"status 2 without words: {answer['said']}")
    if float(str(answer["seconds"])) > SECONDS or float(str(answer["mib"])) > MIB:
        found.append(f"{answer['seconds']} s, {answer['mib']} MiB")
    if answer["left"]:
        found.append("a process is left")
    return found


def expect_answers(given: list[dict[str, object]]) -> None:
    """Fails with a line for each answer that is none."""
    found = ((answer, faults(answer)) for answer in given)
    wrong = [f"{answer['command']} {answer['file']}: {'; '.join(lines)}" for answer, lines in found if lines]
    if wrong:
        pytest.fail("\n".join(wrong))


def test_every_file_gets_an_answer(tmp_path: Path) -> None:
    given = answers(HOSTILE, ["fuse"], tmp_path)
    assert {answer["file"] for answer in given} == HOSTILE.keys()
    expect_answers(given)
    said = {str(answer["file"]): str(answer["said"]) for answer in given}
    for name, words in SAID.items():
        assert re.search(words, said[name]), said[name]
    read = [str(answer["file"]) for answer in given if answer["status"] == 0]  # the others: the same once more
    read = [name for name in read if name not in bulk.FILES or name in INSPECTED]
    expect_answers(answers(read, ["inspect"], tmp_path / "read"))


def test_files_that_are_run(tmp_path: Path) -> None:
    given = answers(RUN, ["verify", "bench", "build"], tmp_path)
    expect_answers(given)
    assert {answer["status"] for answer in given} >= {0, 2}


@pytest.mark.skipif(EVERY not in os.environ, reason="make hostile")
def test_every_file_in_every_command(tmp_path: Path) -> None:
    given = answers(HOSTILE, ["inspect", "fuse", "verify", "bench", "build"], tmp_path)
    assert len(given) == 5 * len(HOSTILE) >= 5 * 180
    expect_answers(given)
