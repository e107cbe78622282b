"""Settings in YAML files of somebody else's: read them, and change one with everything else left as it is.

    settings(text)  ->  {"optimizer.lr": 0.0006, "layers.0.size": 64}
    with_setting(text, "optimizer.lr", 3e-3)

Tags such as `!include` are kept and never followed.
"""

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hotlap.config.set_in_yaml import set_in_yaml, value_text

_TAG = "tag:yaml.org,2002:"


def settings(text: str) -> dict[str, Any]:
    """Return the plain values of a YAML file by their dotted keys, entries of lists by number.

    Raises ValueError, in words for the user, where it is no YAML with settings.
    """
    node = _composed(text)
    return {} if node is None else dict(_scalars(node, ""))


def with_setting(text: str, key: str, value: Any) -> str:
    """Return a YAML file with one dotted key set; one that is missing is added to its section.

    Raises ValueError, in words for the user, where that is not possible without changing anything else.
    """
    root = _composed(text)
    names = _names(root, key)
    try:
        edited = set_in_yaml(text, names, value)
        is_right = _plain(_composed(edited)) == _changed(_plain(root), names, _plain(_composed(value_text(value))))
    except (YAMLError, ValueError, LookupError):
        is_right = False
    if not is_right:
        raise ValueError(
            f"{key} cannot be changed safely where it stands (an anchor, a tag or a section); write it plainly"
        )
    return edited


def _composed(text: str) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}not valid YAML") from error
    return node


def _scalars(node: Node, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, MappingNode):
        for name, inner in node.value:
            if isinstance(name, ScalarNode) and name.value != "<<":
                yield from _scalars(inner, f"{key}.{name.value}" if key else str(name.value))
    elif isinstance(node, SequenceNode):
        for number, inner in enumerate(node.value):
            yield from _scalars(inner, f"{key}.{number}" if key else str(number))
    elif isinstance(node, ScalarNode) and str(node.tag).startswith(_TAG):
        yield key, _value(node)


def _value(node: ScalarNode) -> Any:
    """Return what a scalar stands for; numbers such as 6e-4 count in any YAML."""
    match str(node.tag).removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return node.value.lower() in ("true", "yes", "on")
        case "int":
            return _number(node.value.replace("_", ""), int)
        case "float":
            return _number(node.value.replace("_", ""), float)
    return str(node.value)


def _number(text: str, kind: type[int] | type[float]) -> Any:
    try:
        return int(text, 0) if kind is int else float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return text


def _names(root: Node | None, key: str) -> list[str]:
    """Return the names on the way to a dotted key, of which some may have dots themselves."""
    parts, names, node = key.split("."), [], root
    while parts:
        count = _length_of_name(node, parts)
        names.append(".".join(parts[:count]))
        node, parts = _below(node, names[-1]), parts[count:]
        if parts and isinstance(node, ScalarNode) and node.tag != f"{_TAG}null":
            raise ValueError(f"{key} cannot be changed safely: {'.'.join(names)} is a value, not a section")
    return names


def _length_of_name(node: Node | None, parts: list[str]) -> int:
    if isinstance(node, MappingNode):
        known = {str(name.value) for name, _ in node.value}
        for count in range(len(parts), 1, -1):
            if ".".join(parts[:count]) in known:
                return count
    return 1


def _below(node: Node | None, name: str) -> Node | None:
    if isinstance(node, MappingNode):
        return next((inner for key, inner in reversed(node.value) if key.value == name), None)
    if isinstance(node, SequenceNode) and name.isdigit() and int(name) < len(node.value):
        found: Node = node.value[int(name)]
        return found
    return None


def _plain(node: Node | None) -> Any:
    """Return all that a node says, in values that can be compared."""
    if isinstance(node, MappingNode):
        return {str(key.value): _plain(inner) for key, inner in node.value}
    if isinstance(node, SequenceNode):
        return [_plain(inner) for inner in node.value]
    if not isinstance(node, ScalarNode):
        return None
    return node.tag, _value(node) if str(node.tag).startswith(_TAG) else node.value


def _changed(plain: Any, names: list[str], value: Any) -> Any:
    if not names:
        return value
    if isinstance(plain, list):
        index = int(names[0])
        return [*plain[:index], _changed(plain[index], names[1:], value), *plain[index + 1 :]]
    inner = plain if isinstance(plain, dict) else {}
    return {**inner, names[0]: _changed(inner.get(names[0]), names[1:], value)}
