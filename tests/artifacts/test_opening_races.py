"""Between the look at a name and its opening another file takes the name: what was opened decides."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simam_deploy.artifacts import opening

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links as POSIX has them")
SWAPS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "the file for a link": ("sub/w.bin", lambda at, secret: at.symlink_to(secret / "w.bin")),
    "the file for a pipe": ("sub/w.bin", lambda at, secret: os.mkfifo(at)),
    "its folder for a link": ("sub", lambda at, secret: at.symlink_to(secret)),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_what_takes_the_name_is_not_read(swap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, secret = tmp_path / "model", tmp_path / "secret"
    for place in (folder / "sub", secret):
        place.mkdir(parents=True)
        (place / "w.bin").write_text(place.name)
    name, put = SWAPS[swap]
    victim, look = folder / name, opening._refuse_special
    looks = 1 + name.count("/")  # at the folder, then at the file

    def looked(held: os.stat_result, *, folder_too: bool = False) -> None:
        nonlocal looks
        look(held, folder_too=folder_too)
        looks -= 1
        if looks == 0:
            victim.rename(tmp_path / "before")
            put(victim, secret)

    monkeypatch.setattr(opening, "_refuse_special", looked)
    with pytest.raises(OSError, match=r"symbolic link|device or a pipe|Not a directory"):
        opening.opened_below(folder, ("sub", "w.bin"))
    assert looks <= 0
