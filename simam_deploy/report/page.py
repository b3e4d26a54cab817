"""HTML of a page that stands alone. Every text is escaped: names come from files of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from simam_deploy.text import on_lines, on_one_line

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2733; background: #fff; margin: 2rem auto; max-width: 64rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #d5dbe3; }
h3 { font-size: 1rem; font-family: ui-monospace, monospace; margin: 1.6rem 0 .2rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e7ebf0; vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 4rem; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.good { color: #17692f; } .bad { color: #b3261e; font-weight: 600; }
.verdict { font-weight: 600; white-space: pre-line; }
figure { margin: .4rem 0 1rem; } figcaption, .caption { color: #4a5768; font-size: .86rem; }
img { max-width: 100%; height: auto; }
ul { padding-left: 1.2rem; } li { white-space: pre-line; overflow-wrap: anywhere; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses scripts, and whatever is not in the page."""
GOOD, BAD = ("pass", "safe as it is"), ("FAIL", "unsafe")
"""Cells that are coloured."""


def page(title: str, verdict: str, parts: Iterable[str]) -> str:
    """A whole page. parts : HTML from the functions below."""
    name = text(title)
    kind = "bad" if verdict.startswith("FAILED") else ""
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f'<h1>{name}</h1>\n<p class="verdict {kind}">{lines(verdict)}</p>',
            *parts,
            "</body>\n</html>\n",
        )
    )


def text(value: object) -> str:
    """Text on one line."""
    return escape(on_one_line(str(value)))


def lines(value: str) -> str:
    """Text of several lines."""
    return escape(on_lines(value))


def heading(value: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{text(value)}</h{level}>"


def caption(value: str) -> str:
    """A paragraph that says what is shown."""
    return f'<p class="caption">{text(value)}</p>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> str:
    """A table. right : columns of numbers."""
    marks = [" class=number" if name in right else "" for name in columns]
    head = "".join(f"<th{mark}>{text(name)}</th>" for mark, name in zip(marks, columns, strict=True))
    body = "\n".join("<tr>" + "".join(map(_cell, marks, row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def notes(texts: Sequence[str]) -> str:
    """A list of remarks, or nothing."""
    return "<ul>\n" + "\n".join(f"<li>{lines(note)}</li>" for note in texts) + "\n</ul>" if texts else ""


def figure(image: str, told: str, kind: str) -> str:
    """A picture from charts, with what it shows; the words stand for it where pictures are not seen.

    image : a data: URI.  kind : its class.
    """
    words = text(told)
    return f'<figure class="{kind}"><img src="{image}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def _cell(mark: str, value: object) -> str:
    words = text(value)
    if value in GOOD or value in BAD:
        words = f'<span class="{"good" if value in GOOD else "bad"}">{words}</span>'
    return f"<td{mark}>{words}</td>"
