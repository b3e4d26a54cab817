"""Small valid files with a few bytes or fields changed: fuse works, and the file that it writes computes the same, or
it says that the file is at fault. `make hostile` tries more."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
from fuzz.outcomes import SCALES, TOLERANCE, compare, outcome, outputs
from helpers.graphs import file

MUTANTS = 350


def test_changed_files(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS):
        try:
            outcomes[outcome(number, tmp_path)] += 1
        except Exception as error:
            raise AssertionError(f"number {number}") from error
    assert outcomes.keys() >= {"refused: ModelFileError", "refused: NoBlockError"}
    assert outcomes["works, and computes the same"] > MUTANTS // 4


@pytest.mark.parametrize("e_lambda", [1e-4, 1.01e-4])
def test_another_lambda_is_seen(e_lambda: float, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, value in zip(folders, (1e-4, e_lambda), strict=True):
        folder.mkdir()
        file(folder, "primitive", (2, 3, 5, 7), value)
    first, second = (folder / "primitive.onnx" for folder in folders)
    pairs = zip(outputs(first, False) or (), outputs(second, False) or (), strict=True)
    wrong = [scale for scale, (a, b) in zip(SCALES, pairs, strict=True) if differs(a, b)]
    assert wrong == ([] if e_lambda == 1e-4 else [1e-2])


def differs(one: dict[str, Any], other: dict[str, Any]) -> bool:
    try:
        compare(one, other, TOLERANCE, "")
    except AssertionError:
        return True
    return False
