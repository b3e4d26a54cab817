"""What plugins/tensorrt knows of TensorRT's binary interface, against TensorRT's headers.

plugins/tests/tensorrt_layouts.txt lists virtual tables, structs and enumerators. What stands there under "TensorRT 10
and 11" is why one plugin library serves both; what differs, logger.cpp and the autoreg libraries step around. Names
are compared, not parameters: plugins/tests compiles the plugin, whose methods say `override`, with each version.

After a look at the difference, a new list is written by

    TENSORRT_INCLUDE_DIR=/path/to/10/include:/path/to/11/include python tests/plugins/test_tensorrt_layouts.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
GOLDEN = PLUGINS / "tests/tensorrt_layouts.txt"

INTERFACES = [
    "IVersionedInterface",
    "IPluginCapability",
    "IPluginV3",
    "IPluginV3OneCore",
    "IPluginV3OneBuild",
    "IPluginV3OneRuntime",
    "IPluginCreatorInterface",
    "IPluginCreatorV3One",
    "IPluginResourceContext",
    "IDimensionExpr",
    "IExprBuilder",
    "apiv::VDimensionExpr",
    "apiv::VExprBuilder",
    "ILogger",
    "ILoggerFinder",
    "IPluginRegistry",
]
MEMBERS = {  # of structs
    "Dims64": "nbDims d",
    "DimsExprs": "nbDims d",
    "InterfaceInfo": "kind major minor",
    "PluginField": "name data type length",
    "PluginFieldCollection": "nbFields fields",
    "PluginTensorDesc": "dims type format scale",
    "DynamicPluginTensorDesc": "desc min max opt",
}
ENUMERATORS = {
    "DataType": "kFLOAT kHALF kINT8 kBF16",
    "TensorFormat": "kLINEAR kHWC8 kCHW4 kHWC16 kCHW32 kDHWC8 kCDHW32 kHWC kDHWC",
    "PluginFieldType": "kFLOAT64 kFLOAT32 kINT32",
    "PluginCapabilityType": "kCORE kBUILD kRUNTIME",
    "TensorRTPhase": "kBUILD kRUNTIME",
    "ILogger::Severity": "kINTERNAL_ERROR kERROR kWARNING kINFO kVERBOSE",
}

HEAD = """\
# TensorRT's binary interface, as plugins/tensorrt relies on it: the slots of virtual tables, counted from where an
# object points to, the offsets of members and sizes in bytes, the values of enumerators.
# tests/plugins/test_tensorrt_layouts.py compares it with TensorRT's headers, and writes it.
"""

Facts = dict[str, list[str]]  # of one version: {"vtable IPluginV3": ["0 getAPILanguage", ...]}


def folders() -> list[Path]:
    """Of NvInferRuntime.h, as TENSORRT_INCLUDE_DIR names them."""
    asked = [Path(place) for place in re.split("[:;]", os.environ.get("TENSORRT_INCLUDE_DIR", "")) if place]
    return [place if (place / "NvInferRuntime.h").is_file() else place / "include" for place in asked]


def cuda_headers() -> Path | None:
    """The folder of cuda_runtime_api.h, which TensorRT's headers include."""
    nvcc = shutil.which("nvcc")
    places = [os.environ.get("CUDA_INCLUDE_DIR"), nvcc and Path(nvcc).resolve().parents[1] / "include"]
    places += ["/usr/local/cuda/include", "/usr/include"]
    return next((Path(at) for at in places if at and (Path(at) / "cuda_runtime_api.h").is_file()), None)


def version_of(folder: Path) -> str:
    text = (folder / "NvInferVersion.h").read_text()
    found = re.findall(r"#define +(?:NV_TENSORRT|TRT)_(?:MAJOR|MINOR|PATCH)(?:_ENTERPRISE)? +(\d+)", text)
    assert len(found) >= 3, f"{folder}/NvInferVersion.h says no version"
    return ".".join(found[:3])


