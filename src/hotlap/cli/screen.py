"""What all commands share on the screen: is there a terminal, colours, aligned tables, sparklines, JSON."""

import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

_SCHEMA = re.compile(r"hotlap/[a-z-]+/[0-9]+")
"""How a document names what it is, with the version of its form."""
_BARS = "▁▂▃▄▅▆▇█"
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What terminals may take for orders, as it is written in Python."""


def is_terminal() -> bool:
    """Say whether stdout is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def uses_color() -> bool:
    """Say whether to colour: on a terminal, unless NO_COLOR is set to anything."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def bold(text: str) -> str:
    """Return text in bold where colours are used."""
    return f"\x1b[1m{text}\x1b[0m" if uses_color() else text


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the course of values in at most `width` characters; what is not finite becomes a blank."""
    count = min(width, len(values))
    chosen = [values[round(i * (len(values) - 1) / max(1, count - 1))] for i in range(count)]
    finite = [value for value in chosen if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in chosen)


def harmless(text: str) -> str:
    """Return text that others made, such as a model, without the signs that a terminal would obey."""
    return text.translate(_CONTROLS)


def width_of(text: str) -> int:
    """Return how many columns a text takes on a terminal: two for a wide sign, none for an accent of its own."""
    return sum(_columns(sign) for sign in text)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text's lines, none wider than `width` columns (two or more); they break at blanks where they can."""
    return [piece for line in text.expandtabs(4).split("\n") for piece in _pieces(line, width)]


def _pieces(line: str, width: int) -> Iterator[str]:
    while width_of(line) > width:
        end = used = 0
        while used + _columns(line[end]) <= width:
            used += _columns(line[end])
            end += 1
        blank = line.rfind(" ", 0, end + 1)
        yield line[: blank if blank > 0 else end].rstrip()
        line = line[blank + 1 if blank > 0 else end :]
    yield line


def _columns(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def table_lines(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return a table as aligned lines; the first `left` columns align left, the others right."""
    cells = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        pairs = list(zip(row, widths, strict=True))
        begin = [cell.ljust(width) for cell, width in pairs[:left]]
        end = [cell.rjust(width) for cell, width in pairs[left:]]
        lines.append("  ".join(begin + end).rstrip())
    return lines


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table; the first `left` columns align left, the others right."""
    head, *lines = table_lines(headers, rows, left)
    typer.echo("\n".join([bold(head), *lines]))


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document, which names its schema; numbers that JSON cannot hold become null."""
    assert _SCHEMA.fullmatch(str(document.get("schema"))), f"no schema: {sorted(document)}"
    typer.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
