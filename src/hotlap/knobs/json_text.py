"""Settings in JSON files of somebody else's, with or without comments: read them, and change one in its place.

with_setting(text, "optimizer.params.lr", 3e-3)
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, Final

_DECODER: Final = JSONDecoder()
_GAP: Final = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_PLAIN: Final = re.compile(r"[^\s,\]}/]+")


@dataclass(slots=True)
class _Node:
    """A value with its place in the text; what lies below it by name or number."""

    start: int
    end: int = 0
    value: Any = None
    below: "dict[str, _Node] | None" = None
    keys: dict[str, int] = field(default_factory=dict)
    """Where the key of each entry begins."""


def settings(text: str) -> dict[str, Any]:
    """Return the plain values of a JSON file by their dotted keys, entries of lists by number.

    Raises ValueError, in words for the user, where it is no JSON.
    """
    return dict(_scalars(_read(text), ""))


def with_setting(text: str, key: str, value: Any) -> str:
    """Return a JSON file with one dotted key set; one that is missing is added to its object.

    Raises ValueError, in words for the user, where there is no place for it.
    """
    node, parts, written = _read(text), key.split("."), json.dumps(value, ensure_ascii=False)
    while parts:
        count = _length_of_name(node, parts)
        name, parts = ".".join(parts[:count]), parts[count:]
        found = (node.below or {}).get(name)
        if found is None:
            if (not node.keys and node.below != {}) or text[node.start] != "{":
                raise ValueError(f"{key}: there is no object to put {name!r} into")
            for outer in reversed(parts):
                written = f"{{{json.dumps(outer)}: {written}}}"
            return _with_entry(text, node, name, written)
        node = found
    return f"{text[: node.start]}{written}{text[node.end :]}"


def _with_entry(text: str, node: _Node, name: str, written: str) -> str:
    """Add an entry behind the last one of an object, spaced as that is."""
    entry = f"{json.dumps(name)}: {written}"
    if not node.below:
        return f"{text[: node.start + 1]}{entry}{text[node.end - 1 :]}"
    last = next(reversed(node.below))
    start = node.keys[last]
    before = text[len(text[:start].rstrip(" \t\r\n")) : start]
    space = before if "\n" in before else " "
    end = node.below[last].end
    return f"{text[:end]},{space}{entry}{text[end:]}"


def _length_of_name(node: _Node, parts: list[str]) -> int:
    known = node.below or {}
    return next((count for count in range(len(parts), 1, -1) if ".".join(parts[:count]) in known), 1)


def _scalars(node: _Node, key: str) -> Iterator[tuple[str, Any]]:
    if node.below is None:
        yield key, node.value
        return
    for name, inner in node.below.items():
        yield from _scalars(inner, f"{key}.{name}" if key else name)


def _read(text: str) -> _Node:
    at = _gap(text, 1 if text.startswith("\ufeff") else 0)
    try:
        node = _node(text, at)
        is_whole = _gap(text, node.end) == len(text)
    except (JSONDecodeError, IndexError, RecursionError) as error:
        raise ValueError("not valid JSON") from error
    if not is_whole:
        raise ValueError(f"line {text.count(chr(10), 0, node.end) + 1}: not valid JSON")
    return node


def _gap(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


def _node(text: str, at: int) -> _Node:
    """Read the value at an index; raises JSONDecodeError or IndexError."""
    node = _Node(at)
    if text[at] == "{":
        _read_entries(text, node, "}")
    elif text[at] == "[":
        _read_entries(text, node, "]")
    elif text[at] == '"':
        node.value, node.end = _DECODER.raw_decode(text, at)
    else:
        match = _PLAIN.match(text, at)
        if match is None:
            raise JSONDecodeError("no value", text, at)
        node.value, node.end = json.loads(match[0]), match.end()
    return node


def _read_entries(text: str, node: _Node, closes: str) -> None:
    node.below = {}
    at = _gap(text, node.start + 1)
    while text[at] != closes:
        name, start = str(len(node.below)), at
        if closes == "}":
            if text[at] != '"':
                raise JSONDecodeError("no key", text, at)
            name, at = _DECODER.raw_decode(text, at)
            at = _gap(text, at)
            if text[at] != ":":
                raise JSONDecodeError("no colon", text, at)
            at = _gap(text, at + 1)
        node.below[name], node.keys[name] = inner, start = _node(text, at), start
        at = _gap(text, inner.end)
        if text[at] == ",":
            at = _gap(text, at + 1)
        elif text[at] != closes:
            raise JSONDecodeError("no comma", text, at)
    node.end = at + 1
