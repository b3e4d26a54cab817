"""Files around a build that cannot be used: the engine's place, timing cache, plugin library, model."""

import errno
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.small_onnx import CALL, names, save

from simam_deploy.engines import builder, flavors, run_worker
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.trt_build import Refused, _timing_cache, _write
from simam_deploy.errors import BuildError, InputError, OutputError, RuntimeUnavailable, SimAMDeployError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="names and libraries of Linux"),
    pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"),
]
SM86 = ["sm86"]


# ---- places of the engine


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.onnx", "it is the same file as the input .*model.onnx, and inputs are never modified"),
        ("link to the model", "cannot write .*model.onnx: it is the same file as the input"),
        ("none/model.engine", "the folder does not exist; create it with mkdir -p .*none"),
        ("folder", "it is a folder; give the name of a file in it"),
        ("pipe", "it is a device or a pipe; give the name of a file"),
        ("circle", "it is a symbolic link that leads in a circle; take it away"),
        ("link to nowhere", "cannot write /nonexistent/x: the folder does not exist"),
        ("n" * 256, "File name too long"),
        ("n" * 251, "File name too long"),
        ("n\0", "it names no file"),
    ],
    ids=lambda text: text[:20].replace("\0", "0"),
)
def test_no_place_for_an_engine(name: str, words: str, static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the builder starts. 251 characters have no room for `.json`."""
    monkeypatch.setattr(run_worker, "WORKER", ("/nonexistent/the builder was started",))
    folder = static.parent
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    for link, to in (
        ("circle", "circle"),
        ("link to the model", "model.onnx"),
        ("link to nowhere", "/nonexistent/x"),
    ):
        (folder / link).symlink_to(to)
    before = names(folder)
    with pytest.raises(OutputError, match=words):
        build_engine(static, folder / name, targets=SM86)
    assert names(folder) == before


@pytest.mark.parametrize("name", ["a\nb.engine", os.fsdecode(b"x\xff.engine"), "\x1b[31mred", " ", "-o", "link"])
def test_odd_names_of_an_engine_are_names(name: str, static: Path) -> None:
    out = static.parent / "out"
    out.mkdir()
    if name == "link":
        (out / name).symlink_to(out / "real")
    report = build_engine(static, out / name, targets=SM86)
    real = "real" if name == "link" else name
    assert (out / real).stat().st_size == report.size_bytes
    assert set(names(out)) == {name, real, f"{real}.json"}


@pytest.mark.parametrize("text", ["g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Sigmoid(x) }", CALL])
def test_a_model_whose_name_is_not_utf_8(text: str, tmp_path: Path) -> None:
    model = save(tmp_path, text).rename(tmp_path / os.fsdecode(b"x\xff.onnx"))
    with pytest.raises(
        SimAMDeployError, match=r"x\\udcff.onnx' is not UTF-8, and a builder takes no other; rename it"
    ):
        build_engine(model, tmp_path / "e", targets=SM86, shapes="x:1x3x8x8", plugin=_library(tmp_path, text == CALL))


def _library(folder: Path, needed: bool) -> Path | str:
    file = folder / "plugin.so"
    file.write_bytes(b"")
    return file if needed else "none"


def test_a_model_with_the_longest_name(static: Path) -> None:
    model = static.rename(static.with_name("n" * 250 + ".onnx"))
    build_engine(model, static.with_name("e"), targets=SM86)


def test_a_model_that_changes_while_the_engine_is_built(static: Path) -> None:
    other = static.with_name("other.onnx")
    other.write_bytes(static.read_bytes())

    def change(stage: str) -> None:
        if stage == "write":
            other.replace(static)

    with pytest.raises(
        BuildError, match=r"model\.onnx or its weights changed while the engine was built; build it a"
    ):
        build_engine(static, static.with_name("e"), targets=SM86, on_progress=change)
    assert names(static.parent) == ["model.onnx"]


# ---- timing caches


@pytest.fixture
def tensorrt(trt_version: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each version, of which the worker alone has the bindings."""
    monkeypatch.setattr(flavors, "find_spec", lambda _: object())
    return trt_version


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.onnx", "same file as the input"),
        ("net.engine", "--timing-cache .* is the engine or its manifest; give the cache a name of its own"),
        ("net.engine.json", "--timing-cache .* is the engine or its manifest"),
        ("none/cache", "mkdir -p"),
        ("pipe", "it is a device or a pipe"),
    ],
)
def test_no_place_for_a_timing_cache(name: str, words: str, static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_worker, "WORKER", ("/nonexistent/the builder was started",))
    monkeypatch.setattr(builder, "refuse_without_effect", lambda _: None)
    folder = static.parent
    os.mkfifo(folder / "pipe")
    with pytest.raises((InputError, OutputError), match=words):
        build_engine(static, folder / "net.engine", targets=SM86, timing_cache=folder / name)
    assert names(folder) == ["model.onnx", "pipe"]


