"""The names that each version of TensorRT's Python API has, as far as a builder of engines uses them.

    Api.of("tensorrt", "10.3.0").has("BuilderFlag.STRIP_PLAN")     True
    since("IBuilderConfig.max_num_tactics", "tensorrt")            "TensorRT 10.4 or later"

The table is api.json, which `python -m trt_api.table` in tests/ makes of NVIDIA's bindings. It has for each name, by
flavor, the first version that has it, and the last if a later one lacks it. "all" stands for every version of both.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from simam_deploy.errors import InputError

FlavorName = Literal["tensorrt", "tensorrt_rtx"]
TITLES: dict[FlavorName, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
Minor = tuple[int, int]
"""Major and minor version. The names do not change within a minor version."""


class Span(NamedTuple):
    """Versions from `first` to `last`, or to the newest in the table."""

    first: Minor
    last: Minor | None


@dataclass(frozen=True)
class Api:
    """The names of one version.

    version : as asked for.  known : the version of the table that answers for it, the nearest at or below.
    note : says so where the two differ; empty otherwise.
    """

    flavor: FlavorName
    version: str
    known: str
    note: str

    @classmethod
    def of(cls, flavor: FlavorName, version: str) -> Api:
        """The names of `version`, such as "10.3.0". Raises InputError for a version older than all in the table."""
        versions = _versions(flavor)
        asked = _minor(version)
        below = [known for known in versions if _minor(known) <= asked]
        title = TITLES[flavor]
        if not below:
            raise InputError(
                f"{title} {version} is too old; {title} {_words(_minor(versions[0]))} or later is needed"
            )
        note = ""
        if asked > _minor(versions[-1]):
            note = f"{title} {version} is newer than all that are known; it is taken for {title} {below[-1]}"
        elif asked != _minor(below[-1]):
            note = f"{title} {version} is not in the table; it is taken for {title} {below[-1]}"
        return cls(flavor, version, below[-1], note)

    def has(self, name: str) -> bool:
        """Whether this version has `name`, as "BuilderFlag.STRIP_PLAN" or "RuntimePlatform".

        Raises KeyError for a name that no version has.
        """
        span = _names()[name].get(self.flavor)
        known = _minor(self.known)
        return span is not None and span.first <= known and (span.last is None or known <= span.last)


def since(name: str, flavor: FlavorName) -> str:
    """The versions that have `name`, for an error message of `flavor`: "TensorRT 10 (gone in 11.0)"."""
    spans = _names()[name]
    if flavor in spans:
        return _span_words(flavor, spans[flavor])
    (other, span), *_ = spans.items()
    return (
        f"{TITLES[other]} alone" if other == "tensorrt_rtx" else f"{_span_words(other, span)}, not {TITLES[flavor]}"
    )


def _span_words(flavor: FlavorName, span: Span) -> str:
    title, versions = TITLES[flavor], [_minor(version) for version in _versions(flavor)]
    if span.last is None:
        return f"{title} {_words(span.first)} or later"
    gone = versions[versions.index(span.last) + 1]
    of_major = [version for version in versions if version[0] == span.first[0]]
    if (span.first, span.last) == (of_major[0], of_major[-1]):
        which = str(span.first[0])
    else:
        which = _words(span.first) + (f" to {_words(span.last)}" if span.first != span.last else "")
    return f"{title} {which} (gone in {_words(gone)})"


def _minor(version: str) -> Minor:
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        raise InputError(f"cannot read the version {version!r}; write it as 10.3 or 10.3.0")
    return int(found[1]), int(found[2])


def _words(version: Minor) -> str:
    return ".".join(map(str, version))


def _span(bounds: list[str]) -> Span:
    first, *last = map(_minor, bounds)
    return Span(first, last[0] if last else None)


@cache
def _versions(flavor: FlavorName) -> list[str]:
    """From the oldest to the newest."""
    versions: list[str] = _read()["versions"][flavor]
    return versions


@cache
def _names() -> dict[str, dict[FlavorName, Span]]:
    everywhere = {flavor: Span(_minor(_versions(flavor)[0]), None) for flavor in TITLES}
    return {
        name: everywhere if spans == "all" else {flavor: _span(bounds) for flavor, bounds in spans.items()}
        for name, spans in _read()["names"].items()
    }


@cache
def _read() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(Path(__file__).with_name("api.json").read_text(encoding="utf-8"))
    return table
