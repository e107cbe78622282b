"""Set one key in a YAML text: only the characters of its value are replaced, or a key is added to its section.

set_in_yaml("lr: 0.1  # peak", ["lr"], 0.3)  ->  "lr: 0.3  # peak"
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_PLAIN_TEXT = re.compile(r"[A-Za-z_](?:[\w.:/-]*\w)?")
_WORDS_OF_YAML: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some YAML reader takes for something else than text."""


def value_text(value: Any) -> str:
    """Write a value as YAML on one line, so that readers of YAML 1.1 and 1.2 see the same."""
    match value:
        case None | bool():
            return json.dumps(value)
        case float():
            mantissa, *exponent = repr(value).split("e")
            point = "" if "." in mantissa else ".0"
            return "e".join([mantissa + point, *exponent])  # YAML 1.1 takes 1e-05 for text
        case str():
            is_plain = _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS_OF_YAML
            return value if is_plain else json.dumps(value, ensure_ascii=False)
        case Mapping():
            return f"{{{', '.join(f'{value_text(str(key))}: {value_text(inner)}' for key, inner in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(map(value_text, value))}]"
    return str(value)


def set_in_yaml(text: str, names: Sequence[str], value: Any) -> str:
    """Return YAML with one key set; sections that are missing on the way are added.

    Entries of a list go by their number. Raises ValueError where the value stands in a way that cannot be changed
    alone, YAMLError where the text is no YAML. What comes out has to be looked at by the caller.
    """
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    if not isinstance(node, MappingNode):  # nothing but comments
        return f"{text.rstrip()}\n{names[0]}: {value_text(_nested(names[1:], value))}\n".lstrip()
    for depth, name in enumerate(names, start=1):
        inner = _nested(names[depth:], value)
        pair = _entry(node, name)
        if pair is None:
            assert isinstance(node, MappingNode)
            return _insert(text, node, f"{name}: {value_text(inner)}")
        key, found = pair
        if depth == len(names) or not isinstance(found, MappingNode | SequenceNode):
            return _replace(text, key, found, value_text(inner))
        _refuse_alias(key, found)
        node = found
    raise AssertionError("a key has at least one name")


def _entry(node: MappingNode | SequenceNode, name: str) -> tuple[Node, Node] | None:
    """Return what an entry's place is read from, and its value; None for a key that a section has not.

    Raises ValueError for a list that has no such entry.
    """
    if isinstance(node, MappingNode):
        return next((pair for pair in reversed(node.value) if pair[0].value == name), None)
    if not name.isdigit() or int(name) >= len(node.value):
        raise ValueError(f"a list of {len(node.value)} has no entry {name}")
    return node, node.value[int(name)]


def _nested(names: Sequence[str], value: Any) -> Any:
    for name in reversed(names):
        value = {name: value}
    return value


def _replace(text: str, key: Node, value: Node, new: str) -> str:
    """Put another value in the place of one; a comment behind the key stays."""
    _refuse_alias(key, value)
    start, end = value.start_mark.index, _end_of(text, key, value)
    if start == end and isinstance(key, ScalarNode):  # nothing stands there, and its place may be the next line
        colon = text.index(":", key.end_mark.index) + 1
        return f"{text[:colon]} {new}{text[colon:]}"
    if _is_block(value):
        if isinstance(key, SequenceNode):
            raise ValueError("a section in a list")
        colon = text.index(":", key.end_mark.index) + 1
        return f"{text[:colon]} {new}{text[colon:start].rstrip()}{text[end:]}"
    space = " " if text[start - 1] == ":" else ""
    return f"{text[:start]}{space}{new}{text[end:]}"


def _insert(text: str, section: MappingNode, entry: str) -> str:
    """Add an entry behind the last one of a section."""
    if not section.value:
        closing = section.end_mark.index - 1
        return f"{text[:closing]}{entry}{text[closing:]}"
    end = _end_of(text, *section.value[-1])
    if section.flow_style:
        return f"{text[:end]}, {entry}{text[end:]}"
    line_end = re.compile(r"\r?\n|\Z").search(text, end)
    assert line_end is not None
    new_line = line_end[0] or "\n"
    indent = " " * section.value[0][0].start_mark.column
    return f"{text[: line_end.start()]}{new_line}{indent}{entry}{text[line_end.start() :]}"


def _end_of(text: str, key: Node, value: Node) -> int:
    """Return the index behind the last character of a value."""
    _refuse_alias(key, value)
    if _is_block(value):
        last = value.value[-1]
        return _end_of(text, *last) if isinstance(last, tuple) else _end_of(text, value, last)
    end = int(value.end_mark.index)
    is_folded = isinstance(value, ScalarNode) and value.style in ("|", ">")
    return len(text[:end].rstrip()) if is_folded else end


def _is_block(value: Node) -> bool:
    """Say whether a value is a mapping or a list over several lines, without brackets."""
    return isinstance(value, MappingNode | SequenceNode) and not value.flow_style


def _refuse_alias(key: Node, value: Node) -> None:
    """Raise ValueError for a value that only points to one elsewhere: changing it would change both."""
    if value.start_mark.index < key.start_mark.index:
        raise ValueError("an alias")
