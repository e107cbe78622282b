"""Change settings inside a config file and leave the rest of it as it is: comments, order, spacing, line ends.

edited = edited_text(text, path, {"training.learning_rate": 3e-3})

Only the characters of a value are replaced, or a key is added at the end of its section. What comes out is read again:
it has to mean what was asked for and nothing else, so a file that is written in an unusual way is refused, not spoiled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from hotlap.config.document import Document
from hotlap.config.load import config_from_text, config_from_values, get_dotted
from hotlap.config.set_in_yaml import set_in_yaml, value_text
from hotlap.config.trainer_yaml import KeyPath, is_trainer_yaml, resolve_sections, resolve_trainer_yaml
from hotlap.core.errors import ConfigError


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
        text = set_in_yaml(text, [str(name) for name in written], value)
    return text