def compile_with_gcc(*arguments: str, source: str = "", folder: str | None = None) -> str:
    command = ["g++", "-std=c++17", "-w", *arguments]
    done = subprocess.run(command, input=source, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def vtables(preprocessed: str) -> Facts:
    """Each class of namespace nvinfer1 with its slots, counted from where objects point to.

    GCC's dump calls each pure function __cxa_pure_virtual: "= 0" is taken away first, and it says their names.
    """
    named = re.sub(r"(\)[\s\w]*)=\s*0\s*;", r"\1;", preprocessed)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "named.ii").write_text(named)
        compile_with_gcc("-fsyntax-only", "-fdump-lang-class=classes.txt", "named.ii", folder=folder)
        dump = (Path(folder) / "classes.txt").read_text()
    found: Facts = {}
    for name, rows in re.findall(r"^Vtable for nvinfer1::(?:v_1_0::)?(\S+)\n.*\n((?:\d+ .*\n)+)", dump, re.MULTILINE):
        slots = [row.split()[-1].rpartition("::")[2] for row in rows.splitlines()]  # the first two are no functions
        found[f"vtable {name}"] = [f"{i} {slot}" for i, slot in enumerate(slots[2:])]
    return found


def numbers(include: list[str]) -> Facts:
    """Sizes and offsets of the structs, and values of the enumerators, as a program prints them."""
    lines = ["#include <cstddef>", "#include <cstdio>", "#include <NvInferRuntime.h>", "int main() {"]

    def say(title: str, what: str, value: str) -> None:
        lines.append(f'std::printf("{title}\\t%d {what}\\n", static_cast<int>({value}));')

    for struct, members in MEMBERS.items():
        for member in members.split():
            say(f"struct {struct}", member, f"offsetof(nvinfer1::{struct}, {member})")
        say(f"struct {struct}", "in all", f"sizeof(nvinfer1::{struct})")
    for enum, enumerators in ENUMERATORS.items():
        for enumerator in enumerators.split():
            say(f"enum {enum}", enumerator, f"nvinfer1::{enum}::{enumerator}")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        compile_with_gcc("-x", "c++", "-", "-o", str(program), *include, source="\n".join([*lines, "}"]))
        printed = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True).stdout
    found: Facts = {}
    for line in printed.splitlines():
        title, row = line.split("\t")
        found.setdefault(title, []).append(row)
    return found


def facts(folder: Path) -> Facts:
    """What the headers in `folder` say; an interface that they lack is left out."""
    cuda = cuda_headers()
    assert cuda is not None
    include = ["-isystem", str(cuda), "-I", str(folder)]
    tables = vtables(compile_with_gcc("-E", "-x", "c++", "-", *include, source="#include <NvInferRuntime.h>\n"))
    wanted = [f"vtable {name}" for name in INTERFACES]
    return {**{title: tables[title] for title in wanted if title in tables}, **numbers(include)}


def read(text: str, major: int) -> Facts:
    """The list's part for one major version."""
    found: Facts = {}
    rows: list[str] = []
    here = False
    for line in text.splitlines():
        if line.startswith("TensorRT "):
            here = str(major) in re.findall(r"\d+", line)
        elif line.startswith("  ") and here:
            rows.append(line.strip())
        elif line and not line.startswith("#") and here:
            rows = found[line] = []
    return found


def write(versions: dict[int, Facts]) -> str:
    """The list of all majors: first what they share."""
    first = next(iter(versions.values()))
    shared = [title for title, rows in first.items() if all(found.get(title) == rows for found in versions.values())]
    parts = {" and ".join(map(str, versions)): {title: first[title] for title in shared}}
    for major, found in versions.items():
        parts[str(major)] = {title: rows for title, rows in found.items() if title not in shared}
    text = HEAD
    for name, found in parts.items():
        text += f"\nTensorRT {name}\n"
        for title, rows in found.items():
            text += "\n".join([title, *(f"  {row}" for row in rows)]) + "\n"
    return text


def differences(expected: Facts, found: Facts) -> list[str]:
    """In words: the interface, its slot, what is expected there and what is found."""
    words = []
    for title in {**expected, **found}:
        wanted, got = expected.get(title, []), found.get(title, [])
        for i in range(max(len(wanted), len(got))):
            a, b = (rows[i] if i < len(rows) else "nothing" for rows in (wanted, got))
            if a != b:
                words.append(f"{title}: expected {a}, found {b}")
    return words


