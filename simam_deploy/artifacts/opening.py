"""Open untrusted paths for reading: regular files only, optionally restricted to a folder.

Opening a pipe blocks, and opening a device may have any effect, so neither is opened. The open descriptor is tested
too, as another file may take the name between test and use.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from simam_deploy.errors import InputError

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class SpecialFileError(OSError):
    """Neither a regular file nor a folder; or a symbolic link below a folder."""


def opened(path: str | os.PathLike[str], kind: type[InputError] = InputError, what: str = "file") -> BinaryIO:
    """Open a file for reading. Follows symbolic links.

    Raises `kind`: no such file, a folder (`what` names the expected file), a device or a pipe, no permission.
    """
    source = Path(path)
    try:
        _refuse_special(source.stat())
        return _regular(os.open(source, _FLAGS))
    except FileNotFoundError:
        raise kind(f"there is no file {source}") from None
    except IsADirectoryError:
        raise kind(f"{source} is a folder; give the {what} in it") from None
    except SpecialFileError:
        raise kind(f"{source} is a device or a pipe; give the name of a file") from None
    except ValueError as error:  # a zero byte in the name
        raise kind(f"{source} names no file: {error}") from error
    except OSError as error:
        raise kind(f"cannot read {source}: {error.strerror}") from error


def sha256(stream: BinaryIO) -> str:
    """SHA-256 of the rest of `stream`, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def opened_below(folder: Path, parts: Sequence[str]) -> BinaryIO:
    """Open the file at `parts` below `folder`. No part may be a symbolic link, except `folder` itself.

    Raises OSError: SpecialFileError for a link, a device or a pipe, IsADirectoryError, FileNotFoundError, others.
    """
    if os.open not in os.supports_dir_fd:  # Windows
        path = folder.joinpath(*parts)
        if path.resolve() != folder.resolve().joinpath(*parts):
            raise SpecialFileError(errno.ELOOP, "is a link, or behind one", str(path))
        _refuse_special(path.stat())
        return _regular(os.open(path, _FLAGS))
    at = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            _refuse_special(os.stat(part, dir_fd=at, follow_symlinks=False), folder_too=True)
            inner = os.open(part, _FOLDER | _NO_LINK, dir_fd=at)
            os.close(at)
            at = inner
        _refuse_special(os.stat(parts[-1], dir_fd=at, follow_symlinks=False))
        return _regular(os.open(parts[-1], _FLAGS | _NO_LINK, dir_fd=at))
    finally:
        os.close(at)


def _regular(descriptor: int) -> BinaryIO:
    try:
        _refuse_special(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_special(held: os.stat_result, *, folder_too: bool = False) -> None:
    if stat.S_ISDIR(held.st_mode):
        if not folder_too:
            raise IsADirectoryError(errno.EISDIR, "is a folder")
    elif stat.S_ISLNK(held.st_mode):
        raise SpecialFileError(errno.ELOOP, "is a symbolic link")
    elif not stat.S_ISREG(held.st_mode):
        raise SpecialFileError(errno.EINVAL, "is a device or a pipe")
