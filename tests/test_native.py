"""The compiled op library: found, asked, refused; its kernel against the formula; what is said of who ran."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from cases import INPUTS, LAMBDAS, SHAPES, make
from graphs import BODY, beside, parse, save

from simam_deploy import native, onnx_file, open_session
from simam_deploy.candidates import gather
from simam_deploy.doctor import kernel_in
from simam_deploy.errors import InputError, ModelFileError, NativeError, RuntimeUnavailable
from simam_deploy.forms import alone
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OP_VERSION, reference, tolerance
from simam_deploy.runtimes import KernelUse, Session
from simam_deploy.runtimes.graph import DOMAINS, ours

ROOT = Path(__file__).parents[1]
EPS = 2.0**-23


def file(folder: Path, form: str = "function", shape: tuple = ("n", "c", "h", "w"), e_lambda: float = 1e-4) -> Path:
    path = folder / f"{form}.onnx"
    onnx_file.save(alone(form, shape, e_lambda=e_lambda), path)
    return path


def run(session: Session, x: np.ndarray) -> np.ndarray:
    return session.run({"x": x})["y"]


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
        ("of another processor", "cannot be loaded: .*"),
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


# its kernel


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_the_kernel_computes_the_formula(form: str, e_lambda: float, tmp_path: Path, library: native.Library) -> None:
    with open_session(file(tmp_path, form, e_lambda=e_lambda), kernel="require", threads=2) as session:
        for shape in SHAPES:
            for name in INPUTS:
                x = make(name, shape)
                error = np.abs(run(session, x) - reference(x, e_lambda))
                assert (error <= tolerance(x, np.float32, e_lambda)).all(), (name, shape)
                assert (error <= 2 * EPS * np.abs(x).max(axis=(2, 3), keepdims=True)).all(), (name, shape)
        assert session.kernel_use({"x": x}) == KernelUse(1, 1, library.target)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_a_map_of_one_is_refused_with_the_reason(form: str, tmp_path: Path) -> None:
    with (
        open_session(file(tmp_path, form)) as session,
        pytest.raises(Exception, match=r"SimAM of a 1x1 map is 0/0: its variance divides by H.W - 1; feed larger"),
    ):
        run(session, np.ones((1, 2, 1, 1), np.float32))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("length", "words"), [(2, ""), (3, "scale must have 2 elements, one for each channel")])
def test_a_neighbour_with_a_scale_of_the_wrong_length(length: int, words: str, tmp_path: Path) -> None:
    model = parse(
        "g (float[1,2,3,4] x, float[S] s, float[2] b) => (float[1,2,3,4] y) { y = simam.SimAMAffine (x, s, b) }"
    )
    model.opset_import.append(onnx.helper.make_opsetid(OP_DOMAIN, OP_VERSION))
    x, scale, bias = make("plain", (1, 2, 3, 4)), np.full(length, 3, np.float32), np.ones(2, np.float32)
    with open_session(save(model, tmp_path / "m.onnx"), kernel="require") as session:
        feeds = {"x": x, "s": scale, "b": bias}
        if words:
            with pytest.raises(Exception, match=words):
                session.run(feeds)
        else:
            np.testing.assert_allclose(session.run(feeds)["y"], 3 * reference(x) + 1, rtol=0, atol=1e-5)
            assert str(session.kernel_use(feeds)).startswith("kernel (")


# who ran


def test_auto_require_and_off(tmp_path: Path, library: native.Library) -> None:
    x = make("plain", (1, 3, 5, 7))
    with open_session(file(tmp_path)) as session:
        assert session.notes == []
        assert str(session.kernel_use({"x": x})) == f"kernel ({library.target})"
    with open_session(file(tmp_path), kernel="off") as session:
        assert session.notes == []
        assert session.kernel_use({"x": x}) == KernelUse(0, 1, why="kernel='off' was asked for")
        assert (np.abs(run(session, x) - reference(x)) <= tolerance(x, np.float32)).all()
    with pytest.raises(
        RuntimeUnavailable, match=r"custom_op, 1 nodes.*no body in the file, and kernel='off' was asked"
    ):
        open_session(file(tmp_path, "custom_op"), kernel="off")
    with pytest.raises(
        RuntimeUnavailable, match=r"asked for the kernel in .*primitive.onnx, but it has no node of the"
    ):
        open_session(file(tmp_path, "primitive"), kernel="require")
    with pytest.raises(RuntimeUnavailable, match="the kernel libraries are for CPUExecutionProvider and CUDA"):
        open_session(file(tmp_path), kernel="require", provider="AzureExecutionProvider")
    with pytest.raises(InputError, match="kernel is one of auto, require, off; got 'on'"):
        open_session(file(tmp_path), kernel="on")
    with pytest.raises(InputError, match="'openvino' has no option kernel"):
        open_session(file(tmp_path), "openvino", kernel="off")


@pytest.mark.usefixtures("no_library")
def test_without_a_library_the_body_runs_and_says_so(tmp_path: Path) -> None:
    x = make("plain", (1, 3, 5, 7))
    with open_session(file(tmp_path)) as session:
        assert session.notes == [f"SimAM runs as the body in the file: {native.why_not()}"]
        assert str(session.kernel_use({"x": x})) == "body"
        assert (np.abs(run(session, x) - reference(x)) <= tolerance(x, np.float32)).all()
    with open_session(file(tmp_path, "primitive")) as session:
        assert session.notes == []
        assert str(session.kernel_use({"x": x})) == "-"
    with pytest.raises(RuntimeUnavailable, match=r"asked for the kernel in .*, but no kernel library: build it with"):
        open_session(file(tmp_path), kernel="require")
    with pytest.raises(RuntimeUnavailable, match="no body in the file, and no kernel library: build it with `make"):
        open_session(file(tmp_path, "custom_op"))
    assert kernel_in(file(tmp_path)) == KernelUse(0, 1, why=native.why_not())


@pytest.mark.usefixtures("library")
def test_a_type_that_the_kernel_does_not_take_runs_as_the_body(tmp_path: Path) -> None:
    path = file(tmp_path)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, path)
    x = make("plain", (1, 3, 5, 7)).astype(np.float64)
    with open_session(path) as session:
        (note,) = session.notes
        assert re.match(r"SimAM runs as the body in the file: with the kernel library, .*tensor\(double\)", note)
        assert session.kernel_use({"x": x}).ran == 0
        np.testing.assert_allclose(run(session, x), reference(x), rtol=0, atol=1e-5)
    with pytest.raises(ModelFileError, match=r"tensor\(double\).*\(SimAM\) in node \(simam\) is invalid"):
        open_session(path, kernel="require")


@pytest.mark.usefixtures("library")
def test_nodes_are_counted_where_they_run(tmp_path: Path) -> None:
    """In the branch that is taken, twice through a function, and not in one that nothing calls."""
    functions = (
        '<domain: "simam", opset_import: ["" : 18, "simam" : 1]> Block (x) => (y) { y = simam.SimAM (x) }',
        '<domain: "simam", opset_import: ["" : 18, "simam" : 1]> Idle (x) => (y) { y = simam.SimAM (x) }',
    )
    graph = """g (bool c, float[N,C,H,W] x) => (float[N,C,H,W] y) {
        a = simam.Block (x)
        b = simam.Block (a)
        y = If (c) <then_branch = t () => (float[N,C,H,W] p) { p = simam.SimAM (b) },
                    else_branch = e () => (float[N,C,H,W] q) { q = Relu (b) }> }"""
    model = parse(graph, *functions, BODY)
    assert ours(model) == 3
    feeds = {"x": make("plain", (1, 2, 3, 4))}
    with open_session(save(model, tmp_path / "m.onnx")) as session:
        taken, left = (session.kernel_use({**feeds, "c": np.array(c)}) for c in (True, False))
    assert (taken.ran, taken.of, left.ran, left.of) == (3, 3, 2, 3)
    assert str(left).endswith(") 2 of 3")


def test_a_kernel_that_is_not_taken_is_not_reported(tmp_path: Path, library: native.Library) -> None:
    """Seen, not assumed: a session whose file was replaced behind its back by one that has no node of ours."""
    path = file(tmp_path)
    with open_session(path) as session:
        file(tmp_path, "primitive").rename(path)
        x = make("plain", (2, 3, 5, 7))
        assert session.kernel_use({"x": x}) == KernelUse(0, 1, library.target)


def test_candidates_have_custom_op_where_there_is_a_kernel(tmp_path: Path, library: native.Library) -> None:
    source = file(tmp_path, "primitive", (1, 3, 5, 7))
    (tmp_path / "out").mkdir()
    chosen = gather([source], ["all"], ["ort", "openvino"], tmp_path / "out")
    assert "custom_op · ort" in chosen.open
    assert [row.partition(":")[0] for row in chosen.skipped] == ["custom_op · openvino"]
    chosen = gather([source], ["custom_op"], ["ort"], tmp_path / "out", kernel="off")
    assert not chosen.open


@pytest.mark.usefixtures("library")
def test_kernel_in_says_why_it_saw_nothing(tmp_path: Path) -> None:
    assert kernel_in(file(tmp_path, "primitive")) == KernelUse()
    assert kernel_in(file(tmp_path, shape=("n", 3, "h", "w"))).ran == 1
    one = kernel_in(file(tmp_path, shape=(1, 3, 1, "w")))
    assert one.ran == 1
    large = kernel_in(file(tmp_path, shape=(1, 3, 99_999, 99_999)))
    assert (large.ran, large.why) == (None, "its inputs hold more than 67,108,864 numbers")


@pytest.mark.usefixtures("library")
def test_weights_in_another_file_are_found_while_it_watches(tmp_path: Path) -> None:
    assert kernel_in(beside(tmp_path / "model")).ran == 1


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
    assert (found["kDomain"], found["kBlockedDomain"]) == tuple(f'"{domain}"' for domain in DOMAINS)
    assert int(found["kVersion"]) == OP_VERSION
    assert float(found["kDefaultLambda"].removesuffix("F")) == DEFAULT_LAMBDA


# fetching the headers


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """plugins/fetch.py on a Debian whose sources are empty."""
    spec = importlib.util.spec_from_file_location("fetch", ROOT / "plugins/fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    monkeypatch.setattr(module, "APT", tmp_path)
    monkeypatch.setattr(module, "OS_RELEASE", tmp_path / "os-release")
    return module


STANZAS = """# one
Types: deb
URIs: http://no.example/security
Suites: bookworm-security
Components: main

