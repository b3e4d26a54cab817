"""The fences of a page of Markdown: which are run, what they print, and which cannot be run here and why.

```sh                          commands of simam-deploy, each in this process, in order, in one folder per page
```python                      run; the names of one fence are there in the next of the page
```cpp                         compiled and run, with the files of the page beside it
```text output                 stdout of the fence in front, compared but for numbers and runs of blanks
```sh no-run: needs a GPU      not run, for one of REASONS

python tests/docs/fences.py README.md docs    runs these pages and writes what was printed into them
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.M | re.S)
LANGUAGES = {"python", "sh", "cpp"}
"""Those that are run. Others show something: text, a grammar, a directive of Sphinx."""
REASONS = {
    "needs Ultralytics",  # tests/test_yolo_page.py runs these with a stand-in, `make peers` with the real one
    "needs MNN or ncnn",  # `make peers` converts with both, and runs what they made
    "needs a GPU",
    "needs TensorRT",
    "needs CUDA's compiler",
    "shows the options of a compiler",
    "installs",
    "takes minutes",
}
OUTPUT, NO_RUN = "output", "no-run: "
YOLO = "yolo11n-17-dynamic-slim.onnx"


@dataclass(frozen=True)
class Fence:
    """line : of the page.  note : behind the language."""

    page: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in LANGUAGES and not self.note.startswith(NO_RUN)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def fences(page: Path) -> list[Fence]:
    text = page.read_text()
    return [
        Fence(page, text.count("\n", 0, found.start()) + 1, *_parts(found["info"]), found["text"])
        for found in FENCE.finditer(text)
    ]


def _parts(info: str) -> tuple[str, str]:
    language, _, note = info.strip().partition(" ")
    return language, note.strip()


def prepare(folder: Path) -> None:
    """The files that pages begin with: a YOLO that the real Ultralytics exported, under two names; the
    digits network, and scans that it was not trained on; the kernel library."""
    from simam_deploy import native

    (yolo,) = ROOT.glob(f"tests/**/{YOLO}")
    for name in ("yolo.onnx", "best.onnx"):
        shutil.copyfile(yolo, folder / name)
    (folder / "digits.onnx").write_bytes(digits())
    np.savez(folder / "scans.npz", x=scans())
    if library := native.library():
        shutil.copyfile(library.path, folder / library.path.name)


@cache
def digits() -> bytes:
    """The digits network, as `export` writes it."""
    from export_models import digits as network
    from simam_deploy.to_onnx import export

    model, example = network.build()
    with tempfile.TemporaryDirectory() as folder:
        export(model, example, Path(folder, "digits.onnx"), dynamic=["batch"], check=False)
        return Path(folder, "digits.onnx").read_bytes()


def scans() -> NDArray[np.float32]:
    """(100, 1, 8, 8)."""
    from export_models import digits as network

    return network.test_set()[0][:100]


def run_page(page: Path) -> Iterator[tuple[Fence, str]]:
    """Run its fences in the current folder. Yields each that another one shows the output of, and what it printed."""
    names: dict[str, object] = {"__name__": "page"}
    printed = ""
    for fence in fences(page):
        if fence.runs:
            try:
                printed = _run(fence, names)
            except BaseException as error:
                raise AssertionError(f"{fence.place}: {error!r}\n{fence.text}") from error
        elif fence.note == OUTPUT:
            yield fence, printed


def _run(fence: Fence, names: dict[str, object]) -> str:
    if fence.language == "cpp":
        return _compiled(fence.text)
    if fence.language == "sh":
        return "".join(_command(line) for line in _lines(fence.text))
    return _printed(lambda: exec(compile(fence.text, fence.place, "exec"), names))


def _lines(text: str) -> list[str]:
    """Commands, without comments; a backslash continues one."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _command(line: str) -> str:
    from simam_deploy import cli

    program, *arguments = shlex.split(line, comments=True)
    assert program == "simam-deploy", f"{program} is not run here; say `{NO_RUN}` and one of {sorted(REASONS)}"

    def main() -> None:
        status: object = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        assert not status, f"exit status {status}"

    with patch.object(sys, "argv", [program, *arguments]):
        return _printed(main)


def _printed(call: Callable[[], object]) -> str:
    """stdout of `call`; what it writes to stderr, as progress, is dropped unless it fails."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            call()
    except BaseException as error:
        raise AssertionError(f"{error!r}\n{out.getvalue()}{err.getvalue()}") from error
    return out.getvalue()


def _tool(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lacks(page: Path) -> str:
    """What `page` needs and this machine has not; "" if nothing."""
    from simam_deploy import native

    needs = {
        "docs/howto/cpp_onnxruntime.md": ("library", "c++", "header"),
        "docs/howto/onnxruntime.md": ("library",),
        "docs/howto/cpu_specialise.md": ("library",),
        "docs/howto/openvino.md": ("openvino",),
        "docs/howto/tensorrt_rtx.md": ("tensorrt_rtx",),
    }
    missing = {
        "library": "" if native.library() else native.why_not(),
        "c++": "" if shutil.which("c++") else "there is no C++ compiler",
        "header": "" if headers() else "there is no header of ONNX Runtime: make headers",
    }
    for need in needs.get(str(page.relative_to(ROOT)), ()):
        if why := missing.get(need, "" if need in missing or find_spec(need) else f"{need} is not installed"):
            return why
    return ""


def headers() -> Path | None:
    """The folder of ONNX Runtime's header for C++."""
    said = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    folders = [Path(said)] if said else [path.parent for path in ROOT.glob("build/headers/**/onnxruntime_cxx_api.h")]
    return next((folder for folder in folders if (folder / "onnxruntime_cxx_api.h").is_file()), None)


def _compiled(code: str) -> str:
    """Of a C++ program, built on ONNX Runtime's header and on the library that its Python package has."""
    source, program = Path("page.cpp"), Path("page").absolute()
    source.write_text(code)
    import onnxruntime

    (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    Path("libonnxruntime.so.1").symlink_to(runtime)  # the name that programs look for
    flags = ["-std=c++17", f"-I{headers()}", runtime, f"-Wl,-rpath,{Path.cwd()}"]
    _tool("c++", source, "-o", program, *flags)
    return _tool(program)


def alike(text: str) -> list[str]:
    """`text` without what differs from run to run or machine to machine: numbers, and blanks that align columns."""
    text = re.sub(r"\d[\d,.]*(?:e[+-]?\d+)?%?", "#", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.strip().splitlines()]


def write(page: Path) -> None:
    """Put what its fences print in the place of the outputs that it shows."""
    shown = list(run_page(page))
    text = page.read_text()
    for fence, printed in shown:
        lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
        before = f"```{fence.language} {fence.note}\n{fence.text}```"
        text = text.replace(before, f"```{fence.language} {fence.note}\n{lines}\n```", 1)
    page.write_text(text)


def main(arguments: list[str]) -> None:
    """Each argument is a page, or a folder of pages."""
    os.environ["COLUMNS"] = "100"
    chosen = [Path(argument).absolute() for argument in arguments]
    for page in pages():
        if any(page == one or one in page.parents for one in chosen):
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                prepare(Path(folder))
                write(page)
                os.chdir(ROOT)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
