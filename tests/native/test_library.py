"""The compiled op library: found, asked, refused; what is in the file itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.graphs import file

from simam_deploy import native, open_session
from simam_deploy.errors import NativeError
from simam_deploy.formula import DEFAULT_LAMBDA, OP_VERSION
from simam_deploy.runtimes.onnx_model import DOMAINS

ROOT = Path(__file__).parents[2]


# finding it


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No library anywhere; the folder of the package is empty and may be written to."""
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(native, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(native, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(native, "CHECKOUT_CUDA", tmp_path / "checkout of cuda")
    (tmp_path / "package").mkdir()
    (tmp_path / "checkout").mkdir()
    return tmp_path


def test_the_package_goes_before_the_checkout_and_the_variable_before_both(
    nowhere: Path, library: native.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.library() is None
    for place in ("checkout", "package"):
        shutil.copy(library.path, nowhere / place / native.NAME)
        found = native.library()
        assert found is not None
        assert found.path == nowhere / place / native.NAME
    monkeypatch.setenv(native.VARIABLE, str(library.path))
    assert native.library() == library
    monkeypatch.setenv(native.VARIABLE, "")
    assert native.library() == found


def test_it_says_what_it_is(library: native.Library) -> None:
    assert library.version == OP_VERSION
    assert library.target in ("avx512", "avx2", "baseline")
    assert re.fullmatch(r"x86_64( avx2| avx512f)?|aarch64|other", library.machine)


def test_the_variable_of_the_kernel_chooses_its_instructions(library: native.Library) -> None:
    code = "from simam_deploy import native; print(native.library().target)"
    environment = {"SIMAM_CPU": "baseline", native.VARIABLE: str(library.path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "baseline\n"


def test_where_there_is_none_it_says_how_to_get_one(nowhere: Path) -> None:
    assert native.why_not() == (
        "no kernel library: build it with `make native` in a checkout of simam-deploy; "
        "or name its file with SIMAM_LIBRARY"
    )
    (nowhere / "package/missing.txt").write_text("no C++ compiler was found\ninstall g++\n")
    assert "it was not built: no C++ compiler was found; install g++; or name" in native.why_not()
    (nowhere / "package/missing.txt").rename(nowhere / "checkout/missing.txt")  # of `make native`
    assert "it was not built: no C++ compiler was found; install g++; or name" in native.why_not()


def test_cmake_writes_what_is_missing_where_it_is_read(tmp_path: Path) -> None:
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    configure = ["-S", str(ROOT / "plugins"), "-B", str(tmp_path / "build")]
    install = ["--install", str(tmp_path / "build"), "--prefix", str(tmp_path / "site")]
    for arguments in (configure, configure, install):  # twice: what was missing may be there the next time
        environment = {**os.environ, "CXX": str(tmp_path / "no-compiler")}
        done = subprocess.run(["cmake", *arguments], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    missing = tmp_path / "site" / native.PACKAGE.relative_to(ROOT) / "missing.txt"
    assert missing.read_text().splitlines() == [
        "no C++ compiler was found",
        "install g++ or clang++, or set CXX, and build again",
    ]


def test_cmake_remembers_the_header_and_says_what_it_takes_away(tmp_path: Path) -> None:
    if not shutil.which("cmake") or not shutil.which("c++"):
        pytest.skip("cmake or a C++ compiler is not installed")
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins")  # next to no build/headers
    build, header = tmp_path / "build", tmp_path / "headers/onnxruntime_c_api.h"
    libraries = [build / native.NAME, build / "libsimam_tensorrt.so"]

    def configure(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["cmake", "-S", str(tmp_path / "plugins"), "-B", str(build), *arguments]
        unset = {"ONNXRUNTIME_INCLUDE_DIR", "TENSORRT_INCLUDE_DIR"}
        environment = {name: value for name, value in os.environ.items() if name not in unset} | variables
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    header.parent.mkdir()
    header.touch()
    first = configure(ONNXRUNTIME_INCLUDE_DIR=str(header.parent))
    assert (first.returncode, first.stderr) == (0, "")
    for library in libraries:
        library.write_text("built")
    second = configure()
    assert second.stderr == f"simam: removed {libraries[1]}, which this build does not make\n"
    assert libraries[0].exists()
    assert not (build / "missing.txt").exists()
    header.unlink()
    third = " ".join(configure().stderr.split())
    assert f"ONNXRUNTIME_INCLUDE_DIR is {header.parent}; there is no onnxruntime_c_api.h in it. Set it" in third
    assert libraries[0].exists()
    last = configure("-DONNXRUNTIME_INCLUDE_DIR=")
    assert last.returncode == 0
    if "kernel library" not in last.stderr:
        pytest.skip("ONNX Runtime's header is in /usr")
    assert f"simam: removed {libraries[0]}, which this build does not make\n" in last.stderr
    assert not libraries[0].exists()


# refusing one


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text", "is no library of Linux"),
        ("empty", "is no library of Linux"),
        ("cut off", "is cut off"),
        ("of another processor", "is for another processor than this"),
        ("somebody else's", "is not the op library of simam-deploy: .*simam_target"),
        ("missing", "SIMAM_LIBRARY is '.*', which is no file"),
    ],
)
def test_a_library_that_cannot_be_used(
    name: str, words: str, tmp_path: Path, library: native.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    whole = library.path.read_bytes()
    machine = bytearray(whole)
    machine[0x12:0x14] = (243).to_bytes(2, "little")  # RISC-V
    path = tmp_path / native.NAME
    if name == "somebody else's":
        path = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime_providers_shared.so"))
    elif name != "missing":
        changed = {"text": b"I am a text" * 9, "empty": b"", "cut off": whole[: len(whole) // 2]}
        path.write_bytes(changed.get(name, bytes(machine)))
    monkeypatch.setenv(native.VARIABLE, str(path))
    with pytest.raises(NativeError, match=words):
        native.library()
    with pytest.raises(NativeError, match=words):
        open_session(file(tmp_path))
    with open_session(file(tmp_path), kernel="off") as session:
        assert session.notes == []
    with open_session(file(tmp_path, "primitive")) as session:  # nothing for it to do: not looked at
        assert session.notes == []


def test_what_mends_it_depends_on_where_it_was_found(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, how in (("checkout", "`make native`"), ("package", "`pip install .`")):
        (nowhere / place / native.NAME).write_text("no library")
        with pytest.raises(NativeError, match=f"; build it again: {how} in a checkout of simam-deploy$"):
            native.library()
    monkeypatch.setenv(native.VARIABLE, str(nowhere / "checkout" / native.NAME))
    with pytest.raises(NativeError, match=r"; SIMAM_LIBRARY names it: unset that, or let it name another$"):
        native.library()


def test_a_library_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler")
    code = 'int simam_version() { return 7; } char const* simam_target() { return ""; } void RegisterCustomOps() {}'
    (tmp_path / "old.c").write_text(f'{code} char const* simam_machine() {{ return ""; }}')
    path = tmp_path / native.NAME
    subprocess.run([compiler, "-shared", "-fPIC", str(tmp_path / "old.c"), "-o", str(path)], check=True)
    monkeypatch.setenv(native.VARIABLE, str(path))
    words = f"was built for version 7 of the operators, this package has {OP_VERSION}; SIMAM_LIBRARY names it"
    with pytest.raises(NativeError, match=words):
        open_session(file(tmp_path))


# the file itself


def test_it_shows_five_doors_and_is_small(library: native.Library) -> None:
    if not shutil.which("nm"):
        pytest.skip("nm is not installed")
    listed = subprocess.run(["nm", "-D", "--defined-only", library.path], capture_output=True, text=True, check=True)
    shown = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert shown == {"RegisterCustomOps", "simam_version", "simam_target", "simam_machine", "simam_providers"}
    assert b"simam_launch" not in library.path.read_bytes()  # it is free of CUDA
    assert library.path.stat().st_size < 2 * 2**20


def test_names_and_numbers_are_those_of_the_formula() -> None:
    header = (ROOT / "plugins/common/simam.h").read_text()
    found = dict(re.findall(r"constexpr \w+ (k\w+)(?:\[\])? = (\S+);", header))
    names = (found["kDomain"], found["kBlockedDomain"], found["kInt8Domain"])
    assert names == tuple(f'"{domain}"' for domain in DOMAINS)
    assert int(found["kVersion"]) == OP_VERSION
    assert float(found["kDefaultLambda"].removesuffix("F")) == DEFAULT_LAMBDA
