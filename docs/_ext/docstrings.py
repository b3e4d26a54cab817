"""The docstrings of this package as reStructuredText.

They are written to be read in an editor: `name` is code, `argument : text` begins an argument, an indented paragraph
is shown as it is. All else is text, with no other markup in it.
"""

import re

from sphinx.application import Sphinx

NAMES = r"`?\w+`?(?:, `?\w+`?)*"
ARGUMENT = re.compile(rf"^(?P<names>{NAMES}) *: (?P<text>.*)")
NEXT = re.compile(rf"(?<=\S)  (?={NAMES} : )")
"""Two arguments in one line."""
BEGINS = re.compile(r"^(?:Raises|Returns) ")


def reshaped(lines: list[str]) -> list[str]:
    """The lines of one docstring, by paragraphs: code as it is, arguments as a list."""
    made: list[str] = []
    in_code = False
    for line in (part for whole in lines for part in NEXT.split(whole)):
        if not line.strip():
            in_code = False
            made.append("")
        elif in_code or (line.startswith("    ") and (not made or not made[-1])):
            if not in_code:
                made += ["::", ""]
            in_code = True
            made.append(f"    {line}")
        elif match := ARGUMENT.match(line.strip()):
            names = match["names"].replace("`", "")
            made += ["", f"* ``{names}`` : {_text(match['text'])}"]
        elif BEGINS.match(line):
            made += ["", _text(line)]
        else:
            indent = "  " if _in_item(made) else ""
            made.append(indent + _text(line.strip()))
    return made


def _in_item(made: list[str]) -> bool:
    return bool(made) and made[-1].startswith(("* ", "  "))


def _text(line: str) -> str:
    """Backticks as code; what reStructuredText would take for markup, escaped."""
    parts = line.split("`")
    if len(parts) % 2 == 0:  # a code that goes on in the next line
        return re.sub(r"([`*|_\\])", r"\\\1", line)
    return "".join(
        f"``{part.strip()}``" if at % 2 else re.sub(r"([*|_\\])", r"\\\1", part) for at, part in enumerate(parts)
    )


def _process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    del app, what, name, obj, options
    lines[:] = reshaped(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
