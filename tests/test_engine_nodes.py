"""A graph that takes the builder minutes is refused before it starts."""

from pathlib import Path

import pytest

from simam_deploy import engine, forms, onnx_file
from simam_deploy.errors import InputError


def test_too_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.onnx"
    onnx_file.save(forms.alone("function", (2, 3, 5, 7)), file)
    count = onnx_file.count_nodes(onnx_file.read(file), file)
    monkeypatch.setattr(engine, "MOST_NODES", count - 1)
    with pytest.raises(
        InputError, match=f"it has {count} nodes with all functions in place.*up to {count - 1} are .*--no-limits"
    ):
        engine.build_engine(file, tmp_path / "m.engine", targets=["sm86"])
    assert not (tmp_path / "m.engine").exists()
