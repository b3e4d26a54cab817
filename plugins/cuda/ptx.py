"""Properties of the kernels' PTX, which a GPU newer than the toolkit compiles itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sass import Kernel, kernel_of


@dataclass
class Written:
    """A kernel in PTX."""

    kernel: Kernel
    version: str  # of PTX
    target: int
    threads: int  # the most of a block; 0 if it is not said
    local: int  # variables in local memory
    calls: int
    non_coherent: int  # ld.global.nc, which is wrong where y is x
    cluster: int  # instructions of clusters


def read_ptx(text: str) -> Iterator[Written]:
    """The kernels of one PTX file, or of several behind one another."""
    version, target = "", 0
    head = re.compile(r"^\.version (\S+)|^\.target sm_(\d+)|^(?:\.visible )?\.entry (\w+)\(", re.MULTILINE)
    for found in head.finditer(text):
        version = found[1] or version
        target = int(found[2] or target)
        if found[3] is None:
            continue
        body = text[found.start() : text.index("\n}", found.end())]
        threads = re.search(r"^\s*\.(?:max|req)ntid (\d+)", body, re.MULTILINE)
        yield Written(
            kernel=kernel_of(found[3]),
            version=version,
            target=target,
            threads=int(threads[1]) if threads else 0,
            local=len(re.findall(r"^\s*\.local\b", body, re.MULTILINE)),
            calls=len(re.findall(r"\bcall(?:\.uni)?\b", body)),
            non_coherent=len(re.findall(r"\bld\.global\S*\.nc\b|\bld\.global\.nc\b", body)),
            cluster=len(re.findall(r"\bbarrier\.cluster|\bmapa\b|shared::cluster", body)),
        )
