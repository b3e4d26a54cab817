"""Run torch.compile for every row in other processes, while the kernels are built and checked.

The processes fill the cache of torch.compile on disk. They are optional: failures are tried again on use, and they
end before the timing begins.

    python -m benchmarks.gpu.precompile 0 4 f16      rows 0, 4, 8 and so on of those with f16 in their name
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch

from benchmarks.gpu import baselines, speed
from benchmarks.gpu.api import Machine, chip_here
from benchmarks.gpu.build import INTO
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.rows import Filled, SpeedRow, all_rows

SAID = INTO / "precompile.txt"
"""Output of the processes, with their number behind the name."""


class Ahead:
    """So many processes, none on a small machine, for rows with `only` in their name. They end with the block."""

    def __init__(self, processes: int, only: str) -> None:
        command = [sys.executable, "-m", "benchmarks.gpu.precompile"]
        root = Path(__file__).parents[2]
        alone = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self._running = []
        for i in range(processes):
            said = SAID.with_name(f"{SAID.stem}-{i}{SAID.suffix}")
            said.parent.mkdir(parents=True, exist_ok=True)
            with said.open("w") as stream:
                each = [*command, str(i), str(processes), only]
                self._running.append(
                    subprocess.Popen(each, cwd=root, env=alone, stdout=stream, stderr=subprocess.STDOUT)
                )

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self, clock: Clock) -> None:
        """Until they have ended, or the clock has; then end them."""
        while (running := sum(each.poll() is None for each in self._running)) and clock.left() > 0:
            clock.still(f"torch.compile ahead of time: {running} of {len(self._running)} processes are at it")
            time.sleep(0.2)
        if failed := sum(each.poll() not in (None, 0) for each in self._running):
            clock.say(f"{failed} of {len(self._running)} processes failed, see {SAID.with_suffix('')}-*.txt")
        self.stop()

    def stop(self) -> None:
        """End them."""
        for each in self._running:
            each.terminate()
        for each in self._running:
            try:
                each.wait(10)
            except subprocess.TimeoutExpired:
                each.kill()


class NoKernels:
    """Nothing is launched here."""

    def accepts(self, params: object) -> bool:
        """Everything."""
        return True

    def workspace(self, params: object) -> int:
        """None."""
        return 0


def main(first: int, step: int, only: str) -> None:
    """Compile each row's rival as `speed` will."""
    machine = Machine(torch.device("cuda"), NoKernels(), None, None, chip_here())  # type: ignore[arg-type]
    compile_all(machine, [row for row in all_rows() if only in row.name][first::step])


def compile_all(machine: Machine, rows: Sequence[SpeedRow]) -> None:
    """Compile each row. Skips failures: `speed` will report them."""
    for row in rows:
        try:
            sets = [Filled(machine, row.filled(speed.Effort.of(row, machine).size), 0)]
            baselines.compiled(sets)
            machine.synchronize()
        except (baselines.Unavailable, RuntimeError) as error:
            print(f"{row.name}: {error}", file=sys.stderr)
        sets = []
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
