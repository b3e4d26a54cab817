"""Where a page is written, and that it is there as a whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.to_quantise import images, net, saved

import simam_deploy as sd
from simam_deploy.errors import OutputError, RuntimeUnavailable
from simam_deploy.report.writing import page_at

pytest.importorskip("matplotlib", reason="no matplotlib to draw with: the extra report")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere/page.html", "the folder does not exist"),
        (".", "it is a folder"),
        ("net.onnx", "it is the same file as the input"),
        ("x.npz", "it is the same file as the input"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(target: str, words: str, tmp_path: Path) -> None:
    inputs = [tmp_path / "net.onnx", tmp_path / "x.npz"]
    for path in inputs:
        path.write_text("mine")
    with pytest.raises(OutputError, match=words), page_at(tmp_path / target, inputs):
        pytest.fail("it is too late")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "x.npz"]
    assert [path.read_text() for path in inputs] == ["mine", "mine"]


@pytest.mark.parametrize("name", ["low.onnx", "low.onnx.json"])
def test_a_report_in_the_place_of_the_output_is_refused(name: str, tmp_path: Path) -> None:
    path, _ = saved(tmp_path, net())
    with pytest.raises(OutputError, match=r"cannot write the report to .*low\.onnx goes there; choose another name"):
        sd.convert(path, tmp_path / "low.onnx", to="fp16", report=tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_weights_outside_are_inputs_too(tmp_path: Path) -> None:
    import onnx

    onnx.save(net(), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = (tmp_path / "w.bin").read_bytes()
    for call in (
        lambda: sd.analyze(tmp_path / "net.onnx", {"x": images(1)}, report=tmp_path / "w.bin"),
        lambda: sd.verify(tmp_path / "net.onnx", inputs={"x": images(1)}, report=tmp_path / "w.bin"),
    ):
        with pytest.raises(OutputError, match="it is the same file as the input"):
            call()
    assert (tmp_path / "w.bin").read_bytes() == before


def test_a_file_from_before_is_replaced_or_stays_whole(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("from before")
    with pytest.raises(ZeroDivisionError), page_at(page, []) as write:
        write(lambda say: f"new {1 / 0}", None)
    assert page.read_text() == "from before"
    with page_at(page, []) as write:
        write(lambda say: "new λ", None)
    assert page.read_text("utf-8") == "new λ"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="the disk is full"), page_at(tmp_path / "page.html", []) as write:
        write(lambda say: "new", None)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeUnavailable, match=r'--report draws with matplotlib.*\n.*"simam-deploy\[report\]"'):
        sd.analyze(saved(tmp_path, net())[0], {"x": images(1)}, report=tmp_path / "page.html")


def test_matplotlib_says_nothing_of_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("nonsense: 3\nfont.size: big\n")
    code = "from simam_deploy.report import charts; charts.refuse_without_matplotlib(); charts.bars([], '')"
    nowhere = {"MPLCONFIGDIR": f"{os.devnull}/x", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **nowhere}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_progress_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    path, _ = saved(tmp_path, net())
    given = {"inputs": {"x": images(1)}, "report": tmp_path / "page.html", "on_progress": said.append}
    sd.convert(path, tmp_path / "low.onnx", to="fp16", **given)
    wanted = ["draw the report", "fp16: expose its layers", "fp16: compare its layers, sample 1"]
    assert said[-4:] == [*wanted, "draw block 1 of 1: simam"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("analyze fixed.onnx --inputs x.npz --report page.html", 0),
        ("verify fixed.onnx dynamic.onnx --inputs x.npz --runtimes ort --report page.html", 0),
        ("convert fixed.onnx -o low.onnx --to fp16 --inputs x.npz --report page.html", 0),
        ("analyze fixed.onnx --inputs x.npz --report nowhere/page.html", 2),
        ("analyze fixed.onnx --inputs x.npz --report ..", 2),
    ],
)
def test_the_command_line_takes_it(line: str, status: int, folder: Path, run) -> None:
    got, _, err = run(line)
    assert (got, (folder / "page.html").is_file()) == (status, not status), err
    assert not list(folder.glob(".simam-deploy-*"))
