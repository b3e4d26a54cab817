"""plugins/wheels.py and try_wheel.py: the wheels that are refused, and the trial. `make wheel` runs both whole."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from simam_deploy import formula, native

PLUGINS = Path(__file__).parents[2] / "plugins"
ONNXRUNTIME, AHEAD = "simam_deploy/lib/libsimam_onnxruntime.so", "simam_deploy/lib/libsimam_ahead.so"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PLUGINS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PLUGINS)  # for `fetch`
    module = load("wheels")
    monkeypatch.setattr(module, "WORK", tmp_path)
    return module


def elf(machine: int = 62, *versions: str) -> bytes:
    """As much of an ELF file as is looked at."""
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + "\0".join(["", *versions, ""]).encode()


def write(folder: Path, files: dict[str, bytes], tag: str = "linux_x86_64") -> Path:
    path = folder / f"simam_deploy-0.1.0-py3-none-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


RIGHT = {ONNXRUNTIME: elf(62, "GLIBC_2.2.5", "GLIBC_2.17"), AHEAD: elf(62, "GLIBC_2.4")}


def test_a_right_wheel_passes(wheels: ModuleType, tmp_path: Path) -> None:
    wheel = write(tmp_path, RIGHT)
    wheels.check(wheel, "x86_64")
    assert wheels.glibc(wheel) == (2, 17)  # as numbers: 4 is less


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({ONNXRUNTIME: elf(62, "GLIBC_2.35")}, r"needs glibc 2\.35; manylinux_2_17_x86_64 has 2\.17"),
        ({AHEAD: elf(183)}, r"libsimam_ahead\.so is for ELF machine 183; x86_64 is 62"),
        (
            {"simam_deploy.libs/libstdc++-1a.so.6": elf()},
            r"should hold libsimam_ahead\.so, .*; it holds .*libstdc\+\+-1a",
        ),
        ({"simam_deploy/lib/libsimam_cuda.so": elf()}, r"it holds libsimam_ahead\.so, libsimam_cuda\.so, "),
        ({"simam_deploy/lib/missing.txt": b"no header\nset X\n"}, "^no header; set X$"),
    ],
)
def test_a_wrong_wheel_is_refused(wheels: ModuleType, tmp_path: Path, changed: dict[str, bytes], words: str) -> None:
    with pytest.raises(wheels.WheelError, match=words):
        wheels.check(write(tmp_path, {**RIGHT, **changed}), "x86_64")


def test_python_alone_is_refused(wheels: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(wheels.WheelError, match="it holds none"):
        wheels.check(write(tmp_path, {"simam_deploy/__init__.py": b""}), "x86_64")


@pytest.mark.parametrize("tag", ["manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_28_x86_64"])
def test_the_tag_is_auditwheels(
    wheels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    def audit(command: list[str | Path]) -> None:
        (tmp_path / "tagged").mkdir()
        assert command[1:4] == ["-m", "auditwheel", "repair"]
        write(tmp_path / "tagged", RIGHT, tag)

    monkeypatch.setattr(wheels, "_run", audit)
    into = tmp_path / "dist"
    if "2_17" in tag:
        assert (
            wheels.repair(write(tmp_path, RIGHT), "x86_64", into) == into / f"simam_deploy-0.1.0-py3-none-{tag}.whl"
        )
        return
    with pytest.raises(
        wheels.WheelError, match=r"manylinux_2_28_x86_64\.whl, and it should be manylinux_2_17_x86_64"
    ):
        wheels.repair(write(tmp_path, RIGHT), "x86_64", into)
    assert not into.exists()


def test_the_environment_does_not_change_the_build(wheels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXXFLAGS", "-march=native")
    show = [sys.executable, "-c", "import os; print(os.environ.get('CXXFLAGS'), os.environ['PATH'])"]
    flags, _, path = wheels._run(show).strip().partition(" ")
    assert (flags, path.split(":")[0]) == ("None", str(Path(sys.executable).parent))
    assert wheels._run(show, bare={}) == "None \n"  # no PATH: no compiler
    with pytest.raises(wheels.WheelError, match=r"ended with 3:\n  so it was$"):
        wheels._run([sys.executable, "-c", "import sys; print('so it was'); sys.exit(3)"])


def test_one_that_was_not_tried_is_a_failure(
    wheels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def try_out(wheel: Path, architecture: str) -> str:
        if architecture == "aarch64":
            raise wheels.Unavailable("this machine has no apt-get")
        return "seen"

    monkeypatch.setattr(sys, "argv", ["wheels.py"])
    monkeypatch.setattr(wheels, "make", lambda architecture, into: write(tmp_path, RIGHT, wheels.tag(architecture)))
    monkeypatch.setattr(wheels, "try_out", try_out)
    with pytest.raises(SystemExit, match=r"_aarch64\.whl was not seen to run: this machine has no apt-get"):
        wheels.main()
    first, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert first == ["file", "size", "tag", "glibc", "tried"]
    assert [row[3:] for row in rows] == [
        ["py3-none-manylinux_2_17_x86_64", "2.17", "yes:", "seen"],
        ["py3-none-manylinux_2_17_aarch64", "2.17", "no"],
    ]


def test_one_that_cannot_be_built_ends_it(wheels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(architecture: str, into: Path) -> Path:
        raise wheels.WheelError("there is no zig")

    monkeypatch.setattr(wheels, "make", make)
    monkeypatch.setattr(sys, "argv", ["wheels.py", "aarch64"])
    with pytest.raises(SystemExit, match="no wheel for aarch64: there is no zig"):
        wheels.main()


def test_architectures_by_name(
    wheels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["wheels.py", "riscv64"])
    with pytest.raises(SystemExit, match="2"):
        wheels.main()
    assert "no wheel is built for riscv64; choose from x86_64, aarch64" in capsys.readouterr().err


def test_no_emulator_for_x86_64(wheels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.platform, "machine", lambda: "aarch64")
    with pytest.raises(wheels.WheelError, match="this machine is aarch64, and there is no emulator for x86_64 here"):
        wheels.try_out(tmp_path / "x.whl", "x86_64")


# The trial ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "argv", ["try_wheel.py"])
    return load("try_wheel")


def test_a_trial_takes_the_wheels_own_library(
    trial: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = native.Library(tmp_path / native.NAME, 1, trial.widest(), "", ())
    monkeypatch.setattr(trial.native, "library", lambda: elsewhere)
    with pytest.raises(SystemExit, match=r"libsimam_onnxruntime\.so, not that of .*simam_deploy"):
        trial.main()
    narrow = native.Library(native.PACKAGE / native.NAME, 1, "4-wide", "", ())
    monkeypatch.setattr(trial.native, "library", lambda: narrow)
    with pytest.raises(SystemExit, match="the kernel uses 4-wide; this processor has"):
        trial.main()
    monkeypatch.setattr(trial.native, "library", lambda: None)
    with pytest.raises(SystemExit, match="no kernel library"):
        trial.main()


@pytest.mark.skipif(native.library() is None, reason="no kernel library")
def test_a_trial_sees_a_wrong_answer(trial: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial.worst((2, 3, 5, 7)) <= 1
    right = formula.reference
    monkeypatch.setattr(formula, "reference", lambda x: right(x) + 1e-5)
    assert trial.worst((2, 3, 5, 7)) > 1


def test_a_trial_asks_doctor(trial: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        '[{"name": "ort", "works": true}, {"name": "kernel library", "works": false, "detail": "cut off"}]',
        "",
    ]

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command == ["simam-deploy", "doctor", "--json"]
        out = answers.pop(0)
        return subprocess.CompletedProcess(command, 0 if out else 70, out, "a trace")

    monkeypatch.setattr(trial.subprocess, "run", run)
    with pytest.raises(SystemExit, match="says of kernel library: cut off"):
        trial.ask_doctor("simam-deploy")
    with pytest.raises(SystemExit, match="doctor ended with 70: a trace"):
        trial.ask_doctor("simam-deploy")
