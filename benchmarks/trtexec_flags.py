"""Make the table of the flags that trtexec knows, version by version, from its source.

    git clone --bare https://github.com/NVIDIA/TensorRT trt.git
    python -m benchmarks.trtexec_flags trt.git

Writes simam_deploy/package/trtexec_flags.json: flag -> versions. Each version is its last tag, as v10.13.3 for 10.13.
A flag counts as known where the source has its name as a whole string: there trtexec looks for it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from simam_deploy.package.versions import TABLE

SOURCE = "samples/common/sampleOptions.cpp"
TAG = re.compile(r"v(1[01]\.\d+)(?:\.(\d+))?")


def main(arguments: Sequence[str] | None = None) -> int:
    """See above."""
    repository, *rest = sys.argv[1:] if arguments is None else arguments
    assert not rest
    tags = last_tags(_git(repository, "tag").split())
    table: dict[str, list[str]] = {}
    for version, tag in tags.items():
        for flag in flags_in(_git(repository, "show", f"{tag}:{SOURCE}")):
            table.setdefault(flag, []).append(version)
    TABLE.write_text(as_text(tags, table))
    print(f"{TABLE}: {len(table)} flags in {len(tags)} versions")
    return 0


def last_tags(tags: Sequence[str]) -> dict[str, str]:
    """Version -> its last tag, oldest version first."""
    found: dict[tuple[int, ...], list[tuple[int, str]]] = {}
    for tag in tags:
        if match := TAG.fullmatch(tag):
            number = tuple(map(int, match[1].split(".")))
            found.setdefault(number, []).append((int(match[2] or 0), tag))
    return {".".join(map(str, number)): max(found[number])[1] for number in sorted(found)}


def flags_in(source: str) -> list[str]:
    """Flags in C++ source."""
    return sorted(set(re.findall(r'"(--[A-Za-z0-9]+)"', source)))


def as_text(tags: dict[str, str], table: dict[str, list[str]]) -> str:
    """JSON with a line for each flag."""
    lines = ",\n".join(f"  {json.dumps(flag)}: {json.dumps(known)}" for flag, known in sorted(table.items()))
    about = json.dumps("made by python -m benchmarks.trtexec_flags")
    return f'{{"about": {about},\n "tags": {json.dumps(list(tags.values()))},\n "flags": {{\n{lines}\n }}}}\n'


def _git(repository: str, *command: str) -> str:
    done = subprocess.run(["git", "-C", repository, *command], capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
