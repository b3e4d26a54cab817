"""`python -m benchmarks.gpu`: command.py, where there is what it needs."""

from __future__ import annotations

import sys

try:
    import numpy  # noqa: F401
    import torch  # noqa: F401
except (ImportError, OSError) as error:  # not there, or a library of theirs is not
    print(
        f"error: the checks of the CUDA kernels need NumPy and PyTorch, and {sys.executable} cannot import them: "
        f"{error}; take a Python that has both: `make gpu PYTHON=...`",
        file=sys.stderr,
    )
    sys.exit(2)

from benchmarks.gpu.command import main

if __name__ == "__main__":
    sys.exit(main())
