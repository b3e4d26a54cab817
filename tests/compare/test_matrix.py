"""Files x forms x runtimes: everything that was named is run, under a label of its own."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.command_line import Run
from helpers.graphs import file
from helpers.onnx_models import model

from simam_deploy.compare.matrix import gather
from simam_deploy.errors import ModelFileError
from simam_deploy.graph import onnx_file


def save(path: Path, lam: float = 1e-4, **given: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_file.save(model(lam=lam, **given), path)  # type: ignore[arg-type]
    return path


def same_names(folder: Path) -> list[Path]:
    """a/m.onnx and c/m.onnx are equal, the λ of b/m.onnx is another."""
    return [save(folder / place / "m.onnx", lam) for place, lam in (("a", 1e-4), ("b", 0.3), ("c", 1e-4))]


@pytest.mark.parametrize("options", ["", " --forms primitive", " --gates", " --forms all --gates"])
def test_files_of_one_name_are_all_compared(tmp_path: Path, run: Run, options: str) -> None:
    same_names(tmp_path)
    files = " ".join(str(tmp_path / place / "m.onnx") for place in "abc")
    status, out, err = run(f"verify {files} --runtimes ort --inputs plain --json{options}")
    assert (status, err) == (1, "")
    failed = {row["session"].partition(" ")[0] for row in json.loads(out)["rows"] if not row["passed"]}
    passed = {row["session"].partition(" ")[0] for row in json.loads(out)["rows"] if row["passed"]}
    assert (failed, passed) == ({"b/m"}, {"a/m", "c/m"})


def test_files_of_one_name_are_all_timed(tmp_path: Path, run: Run) -> None:
    same_names(tmp_path)
    files = " ".join(str(tmp_path / place / "m.onnx") for place in "abc")
    status, out, err = run(f"bench {files} --runtimes ort --forms primitive --seconds 0.01 --json")
    assert (status, err) == (0, "")
    labels = ["copy", *(f"{place}/m · primitive · ort" for place in "abc")]
    assert [row["label"] for row in json.loads(out)["rows"]] == labels


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["x/one.onnx", "y/two.onnx"], ["one", "two"]),
        (["x/m.onnx", "y/m.onnx", "y/n.onnx"], ["x/m", "y/m", "n"]),
        (["x/w/m.onnx", "y/w/m.onnx", "m.onnx"], ["x/w/m", "y/w/m", "top/m"]),
        (["m.onnx", "m.v2"], ["m", "m.v2"]),
        (["m.v2.onnx", "m.v2", "m.v3.onnx"], ["m.v2.onnx", "m.v2", "m.v3"]),
        (["m.onnx", "m.onnx/../m.onnx"], None),
    ],
)
def test_labels_are_the_shortest_ends_of_the_paths(
    tmp_path: Path, files: list[str], labels: list[str] | None
) -> None:
    paths = [tmp_path / "top" / name for name in files]
    if labels is None:
        paths = [save(tmp_path / "top/m.onnx"), tmp_path / "top/../top/m.onnx"]
        labels = [""]
    else:
        for path in paths:
            save(path)
    chosen = gather(paths, [], ["ort", "openvino"], tmp_path)
    assert list(chosen.open) == [f"{name} · {r}".removeprefix(" · ") for name in labels for r in ("ort", "openvino")]


def test_what_is_named_twice_is_run_once_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    Path("link.onnx").symlink_to("m.onnx")
    Path("here").symlink_to(".")
    paths = [Path("m.onnx"), Path("./m.onnx"), tmp_path / "m.onnx", Path("here/m.onnx"), Path("link.onnx")]
    chosen = gather(paths, ["primitive", "primitive"], ["ort", "ort"], tmp_path)
    assert list(chosen.open) == ["m · primitive · ort", "link · primitive · ort"]
    twice = ["primitive", "ort", "m.onnx", str(tmp_path / "m.onnx"), "here/m.onnx"]
    assert chosen.skipped == [f"{name}: named before" for name in twice]


def test_equal_files_are_two(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx")
    (tmp_path / "n.onnx").write_bytes((tmp_path / "m.onnx").read_bytes())
    assert list(gather([tmp_path / "m.onnx", tmp_path / "n.onnx"], [], ["ort"], tmp_path).open) == [
        "m · ort",
        "n · ort",
    ]


def test_a_file_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    shapes = {"a": (2, 3, 5, 7), "b": (2, 3, "h", 7)}
    for place, shape in shapes.items():
        (tmp_path / place).mkdir()
        file(tmp_path / place, shape=shape)
    chosen = gather([tmp_path / place / "function.onnx" for place in shapes], ["all"], ["ort"], tmp_path)
    assert [why.splitlines() for why in chosen.skipped if "instance_norm" in why] == [
        ["b/function · form 'instance_norm' cannot lower the SimAM block at node 'simam':", "  H is not fixed"]
    ]


def test_a_converted_file_that_does_not_load_is_named_in_the_error(tmp_path: Path) -> None:
    paths = [save(tmp_path / place / "m.onnx") for place in "ab"]
    chosen = gather(paths, ["primitive"], ["ort"], tmp_path)
    (tmp_path / "1.primitive.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"^b/m · primitive · ort: .*1\.primitive\.onnx is not an ONNX file"):
        chosen.open["b/m · primitive · ort"]()


def test_a_long_file_name(tmp_path: Path) -> None:
    path = save(tmp_path / f"{'n' * 248}.onnx")
    chosen = gather([path], ["instance_norm"], ["ort"], tmp_path, taps=True)
    x = np.ones((2, 3, 5, 7), np.float32)
    with chosen.open["instance_norm · ort"]() as session:
        assert session.run({"image": x})["out"].shape == x.shape
    assert isinstance(onnx_file.load(path), ir.Model)
