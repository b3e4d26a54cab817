"""Where commands write: through links, never over files of others; and what inspect says of a manifest."""

import json
from pathlib import Path

import pytest
from helpers.command_line import EXPORT, Run, contents

FOREIGN = '{"name": "of somebody else", "version": "1.0"}'


@pytest.mark.parametrize(
    "line",
    [
        "fuse fixed.onnx -o new.onnx",
        "fuse fixed.onnx -o new.onnx --specialise cpu",
        f"{EXPORT}build -o new.onnx",
        "build fixed.onnx -o new.engine --targets sm86",
    ],
)
@pytest.mark.parametrize("linked", [True, False])
def test_a_foreign_file_in_the_place_of_the_manifest(linked: bool, line: str, folder: Path, run: Run) -> None:
    new = folder / ("new.engine" if line.startswith("build") else "new.onnx")
    target = new.with_stem("real") if linked else new
    if linked:
        new.symlink_to(target.name)
    target.with_name(f"{target.name}.json").write_text(FOREIGN)
    before = contents(folder)
    status, out, err = run(line)
    assert (status, out) == (2, "")
    assert f"{target.name}.json (written next to {target.name}): it is there, and no manifest of ours" in err
    assert contents(folder) == before


def test_a_link_is_written_through_and_inspect_follows_it(folder: Path, run: Run) -> None:
    (folder / "v").mkdir()
    (folder / "new.onnx").symlink_to("v/1.onnx")
    assert run("fuse fixed.onnx -o new.onnx --form function")[0] == 0
    assert (folder / "new.onnx").is_symlink()
    assert sorted(path.name for path in (folder / "v").iterdir()) == ["1.onnx", "1.onnx.json"]
    status, out, _ = run("inspect new.onnx")
    assert status == 0
    assert "is of another" not in out
    assert json.loads(run("inspect new.onnx --json")[1])["disagreements"] == []
    (folder / "v/1.onnx").write_bytes((folder / "fixed.onnx").read_bytes())
    words = "1.onnx.json is of another 1.onnx"
    status, out, _ = run("inspect new.onnx")
    assert status == 1
    assert words in out.splitlines()
    assert out.splitlines()[-1].startswith("FAILED: 1 disagreement; found: ")
    status, out, _ = run("inspect new.onnx --json")
    assert status == 1
    assert json.loads(out)["disagreements"] == [words]


@pytest.mark.parametrize("place", ["/dev/null", "/dev/stdout"])
def test_a_device_is_refused(place: str, folder: Path, run: Run) -> None:
    if not Path(place).exists() or Path(place).is_file():
        pytest.skip(f"{place} is no device here")
    status, _, err = run(f"fuse fixed.onnx -o {place}")
    assert status == 2
    assert "it is a device or a pipe" in err
