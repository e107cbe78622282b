"""Change settings inside a config file and leave the rest of it as it is: comments, order, spacing, line ends.

edited = edited_text(text, path, {"training.learning_rate": 3e-3})

Only the characters of a value are replaced, or a key is added at the end of its section. What comes out is read again:
it has to mean what was asked for and nothing else, so a file that is written in an unusual way is refused, not spoiled.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hotlap.config.document import Document
from hotlap.config.load import config_from_text, config_from_values, get_dotted
from hotlap.config.trainer_yaml import KeyPath, is_trainer_yaml, resolve_sections, resolve_trainer_yaml
from hotlap.core.errors import ConfigError

_PLAIN_TEXT = re.compile(r"[A-Za-z_](?:[\w.:/-]*\w)?")
_WORDS_OF_YAML: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some YAML reader takes for something else than text."""


def edited_text(text: str, path: Path, patch: Mapping[str, Any]) -> str:
    """Return the text of a config file with dotted keys set to other values; `path` is where the text stands.

    Raises ConfigError when the text or the values cannot be used, or when this cannot be written into that text.
    """
    before = config_from_text(text, path)
    values = before.model_dump(mode="json")
    wanted = config_from_values(values, patch)
    changes = {key: value for key, value in patch.items() if not _holds(values, key, value)}
    try:
        edited = _set_all(text, path, changes)
        is_right = config_from_text(edited, path).model_dump(mode="json") == wanted.model_dump(mode="json")
    except (ConfigError, YAMLError, ValueError):  # what came out is no YAML, or no config
        is_right = False
    if not is_right:
        rows = [f"  {key}: {value_text(value)}" for key, value in changes.items()]
        head = f"{path} is written in a way that cannot be changed safely (anchors, for instance); set by hand:"
        raise ConfigError("\n".join([head, *rows]))
    return edited


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


def _holds(values: Mapping[str, Any], key: str, value: Any) -> bool:
    """Say whether a config has a value already; what it has not cannot be equal."""
    try:
        return bool(get_dotted(values, key) == value)
    except (KeyError, TypeError):
        return False


def _set_all(text: str, path: Path, changes: Mapping[str, Any]) -> str:
    document = Document.parse(text, path)
    is_flat = is_trainer_yaml(document.values)
    document.origins = (resolve_trainer_yaml if is_flat else resolve_sections)(document.plain()).origins
    for key, value in changes.items():
        place: KeyPath = tuple(key.split("."))
        written = document.written(place)
        if is_flat and written[0] == "training":
            written = written[1:]  # a section of that name would make it another kind of file
        text = _set(text, [str(name) for name in written], value)
    return text


def _set(text: str, names: Sequence[str], value: Any) -> str:
    """Return YAML with one key set; sections that are missing on the way are added."""
    node = YAML(typ="safe", pure=True).compose(text)
    if not isinstance(node, MappingNode):  # nothing but comments
        return f"{text.rstrip()}\n{names[0]}: {value_text(_nested(names[1:], value))}\n".lstrip()
    for depth, name in enumerate(names, start=1):
        inner = _nested(names[depth:], value)
        pair = next((pair for pair in reversed(node.value) if pair[0].value == name), None)
        if pair is None:
            return _insert(text, node, f"{name}: {value_text(inner)}")
        key, found = pair
        if depth == len(names) or not isinstance(found, MappingNode):
            return _replace(text, key, found, value_text(inner))
        _refuse_alias(key, found)
        node = found
    raise AssertionError("a key has at least one name")


def _nested(names: Sequence[str], value: Any) -> Any:
    for name in reversed(names):
        value = {name: value}
    return value


def _replace(text: str, key: Node, value: Node, new: str) -> str:
    """Put another value in the place of one; a comment behind the key stays."""
    _refuse_alias(key, value)
    start, end = value.start_mark.index, _end_of(text, key, value)
    if _is_block(value):
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
