"""See the package."""

import sys

from benchmarks.picture import others, write

if "--check" in sys.argv:
    found = others()
    print(*(f"{path}: python -m benchmarks.picture makes another one" for path in found), sep="\n")
    raise SystemExit(bool(found))
write()
