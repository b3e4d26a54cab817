"""Atomic output: files are written beside their target, then renamed, as a whole or not at all.

    with staging("out/model.onnx") as path:      # out/.simam-deploy-x1y2z3/model.onnx
        save(model, path)                        # and model.onnx.<hash>.data, model.onnx.json, ... next to it

A killed process leaves at most a folder `.simam-deploy-*`, which may be deleted. Existing files stay intact.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simam_deploy.artifacts import manifest
from simam_deploy.errors import OutputError

_STAGING = ".simam-deploy-"
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "it is too large"}


@contextmanager
def staging(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write instead of `target`: in a new folder beside it, with the same file name.

    At the end of the block, every file in that folder is flushed to disk and renamed into the folder of `target`,
    `target` itself last, so that a new target never refers to missing side files. Weight files have unique names, so
    an old target keeps its own until then. Two writers of one target take turns. After any exception, including
    Ctrl-C, the folder is removed and existing files are unchanged. Follows a symbolic link, as `cp` does: writes the
    file that it leads to, and the others beside that file.
    Raises OutputError: no such folder, no permission, `target` is a folder or a device, `<target>.json` exists and is
    no manifest of ours, the disk is full, the block wrote nothing.
    """
    given = Path(target)
    _refuse_no_name(given)
    with _as_output_error(given, given.parent.absolute()):
        _refuse_special(given)
        final = _led_to(given)
    place = final.parent.absolute()
    with _as_output_error(final, place):
        _refuse_foreign(final)
        folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=place))
    staged = folder / final.name
    try:
        with _as_output_error(final, folder):
            yield staged
        if not staged.is_file():
            raise OutputError(f"cannot write {final}: nothing was written for it")
        with _as_output_error(final, place), _alone(place):
            _refuse_foreign(final)
            _publish(staged, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_overwriting_inputs(target: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise OutputError if `target` or one of its side files is the same file as one of `inputs`.

    Follows links. Pass the weight files of a model along with it. Protects the manifest beside an input too.
    """
    _refuse_no_name(Path(target))
    final = _led_to(Path(target))
    ours = [final, final.with_name(final.name + manifest.SUFFIX)]
    given_files = [Path(given) for given in inputs]
    manifests = [given.with_name(given.name + manifest.SUFFIX) for given in given_files if given.name]
    for given in (*given_files, *filter(_is_file, manifests)):
        for path in ours:
            if _same_file(path, given):
                side = "" if path == final else f" (written next to {final.name})"
                raise OutputError(
                    f"cannot write {path}{side}: it is the same file as the input {given}, "
                    "and inputs are never modified; choose another output name"
                )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:  # one of them does not exist
        return a.resolve() == b.resolve()


def _led_to(path: Path) -> Path:
    """Target of a symbolic link, existing or not; other paths unchanged."""
    try:
        if not path.is_symlink():
            return path
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        led = path.resolve()
    except (OSError, RuntimeError):  # the second before Python 3.13
        led = path
    if led.is_symlink():
        raise OutputError(f"cannot write {path}: it is a symbolic link that leads in a circle; take it away")
    return led


def _refuse_no_name(path: Path) -> None:
    """Raise OutputError for a path that names no file, on any system: it ends in no name, or holds a zero byte."""
    if not path.name or "\0" in str(path):
        raise OutputError(f"cannot write {str(path)!r}: it names no file; give the name of a file in a folder")


def _refuse_foreign(final: Path) -> None:
    """Raise OutputError if the manifest of `final` would replace a foreign file."""
    beside = final.with_name(final.name + manifest.SUFFIX)
    _refuse_special(beside)
    if beside.is_symlink() or (beside.exists() and manifest.read(final) is None):
        what = "a symbolic link" if beside.is_symlink() else "there, and no manifest of ours"
        raise OutputError(
            f"cannot write {beside} (written next to {final.name}): it is {what}; "
            "move it away, or choose another output name"
        )


def _refuse_special(path: Path) -> None:
    """Raise OutputError if renaming a file to `path` would fail, or destroy something that is not a file."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing there, or no permission to look: making the folder says that better
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {path}: it is a device or a pipe; give the name of a file")


def _publish(staged: Path, place: Path) -> None:
    files = [*sorted(path for path in staged.parent.iterdir() if path != staged), staged]
    for source in files:
        _refuse_special(place / source.name)
        if (place / source.name).is_symlink():
            raise OutputError(f"cannot write {place / source.name}: it is a symbolic link now; take it away")
        if (place / source.name).exists():
            shutil.copymode(place / source.name, source)
        with source.open("rb+") as stream:
            os.fsync(stream.fileno())
    with _undisturbed():
        for source in files:
            if source is staged:
                _flush(place)
            source.replace(place / source.name)
        _flush(place)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put signals off until the block ends: an exception between two renames leaves a pair that does not match."""
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # Python raises in no other
        for number in (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")):
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep other writers of this package out of `place`, so that the files of two for one target do not mix."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(place, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _flush(folder: Path) -> None:
    """Flush the renames in a folder to disk. Windows has no handle for a folder."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _staged_elsewhere(path: Path | None, folder: Path) -> bool:
    """Whether `path` is staged for another target than that of `folder`, whose error names it."""
    return path is not None and path.parent.name.startswith(_STAGING) and path.parent != folder


@contextmanager
def _as_output_error(final: Path, folder: Path) -> Iterator[None]:
    """Convert an OSError about a path in `folder`, or about a full disk, to OutputError. Others pass."""
    try:
        yield
    except OSError as error:
        about = Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, str | bytes) else None
        if error.errno in _FULL and not _staged_elsewhere(about, folder):
            why = f"{_FULL[error.errno]}; make room, or choose another place"
        elif about is None or (about != folder and folder not in about.parents):
            raise
        elif isinstance(error, FileNotFoundError) and not final.parent.exists():
            why = f"the folder does not exist; create it with mkdir -p {final.parent}"
        elif isinstance(error, NotADirectoryError):
            why = f"{final.parent} is not a folder"
        elif isinstance(error, PermissionError):
            why = f"no permission to write in {final.parent}"
        else:
            why = f"{error.strerror} ({about})"
        raise OutputError(f"cannot write {final}: {why}") from error
