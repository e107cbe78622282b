"""A config file as it was written: its values, and the line that each of them stands on.

document = Document.read(Path("hotlap.yaml"))
document.place(("training", "max_steps"))  ->  "hotlap.yaml:7"
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MantissaNoDotYAML1_1Warning, MarkedYAMLError, YAMLError

from hotlap.config.trainer_yaml import KeyPath
from hotlap.core.errors import ConfigError


@dataclass(slots=True)
class Document:
    """Values with their places; keys in `changed` (dotted) were set on the command line."""

    values: Any
    source: str
    changed: set[str] = field(default_factory=set)
    origins: dict[KeyPath, KeyPath] = field(default_factory=dict)
    """Where a setting was written, when that is under another key."""
    is_flat: bool = False
    """Whether it is a plain Trainer YAML."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises ConfigError when it cannot be read, is not YAML, or holds anything but settings.
        """
        try:
            text = path.read_text(encoding="utf-8")
            if path.suffix.lower() == ".json":
                text = text.replace("\t", " ")  # JSON has tabs only where YAML wants spaces
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such config; run `hotlap demo` for an example") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Read YAML as if it stood in a file; raises ConfigError as `read` does."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MantissaNoDotYAML1_1Warning)  # 3e-4 is a number in any YAML
                values = YAML().load(text)
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else path
            raise ConfigError(f"{where}: not valid YAML: {yaml_problem(error)}") from error
        if values is None:
            values = CommentedMap()
        if not isinstance(values, CommentedMap):
            raise ConfigError(f"{path}: expected settings such as 'name: my-run', got {type(values).__name__}")
        return cls(values, str(path))

    def plain(self) -> dict[Any, Any]:
        """Return the values without anything of the YAML reader's."""
        plain: dict[Any, Any] = _plain(self.values)
        return plain

    def written(self, path: KeyPath) -> KeyPath:
        """Return the key path under which a setting was written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]] + path[end:]
        return path

    def place(self, path: KeyPath) -> str:
        """Return where a key path as it was written stands: file and line, or the command line."""
        names = [str(part) for part in path]
        if any(".".join(names[:end]) in self.changed for end in range(1, len(names) + 1)):
            return "the command line"
        line = _line(self.values, path)
        return self.source if line is None else f"{self.source}:{line}"


def yaml_problem(error: YAMLError) -> str:
    """Return what the YAML reader complains about, in one line."""
    return str(error.problem if isinstance(error, MarkedYAMLError) else error).splitlines()[0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _line(document: Any, path: KeyPath) -> int | None:
    """Return the line of the deepest part of a key path that the file holds, counted from 1."""
    line = None
    for part in path:
        try:
            place = document.lc.key(part) if isinstance(document, CommentedMap) else document.lc.item(part)
            line, document = place[0] + 1, document[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return line
