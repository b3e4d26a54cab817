"""Names and paths inside other programs' files. Nothing that is quoted here can begin a line of its own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

from simam_deploy.errors import InputError
from simam_deploy.text import on_one_line

Word = str | os.PathLike[str]


def printable(what: str, text: Word) -> str:
    """`text`, if it is one line of printable characters. Raises InputError otherwise.

    what : its name in the message.
    """
    found = os.fspath(text)
    if not found or not found.isprintable():
        raise InputError(
            f"{what} is '{on_one_line(found)}', which is empty or has characters that no recipe can hold, such as "
            "line ends\nrename it"
        )
    return found


def library(path: Word) -> str:
    """A library that dlopen is to find in the current folder, unless its path names another one."""
    found = printable("the library", path)
    return found if "/" in found else f"./{found}"


def without(what: str, text: str, characters: str, reader: str) -> str:
    """`text`, if it has none of `characters`, at which `reader` would split it. Raises InputError otherwise."""
    for character in characters:
        if character in text:
            raise InputError(f"{what} is {text!r}, and {reader} splits it at {character!r}\nrename it")
    return text


def command(program: str, options: Iterable[str]) -> str:
    """A command for a shell, with one option on each line."""
    return " \\\n  ".join(shlex.quote(word) for word in (program, *options))


def on_one_command_line(program: str, options: Iterable[str]) -> str:
    """The same in one line."""
    return shlex.join([program, *options])


def protobuf(text: str) -> str:
    """A string of protobuf's text format."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def key_file(text: str) -> str:
    """A value of GLib's key files, which DeepStream reads."""
    escaped = text.replace("\\", "\\\\")
    kept = escaped.lstrip(" ")
    return "\\s" * (len(escaped) - len(kept)) + kept
