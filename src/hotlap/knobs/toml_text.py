"""Settings in TOML files of somebody else's: read them, and change one with comments and order kept.

with_setting(text, "optimizer.lr", 3e-3)
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

_HEADER: Final = re.compile(r"^[ \t]*\[(?P<double>\[?)(?P<name>[^\[\]#]+)\]\]?[ \t]*(?:#.*)?\r?$")
_NAME: Final = r"(?:[\w-]+|\"[^\"\n]*\"|'[^'\n]*')"
_ENTRY: Final = re.compile(rf"^[ \t]*(?P<key>{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*)[ \t]*=[ \t]*")
_PART: Final = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")


def settings(text: str) -> dict[str, Any]:
    """Return the plain values of a TOML file by their dotted keys, entries of lists by number.

    Raises ValueError, in words for the user, where it is no TOML.
    """
    return dict(_scalars(_loaded(text), ""))


def with_setting(text: str, key: str, value: Any) -> str:
    """Return a TOML file with one dotted key set; one that is missing is added to its table.

    Raises ValueError, in words for the user, where that is not possible without changing anything else.
    """
    before, parts = _loaded(text), tuple(key.split("."))
    if value is None:
        raise ValueError(f"{key} cannot be null: TOML has no null")
    written = _written(value)
    place = _place_of(text, parts)
    edited = _with_entry(text, parts, written) if place is None else f"{text[: place[0]]}{written}{text[place[1] :]}"
    try:
        is_right = _same(tomllib.loads(edited), _changed(before, parts, value))
    except (ValueError, TypeError):
        is_right = False
    if not is_right:
        raise ValueError(f"{key} cannot be changed safely where it stands (an inline table or a list of tables)")
    return edited


def _loaded(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from error


def _scalars(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _scalars(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _scalars(inner, f"{key}.{number}" if key else str(number))
    else:
        yield key, value


def _entries(text: str) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Yield the full key of each entry, and where its value begins and ends."""
    table: tuple[str, ...] = ()
    at = 0
    while at < len(text):
        line_end = _line_end(text, at)
        line = text[at:line_end]
        header, entry = _HEADER.match(line), _ENTRY.match(line)
        if header:
            table = ("[[",) if header["double"] else _parts(header["name"])
        elif entry:
            start = at + entry.end()
            end = _end_of_value(text, start)
            yield (*table, *_parts(entry["key"])), start, end
            line_end = _line_end(text, end)
        at = line_end + 1


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _parts(key: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(key))


def _end_of_value(text: str, start: int) -> int:
    """Return the index behind a value, which may take several lines: the first end that makes it whole."""
    end = start
    while end < len(text):
        end = _line_end(text, end)
        for stop in (end, *(start + match.start() for match in re.finditer("#", text[start:end]))):
            if _is_value(text[start:stop]):
                return start + len(text[start:stop].rstrip())
        end += 1
    return len(text)


def _is_value(text: str) -> bool:
    """Say whether a text is one value without a comment behind it."""
    try:
        tomllib.loads(f"v = {text.rstrip()}\n")
    except tomllib.TOMLDecodeError:
        return False
    return not _has_comment(text.rstrip())


def _has_comment(text: str) -> bool:
    """Say whether the last `#` of a text opens a comment: then the text is as whole with that cut off."""
    before, mark, _ = text.rpartition("#")
    if not mark or "\n" in text:
        return False
    try:
        tomllib.loads(f"v = {before}\n")
    except tomllib.TOMLDecodeError:
        return False
    return True


def _place_of(text: str, parts: tuple[str, ...]) -> tuple[int, int] | None:
    name = ".".join(parts)
    return next(((start, end) for key, start, end in _entries(text) if ".".join(key) == name), None)


def _with_entry(text: str, parts: tuple[str, ...], written: str) -> str:
    """Add an entry behind the last one of its table; a table that is missing comes last."""
    table, entry = parts[:-1], f"{parts[-1]} = {written}"
    ends = [end for key, _, end in _entries(text) if key[: len(table)] == table and len(key) == len(parts)]
    if ends:
        at = _line_end(text, ends[-1])
        return f"{text[:at]}\n{entry}{text[at:]}"
    if not table:
        return f"{entry}\n{text}"
    head = f"[{'.'.join(table)}]"
    for match in re.finditer(rf"^[ \t]*{re.escape(head)}.*$", text, re.MULTILINE):
        return f"{text[: match.end()]}\n{entry}{text[match.end() :]}"
    return f"{text.rstrip()}\n\n{head}\n{entry}\n".lstrip()


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value)


def _changed(values: Mapping[str, Any], parts: tuple[str, ...], value: Any) -> dict[str, Any]:
    for count in range(len(parts), 0, -1):  # a quoted key may have dots
        name, rest = ".".join(parts[:count]), parts[count:]
        if name in values or count == 1:
            return {**values, name: _changed(values.get(name, {}), rest, value) if rest else value}
    return dict(values)


def _same(left: Any, right: Any) -> bool:
    return json.dumps(left, default=str, sort_keys=True) == json.dumps(right, default=list, sort_keys=True)
