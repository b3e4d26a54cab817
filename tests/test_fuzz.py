"""Small valid files with a few bytes or fields changed: fuse works, and the file that it writes computes the same, or
it says that the file is at fault. `python tests/fuzz.py 5000` tries more."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
from fuzz import outcome

MUTANTS = 210


def test_changed_files(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(MUTANTS):
        try:
            outcomes[outcome(seed, tmp_path)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert outcomes.keys() >= {"works, and computes the same", "ModelFileError", "NoBlockError"}
    assert outcomes["works, and computes the same"] > MUTANTS // 10
