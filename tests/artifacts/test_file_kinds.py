"""Files that are not ONNX: each is named as what it is, with the commands that do the job, and none is opened."""

import io
import json
import re
import shlex
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.command_line import Run
from torch import nn

from simam_deploy.artifacts import file_kinds
from simam_deploy.artifacts.file_kinds import what_is
from simam_deploy.errors import ModelFileError
from simam_deploy.graph import onnx_file

ONE_WAY = "does not turn back into ONNX: use the ONNX file that it was made from"
FUSE = r"\n  simam-deploy fuse {0}.onnx -o {0}.simam.onnx"


def model_of(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A module whose class is found, while it is pickled, in a package that is not here."""
    parts = module.split(".")
    for i in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), types.ModuleType(parts[i]))
    kind = type(name, (nn.Sequential,), {"__module__": module})
    setattr(sys.modules[module], name, kind)
    return kind(nn.Conv2d(1, 2, 3))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", ["model", "ema"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_model_of_ultralytics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, key: str) -> None:
    model = model_of("ultralytics.nn.tasks", "DetectionModel", monkeypatch)
    held = {"epoch": -1, "best_fitness": None, "model": None, key: model.half(), "date": "2026-01-01"}
    torch.save(held, tmp_path / "best.pt", _use_new_zipfile_serialization=zipped)
    said = what_is(tmp_path / "best.pt")
    lines = f"best.pt is a model of Ultralytics.*\n  yolo export model={tmp_path}/best.pt format=onnx opset=17"
    assert re.search(lines + FUSE.format(f"{tmp_path}/best") + r"\nor .* export model.py:build -o", said)


def test_a_model_of_a_yolo_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"model": model_of("models.yolo", "Model", monkeypatch)}, tmp_path / "best.pt")
    assert "\n  python export.py --weights" in what_is(tmp_path / "best.pt")


@pytest.mark.parametrize(
    ("wrap", "taken"),
    [
        (lambda m: m, ".state_dict()"),
        (lambda m: {"epoch": 1, "net": m}, "['net'].state_dict()"),
        (lambda m: {"state_dict": m.state_dict(), "hyper_parameters": m}, "['state_dict']"),
        (lambda m: {"args": m, "model": nn.Linear(2, 3).state_dict()}, "['model']"),
        (lambda m: {"model_state_dict": nn.Linear(2, 3).state_dict(), "config": m}, "['model_state_dict']"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_the_line_that_takes_the_weights_out_of_a_pickled_class_does_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Any, taken: str, zipped: bool
) -> None:
    model = model_of("project.nets", "Net", monkeypatch)
    torch.save(wrap(model), tmp_path / "it's mine.pt", _use_new_zipfile_serialization=zipped)
    said = what_is(tmp_path / "it's mine.pt")
    assert "holds a pickled project.nets.Net, not weights alone; opening it runs code, and is refused" in said
    python, _, code, *names = shlex.split(said.splitlines()[1])
    assert python == "python"
    assert taken in code
    monkeypatch.setattr(sys, "argv", ["-c", *names])
    exec(code, {})
    weights = torch.load(names[1], weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert shlex.split(said.splitlines()[2])[:5] == [
        "simam-deploy",
        "export",
        "model.py:build",
        "--weights",
        names[1],
    ]


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_alone(tmp_path: Path, zipped: bool) -> None:
    held = {"state_dict": nn.BatchNorm2d(2).state_dict(), "epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}
    torch.save(held, tmp_path / "w.ckpt", _use_new_zipfile_serialization=zipped)
    words = "is a file of weights, without the code of their model.*\n  simam-deploy export model.py:build --weights"
    assert re.search(words, what_is(tmp_path / "w.ckpt"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_programs_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3)).eval()
    torch.jit.trace(model, torch.zeros(1, 3, 8, 8)).save(tmp_path / "m.torchscript")
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 8, 8),)), tmp_path / "m.pt2")
    for name, words in (("m.torchscript", "is a TorchScript program"), ("m.pt2", "is a program of torch.export")):
        said = what_is(tmp_path / name)
        assert words in said
        assert said.endswith(FUSE[2:].format(f"{tmp_path}/m"))
    _, _, code, *names = shlex.split(what_is(tmp_path / "m.torchscript").splitlines()[1])
    monkeypatch.setattr(sys, "argv", ["-c", *names])
    exec(code, {})
    assert onnx_file.load(tmp_path / "m.onnx").graph.num_nodes() > 0


def keras_zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    return held.getvalue()


def npz() -> bytes:
    held = io.BytesIO()
    np.savez(held, x=np.ones(3))
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.engine", b"ftrt\x00\x00\x00\x00" + bytes(90), f"is a TensorRT engine. It {ONE_WAY}"),
        (
            "m.engine",
            b'\x11\x01\x00\x00{"' + b"a" * 270 + b'"ftrt' + bytes(90),
            "is an engine behind the metadata of Ultralytics, and TensorRT loads it only without these:\n"
            r"  tail -c \+278 \S+/m\.engine > \S+/m\.plain\.engine",
        ),
        ("m.plan", b"vtrt\x00\x00\x00\x00" + bytes(90), f"is a TensorRT-RTX engine. It {ONE_WAY}"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(90), "is a Keras model:\n  python -m tf2onnx.convert --keras"),
        ("m.keras", keras_zip(), "is a Keras model:\n  python -m tf2onnx.convert --keras"),
        (
            "m.tflite",
            b"\x1c\0\0\0TFL3" + bytes(90),
            "is a TensorFlow Lite model:\n  python -m tf2onnx.convert --tflite",
        ),
        ("m.ort", b"\x14\0\0\0ORTM" + bytes(90), f"is a model in ONNX Runtime's own format. It {ONE_WAY}"),
        ("m.param", b"7767517\n75 83\nInput data 0 1 data\n", f"is an ncnn model. It {ONE_WAY}"),
        ("m.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', f"is a model of OpenVINO. It {ONE_WAY}"),
        (
            "saved_model.pb",
            b"\x08\x01\x12\x05oops!",
            "is a TensorFlow model:\n  python -m tf2onnx.convert --saved-model",
        ),
        ("m.npy", b"\x93NUMPY\x01\x00" + bytes(90), "is an array of NumPy, and no model"),
        ("m.npz", npz(), "is an archive of NumPy arrays, and no model"),
        ("m.rknn", b"RKNN" + bytes(90), f"is a model for RKNN. It {ONE_WAY}"),
        ("m.tar", bytes(257) + b"ustar" + bytes(250), "is a tar archive; unpack it first"),
        ("m.onnx.gz", b"\x1f\x8b\x08" + bytes(90), "is compressed with gzip; unpack it first"),
        (
            "m.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "pointer of Git LFS.*\n  git lfs pull",
        ),
        ("m.onnx", b"\n<!DOCTYPE html><html><head>", "is a web page, and no model"),
        (
            "m.py",
            b"import torch\n\n\ndef build(): ...\n",
            "is Python code; name the function.*\n  simam-deploy export .*m.py:build",
        ),
        ("m.safetensors", (2).to_bytes(8, "little") + b"{}", "is a file of weights, .*\n  simam-deploy export"),
    ],
)
def test_files_of_other_makers(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert re.search(words, what_is(tmp_path / name))
    with pytest.raises(ModelFileError, match=words if name != "saved_model.pb" else "is not an ONNX file"):
        onnx_file.load(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"\x80\x02", b"\x80\x04K", b"PK\x03\x04" + bytes(60), b"hello", b"(hello", bytes(99)],
)
def test_of_other_bytes_nothing_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert what_is(tmp_path / "m.onnx") == ""
    with pytest.raises(ModelFileError, match="is not an ONNX file, or is truncated"):
        onnx_file.load(tmp_path / "m.onnx")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert [what_is(tmp_path), what_is(tmp_path / "nowhere"), what_is("/dev/null")] == ["", "", ""]


def test_onnx_files_are_not_taken_for_others(folder: Path) -> None:
    assert [path.name for path in folder.glob("*.onnx") if what_is(path)] == []


def test_hostile_files_are_looked_at_briefly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip with a huge directory, a data.pkl that unpacks to gigabytes, names with escapes."""
    monkeypatch.setattr(file_kinds, "MOST_DIRECTORY", 10_000)
    with zipfile.ZipFile(tmp_path / "many.pt", "w") as archive:
        for i in range(200):
            archive.writestr(f"a/data/{i}", "")
    assert "is an archive of very many files" in what_is(tmp_path / "many.pt")
    monkeypatch.undo()
    with (
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data.pkl", "w") as entry,
    ):
        entry.write(b"\x80\x02cevil\x1b[31m\nname{x}\n")
        for _ in range(256):
            entry.write(bytes(2**20))
    said = what_is(tmp_path / "bomb.pt")
    assert r"holds a pickled evil\x1b[31m.namex; opening it runs code" in said
    assert said.isprintable() or "\x1b" not in said


COMMANDS = (
    "inspect {}",
    "fuse {} -o out.onnx",
    "verify {}",
    "verify out.onnx --against {}",
    "bench {}",
    "build {} -o out.engine --targets sm86",
    "recipe trtexec {}",
    "export {} -o new.onnx",
    "export {}:model -o new.onnx",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_the_file(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    (folder / "out.onnx").write_bytes((folder / "fixed.onnx").read_bytes())
    torch.save({"model": model_of("ultralytics.nn.tasks", "DetectionModel", monkeypatch)}, folder / "best.pt")
    status, _, err = run(command.format("best.pt"))
    assert status == 2
    assert "best.pt is a model of Ultralytics" in err
    assert (
        "\n  yolo export model=best.pt format=onnx opset=17\n  simam-deploy fuse best.onnx -o best.simam.onnx\n"
        in err
    )


def test_an_onnx_file_is_no_model_to_export(folder: Path, run: Run) -> None:
    status, _, err = run("export fixed.onnx -o new.onnx")
    assert status == 2
    assert "does not name a model" in err
    assert "fixed.onnx is an ONNX file already: simam-deploy fuse fixed.onnx -o OUT.onnx" in err


@pytest.mark.parametrize("command", ["export w.pt -o new.onnx", "inspect w.pt"])
def test_torch_is_not_imported_for_it(tmp_path: Path, command: str) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "w.pt")
    code = (
        "import sys\nfrom simam_deploy.cli import main\n"
        f"sys.argv = ['simam-deploy', *{command.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print([end.code, 'torch' in sys.modules])\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.lower()) == [2, False]
    assert "w.pt is a file of weights" in done.stderr