Types: deb
# where from
URIs: http://one.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""
LINES = """# deb http://no.example bookworm main
deb-src http://no.example bookworm main
deb http://no.example/security bookworm-security main
deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main contrib
"""


def test_the_mirror_is_the_machines_own(fetch: ModuleType, tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    (parts / "other.sources").write_text("Types: deb\nURIs: http://no.example\nSuites: nodistro\nComponents: main\n")
    (tmp_path / "sources.list").write_text(LINES)
    assert fetch.mirror("trixie") == (
        "debian.list",
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian trixie main\n",
    )
    (parts / "debian.sources").write_text(STANZAS)
    name, text = fetch.mirror("trixie")
    assert name == "debian.sources"
    assert {"types: deb", "uris: http://one.example/debian", "suites: trixie", "components: main"} <= set(
        text.splitlines()
    )
    assert "signed-by: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n" in text
    assert "security" not in text


def test_what_cannot_be_fetched_leaves_nothing(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "build/headers"
    with pytest.raises(fetch.Unavailable, match="no source of bookworm was found below"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", into)
    (tmp_path / "os-release").write_text("ID=ubuntu\n")
    with pytest.raises(fetch.Unavailable, match="this is ubuntu, and they are taken from Debian's archive"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", into)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(fetch.Unavailable, match="this machine has no apt-get"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", into)
    assert not into.parent.exists()
    into.mkdir(parents=True)
    fetch.fetch(["libonnxruntime-dev"], "trixie", into)  # there already: nothing is done


def test_a_download_that_fails_leaves_nothing(fetch: ModuleType, tmp_path: Path) -> None:
    if not shutil.which("apt-get"):
        pytest.skip("apt-get is not installed")
    (tmp_path / "sources.list").write_text("deb [trusted=yes] http://127.0.0.1:9 bookworm main\n")
    with pytest.raises(fetch.Unavailable, match="apt-get update: E: Failed to fetch"):
        fetch.fetch(["libonnxruntime-dev"], "trixie", tmp_path / "build/headers")
    assert list((tmp_path / "build").iterdir()) == []
