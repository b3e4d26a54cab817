"""The table simam_deploy/engines/api.json of the true bindings: python -m trt_api.table writes it anew.

It installs one version of each minor version, 20 MB in all; TensorRT-RTX is that of .venv.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import simam_deploy
from trt_api import VERSIONS, folder, install

BETWEEN = (
    "10.1.0",
    "10.2.0",
    "10.4.0",
    "10.5.0",
    "10.6.0",
    "10.7.0",
    "10.8.0.43",
    "10.10.0.31",
    "10.11.0.33",
    "10.12.0.36",
    "10.14.1.48.post1",
    "10.15.1.29",
    "10.16.0.72",
    "11.2.1.2",
    "11.3.0.99",
)
"""With VERSIONS one of each minor version. Only the table needs them."""
TABLE = Path(simam_deploy.__file__).parent / "engines" / "api.json"
CLASSES = (
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "OnnxParser",
    "IOptimizationProfile",
    "ITimingCache",
    "IProgressMonitor",
    "IPluginRegistry",
    "Runtime",
    "IRuntimeConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ISerializationConfig",
    "EngineInspector",
)
ENUMS = (
    "BuilderFlag",
    "NetworkDefinitionCreationFlag",
    "OnnxParserFlag",
    "ProfilingVerbosity",
    "HardwareCompatibilityLevel",
    "MemoryPoolType",
    "PreviewFeature",
    "TacticSource",
    "TilingOptimizationLevel",
    "RuntimePlatform",
    "ComputeCapability",
    "EngineCapability",
    "EngineValidity",
    "EngineInvalidityDiagnostics",
    "EngineStat",
    "SerializationFlag",
    "LayerInformationFormat",
    "DataType",
    "TensorIOMode",
    "TensorLocation",
    "CudaGraphStrategy",
)


def kept(names: Mapping[str, Iterable[str] | None]) -> set[str]:
    """Of all names of the bindings those that a builder can use. It parses a network, and adds no layer itself."""
    members = {f"{name}.{member}" for name in (*CLASSES, *ENUMS) for member in names.get(name) or ()}
    types = {name for name in (*CLASSES, *ENUMS) if name in names}
    return types | {name for name in members if not name.startswith("INetworkDefinition.add_")}


def of_tensorrt(version: str) -> dict[str, Any]:
    """Version and names of the bindings that are installed as `version`."""
    found: dict[str, Any] = json.loads((folder(version) / "names.json").read_text())
    return found


def of_rtx() -> dict[str, Any]:
    """Version and names of the TensorRT-RTX that is installed."""
    command = [sys.executable, str(Path(__file__).with_name("names.py")), "tensorrt_rtx_bindings"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def minor(version: str) -> str:
    """10.9 of 10.9.0.34."""
    return ".".join(version.split(".")[:2])


def order(version: str) -> list[int]:
    """Key to sort versions by."""
    return [int(part) for part in version.split(".")[:2]]


def span(having: list[bool], versions: list[str]) -> list[str]:
    """The first and the last of the versions that have it; the first alone where the newest has it too."""
    first, last = having.index(True), len(having) - 1 - having[::-1].index(True)
    assert all(having[first : last + 1]), "a name that went and came back is no span"
    return [minor(versions[first])] + ([minor(versions[last])] if last + 1 < len(versions) else [])


def made() -> str:
    """The text of the table, a line for each name."""
    every = sorted((*VERSIONS, *BETWEEN), key=order)
    found = {"tensorrt": [of_tensorrt(version) for version in every], "tensorrt_rtx": [of_rtx()]}
    versions = {flavor: [each["version"] for each in all_] for flavor, all_ in found.items()}
    names = {flavor: [kept(each["names"]) for each in all_] for flavor, all_ in found.items()}
    lines = []
    for name in sorted(set().union(*names["tensorrt"], *names["tensorrt_rtx"])):
        having = {flavor: [name in each for each in all_] for flavor, all_ in names.items()}
        spans = {flavor: span(which, versions[flavor]) for flavor, which in having.items() if any(which)}
        everywhere = all(map(all, having.values()))
        lines.append(f"  {json.dumps(name)}: {json.dumps('all' if everywhere else spans)}")
    inner = ",\n".join(lines)
    head = ",\n".join(f"  {json.dumps(flavor)}: {json.dumps(each)}" for flavor, each in versions.items())
    return f'{{\n "versions": {{\n{head}\n }},\n "names": {{\n{inner}\n }}\n}}\n'


def main() -> None:
    """Write the table."""
    for version in (*VERSIONS, *BETWEEN):
        install.install(version)
    TABLE.write_text(made())
    print(TABLE)


if __name__ == "__main__":
    main()