def test_a_file_that_is_no_timing_cache(tensorrt: str, static: Path) -> None:
    cache, content = static.with_name("cache"), b"no cache"
    cache.write_bytes(content)
    with pytest.raises(
        InputError, match=r"--timing-cache \S+ is not a cache of this TensorRT .*; delete it, or name"
    ):
        build_engine(static, static.with_name("e"), flavor="tensorrt", timing_cache=cache)
    assert names(static.parent) == ["cache", "model.onnx"]
    assert cache.read_bytes() == content


@pytest.mark.parametrize("made", [None, object()], ids=["none is made", "it does not match"])
def test_a_timing_cache_that_the_builder_refuses(made: object, tmp_path: Path) -> None:
    class Config:
        def create_timing_cache(self, held: bytes) -> object:
            assert held == b"of another version"
            return made

        def set_timing_cache(self, cache: object, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            return False

    cache = tmp_path / "cache"
    cache.write_bytes(b"of another version")
    with pytest.raises(Refused) as raised:
        _timing_cache(Config(), str(cache), [])
    assert raised.value.args[0] == "InputError"
    assert "is not a cache of this TensorRT and this GPU; delete it, or name another file" in raised.value.args[1]


@pytest.mark.parametrize("full", ["engine", "cache"])
def test_no_room_for_an_engine_or_its_cache(full: str, static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is named that has no room. Neither is written then."""
    script = (
        "import errno, json, sys; job = json.load(sys.stdin); open(job['engine'], 'wb').write(b'half')\n"
        f"print(json.dumps({{'os_error': [errno.ENOSPC, 'No space left on device', job[{full!r}]]}}))"
    )
    monkeypatch.setattr(run_worker, "WORKER", (sys.executable, "-c", script))
    monkeypatch.setattr(builder, "refuse_without_effect", lambda _: None)
    for name in ("engine", "cache"):
        static.with_name(name).write_bytes(b"vtrt, old")
    with pytest.raises(OutputError, match=rf"cannot write \S+/{full}: the disk is full; make room"):
        build_engine(static, static.with_name("engine"), targets=SM86, timing_cache=static.with_name("cache"))
    assert names(static.parent) == ["cache", "engine", "model.onnx"]
    assert {static.with_name(name).read_bytes() for name in ("engine", "cache")} == {b"vtrt, old"}


def test_a_write_without_room_names_the_file() -> None:
    """The system does not."""
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as raised:
        _write("/dev/full", b"content")
    assert raised.value.errno == errno.ENOSPC


# ---- plugin libraries


def compiled(folder: Path, code: str) -> Path:
    (folder / "plugin.c").write_text(code)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "plugin.so"), str(folder / "plugin.c")]
    subprocess.run(command, check=True)
    return folder / "plugin.so"


AT_ONCE = "__attribute__((constructor)) static void begin(void)"
ENDED = r"(?s)the engine builder {}, at 'load plugin\.so'; .*\nthe plugin library ended it: build that again"
NO_PLUGINS = r"(?s)takes no plugins from \S+plugin\.so; build it again: .*getCreators could not be loaded"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("int nothing;", NO_PLUGINS),
        ("int other(void); int first(void) { return other(); }", NO_PLUGINS),
        (f'#include <stdio.h>\n{AT_ONCE} {{ puts("{{\\"done\\": 1}}"); fflush(stdout); }}', NO_PLUGINS),
        (f"#include <stdlib.h>\n{AT_ONCE} {{ abort(); }}", ENDED.format("was ended by SIGABRT")),
        (f"{AT_ONCE} {{ *(volatile int *)0 = 1; }}", ENDED.format("was ended by SIGSEGV")),
        (f"#include <stdlib.h>\n{AT_ONCE} {{ exit(0); }}", ENDED.format("ended with status 0, no result")),
        (f"#include <unistd.h>\n{AT_ONCE} {{ for (;;) pause(); }}", "was stopped after 3 s, at 'load plugin.so'"),
    ],
    ids=["empty", "needs", "prints", "aborts", "crashes", "exits", "hangs"],
)
def test_libraries_that_are_no_plugin(code: str, words: str, tmp_path: Path) -> None:
    model, library = save(tmp_path, CALL), compiled(tmp_path, code)
    before, began = names(tmp_path), time.monotonic()
    with pytest.raises((BuildError, RuntimeUnavailable), match=words):
        build_engine(model, tmp_path / "e", targets=SM86, shapes="x:1x3x8x8", plugin=library, timeout_s=3)
    assert time.monotonic() - began < 8
    assert names(tmp_path) == before


def test_a_library_of_another_processor(tmp_path: Path) -> None:
    model, library = save(tmp_path, CALL), compiled(tmp_path, "int nothing;")
    content = bytearray(library.read_bytes())
    content[18:20] = (0xFFFE).to_bytes(2, "little")
    library.write_bytes(content)
    with pytest.raises(RuntimeUnavailable, match=r"plugin\.so is for another processor than this; build it again"):
        build_engine(model, tmp_path / "e", targets=SM86, shapes="x:1x3x8x8", plugin=library)


def test_a_library_is_never_the_engine(tmp_path: Path) -> None:
    model, library = save(tmp_path, CALL), compiled(tmp_path, "int nothing;")
    with pytest.raises(OutputError, match="same file as the input"):
        build_engine(model, library, targets=SM86, shapes="x:1x3x8x8", plugin=library)
