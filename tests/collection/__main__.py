"""python -m collection FOLDER [--all]: write the files and index.json, and count them."""

import argparse
import resource
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

from collection.making import make_all


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m collection", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="the whole cross product")
    parser.add_argument("--only", default="*", help="names of files: 'published-*'")
    options = parser.parse_args()
    start = time.time()
    index = make_all(options.folder, options.all, lambda name: fnmatchcase(name, options.only))
    for label, count in Counter(entry["label"] for entry in index.values()).most_common():
        print(f"{count:5} {label}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{len(index):5} in {time.time() - start:.0f} s; {used.ru_utime + used.ru_stime:.0f} s of CPU")
    for entry in index.values():
        if entry["label"] in ("failed", "frozen"):
            print(entry["label"], entry["name"], entry.get("reason", ""))


if __name__ == "__main__":
    main()
