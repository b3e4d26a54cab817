"""Debian packages unpacked into a folder, with nothing installed: headers and tools that PyPI has not.

    python plugins/fetch.py --suite trixie --into build/headers libonnxruntime-dev

apt-get fetches them from the mirror that this machine uses already, and checks their signatures, but with lists and
caches of its own and one suite. Does nothing if the folder is there; it is made in one step, whole or not at all.
Exit status 1, with the reason on stderr, if they cannot be had.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")


class Unavailable(Exception):
    """Why the packages cannot be had."""


def main() -> None:
    """Parse, fetch, and say what went wrong in one line."""
    parser = argparse.ArgumentParser(description="Unpack Debian packages into a folder; nothing is installed.")
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--suite", required=True, help="the Debian release to take them from, as trixie")
    parser.add_argument("--component", default="main", help="the part of the archive, as non-free")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--architecture", help="Debian's name of another than this machine's, as arm64")
    asked = parser.parse_args()
    try:
        fetch(asked.packages, asked.suite, asked.into, asked.architecture, asked.component)
    except Unavailable as why:
        sys.exit(f"{', '.join(asked.packages)} cannot be fetched: {why}")


def fetch(
    packages: list[str], suite: str, into: Path, architecture: str | None = None, component: str = "main"
) -> None:
    """Unpack `packages` of `suite` below `into`, unless that is there. Raises Unavailable."""
    if into.exists():
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Unavailable("this machine has no apt-get")
    name, source = mirror(suite, component)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".fetch-") as folder:
        here = Path(folder).resolve()
        (here / name).write_text(source)
        for part in ("lists/partial", "cache/archives/partial", "root"):
            (here / part).mkdir(parents=True)
        options = {
            "Dir::Etc::sourcelist": here / name,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": here / "lists",
            "Dir::Cache": here / "cache",
            "APT::Sandbox::User": "root",  # else root's download is done by a user who may not write here
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        if architecture:
            options |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
        apt = ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
        _run([*apt, "update"], here)
        _run([*apt, "download", *packages], here)
        for package in here.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(here / "root")], here)
        (here / "root").rename(into)


def mirror(suite: str, component: str = "main") -> tuple[str, str]:
    """This machine's Debian archive, with another suite: a file name and what belongs into it. Raises Unavailable."""
    system = dict(
        re.findall(r'^(\w+)="?([^"\n]*)', OS_RELEASE.read_text(), re.MULTILINE) if OS_RELEASE.exists() else []
    )
    if system.get("ID") != "debian":
        raise Unavailable(
            f"this is {system.get('ID', 'not a known Linux')}, and they are taken from Debian's archive"
        )
    codename = system.get("VERSION_CODENAME", "")
    for stanza in _stanzas():
        if codename in stanza["suites"].split() and "main" in stanza["components"].split():
            changed = {**stanza, "suites": suite, "components": component}
            return "debian.sources", "".join(f"{key}: {value}\n" for key, value in changed.items())
    for options, uri, listed, components in _lines():
        if listed == codename and "main" in components.split():
            return "debian.list", f"deb {options} {uri} {suite} {component}\n"
    raise Unavailable(f"no source of {codename or 'this release'} was found below {APT}")


def _stanzas() -> Iterator[dict[str, str]]:
    """The stanzas of *.sources that are in use."""
    for file in sorted((APT / "sources.list.d").glob("*.sources")):
        text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)
        for paragraph in re.split(r"\n\s*\n", text):
            found = re.findall(r"^([\w-]+):[ \t]*((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
            stanza = {"types": "", "suites": "", "components": "", "enabled": "yes"}
            stanza |= {key.lower(): value for key, value in found}
            if "deb" in stanza["types"].split() and stanza["enabled"] == "yes":
                yield stanza


def _lines() -> Iterator[tuple[str, str, str, str]]:
    """The lines of *.list: options, address, suite, components."""
    for file in [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*.list"))]:
        if file.exists():
            line = re.compile(r"^deb[ \t]+(\[.*?\])?[ \t]*(\S+)[ \t]+(\S+)[ \t]+(.*)$", re.MULTILINE)
            yield from line.findall(file.read_text())


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise Unavailable(f"{' '.join(command[:1])} {command[-1]}: {lines[0]}")


if __name__ == "__main__":
    main()
