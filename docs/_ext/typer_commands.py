"""The directive `typer-commands`: the commands of a Typer application with their options, from the code."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

EXAMPLE = re.compile(r"Example: (.*)")


def page(app: typer.Typer) -> str:
    """Markdown: a section for each command, with a table of its arguments and options."""
    group: Any = typer.main.get_command(app)
    shown = (command for command in group.commands.values() if not command.hidden)
    return "\n".join(line for command in shown for line in _command(group.name, command))


def _command(program: str, command: Any) -> Iterator[str]:
    params = [param for param in command.params if not getattr(param, "hidden", False)]
    arguments = " ".join(f"{p.name.upper()}{'...' if p.nargs == -1 else ''}" for p in params if not _is_option(p))
    yield f"## {command.name}\n"
    for text in (command.help, command.epilog):
        yield EXAMPLE.sub(r"Example: `\1`", text or "") + "\n"
    yield f"`{program} {command.name} {arguments}`\n" if arguments else f"`{program} {command.name}`\n"
    if params:
        yield "| | | |\n|---|---|---|"
        yield from (f"| {_names(p)} | {_cell(p.help or '')} | {_default(p)} |" for p in params)
    yield ""


def _is_option(param: Any) -> bool:
    return param.param_type_name == "option"


def _names(param: Any) -> str:
    if not _is_option(param):
        return f"`{param.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if param.default in (None, "", False, ()):
        return ""
    return f"default: `{'yes' if param.default is True else param.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


class TyperCommands(SphinxDirective):
    """Its argument is `module:app`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of `page`."""
        module, _, name = self.arguments[0].partition(":")
        return self.parse_text_to_nodes(page(getattr(import_module(module), name)), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("typer-commands", TyperCommands)
    return {"parallel_read_safe": True}
