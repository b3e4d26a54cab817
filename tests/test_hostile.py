"""Files made to do harm get an answer: within ten seconds of CPU and 1 GB, without a trace, without a crash."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import HOSTILE

SECONDS, MIB = 10, 1000
"""Of CPU, and of memory, for each file."""
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
}
"""Words of some of the answers."""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file gets a process that is forked")


def answers(names: list[str], folder: Path) -> list[dict[str, object]]:
    files = [HOSTILE.write(name, folder) for name in names]
    runner = Path(__file__).with_name("hostile_runner.py")
    python_path = os.pathsep.join((str(runner.parents[1]), os.environ.get("PYTHONPATH", "")))
    run = subprocess.run(
        [sys.executable, str(runner), *map(str, files)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": python_path},
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def faults(answer: dict[str, object]) -> list[str]:
    found = []
    if answer["status"] not in (0, 2) or "Traceback" in str(answer["said"]):
        found.append(f"status {answer['status']}: {answer['said']}")
    if float(str(answer["seconds"])) > SECONDS or float(str(answer["mib"])) > MIB:
        found.append(f"{answer['seconds']} s, {answer['mib']} MiB")
    return found


def test_every_file_gets_an_answer(tmp_path: Path) -> None:
    given = answers(list(HOSTILE), tmp_path)
    assert {answer["file"] for answer in given} == HOSTILE.keys()
    wrong = {(answer["command"], answer["file"]): found for answer in given if (found := faults(answer))}
    assert not wrong
    said = {str(answer["file"]): str(answer["said"]) for answer in given if answer["command"] == "fuse"}
    for name, words in SAID.items():
        assert re.search(words, said[name]), said[name]
