"""What all commands share on the screen: is there a terminal, colours, aligned tables, sparklines, JSON."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

_BARS = "▁▂▃▄▅▆▇█"


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
    """Print one JSON document; numbers that JSON cannot hold become null."""
    typer.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