@pytest.mark.parametrize("folder", folders() or [None], ids=lambda at: version_of(at) if at else "none")
def test_the_headers_are_as_the_list_has_them(folder: Path | None) -> None:
    if folder is None:
        pytest.skip("TENSORRT_INCLUDE_DIR names no folder of NvInferRuntime.h")
    if shutil.which("g++") is None:
        pytest.skip("there is no g++, whose dump of the classes is compared")
    if cuda_headers() is None:
        pytest.skip("TensorRT's headers include cuda_runtime_api.h; CUDA_INCLUDE_DIR is to name its folder")
    version = version_of(folder)
    wrong = differences(read(GOLDEN.read_text(), int(version.split(".")[0])), facts(folder))
    assert not wrong, "\n  ".join([f"TensorRT {version}, {folder}:", *wrong])


def test_the_dump_names_pure_functions_and_counts_as_the_abi_does() -> None:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    source = """namespace nvinfer1 {
    struct IBase { virtual int first() const noexcept = 0; virtual ~IBase() = default; };
    inline namespace v_1_0 {
    struct IMore : IBase { int first() const noexcept override; virtual void second(int = 0) = 0; };
    }
    }"""
    base = ["0 first", "1 ~IBase", "2 ~IBase"]
    assert vtables(source) == {"vtable IBase": base, "vtable IMore": ["0 first", "1 ~IMore", "2 ~IMore", "3 second"]}
    pair = ("int first() const noexcept = 0;", "~IBase() = default;")
    swapped = vtables(source.replace(" virtual ".join(pair), " virtual ".join(pair[::-1])))
    assert differences({"vtable IBase": base}, {"vtable IBase": swapped["vtable IBase"]}) == [
        "vtable IBase: expected 0 first, found 0 ~IBase",
        "vtable IBase: expected 2 ~IBase, found 2 first",
    ]


def test_the_list_knows_what_the_sources_rely_on() -> None:
    tens, elevens = (read(GOLDEN.read_text(), major) for major in (10, 11))
    for found in (tens, elevens):
        assert {f"vtable {name}" for name in INTERFACES} | {f"struct {name}" for name in MEMBERS} <= set(found)
        assert {f"enum {name}" for name in ENUMERATORS} <= set(found)
    differ = {title for title in tens if tens[title] != elevens[title]}
    assert differ == {"vtable ILogger", "vtable ILoggerFinder", "vtable IPluginRegistry"}
    logger = (PLUGINS / "tensorrt/logger.cpp").read_text()
    for found, name in ((tens, "tensorrt_10"), (elevens, "tensorrt_11")):
        slot = re.search(rf"\b{name} = (\d+)", logger)
        assert slot, name
        assert f"{slot[1]} log" in found["vtable ILogger"]
        assert f"{slot[1]} findLogger" in found["vtable ILoggerFinder"]


def test_a_difference_of_each_kind_is_said() -> None:
    text = GOLDEN.read_text()
    expected = read(text, 11)
    assert read(write({10: read(text, 10), 11: expected}), 11) == expected
    build = expected["vtable IPluginV3OneBuild"]
    assert differences(
        expected, {**expected, "vtable IPluginV3OneBuild": [*build, f"{len(build)} getAliasedInput"]}
    ) == ["vtable IPluginV3OneBuild: expected nothing, found 15 getAliasedInput"]
    assert "struct Dims64: expected 72 in all, found nothing" in differences(
        expected, {**expected, "struct Dims64": []}
    )


if __name__ == "__main__":
    lowest: dict[int, Facts] = {}
    for each in sorted(folders(), key=lambda at: [int(part) for part in version_of(at).split(".")]):
        lowest.setdefault(int(version_of(each).split(".")[0]), facts(each))
    if sorted(lowest) != [10, 11]:
        sys.exit("TENSORRT_INCLUDE_DIR is to name headers of TensorRT 10 and of TensorRT 11, separated by ':'")
    GOLDEN.write_text(write(lowest))
