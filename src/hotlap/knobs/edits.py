"""Change settings in files of the user's, whatever their language; the text comes back, nothing is written.

edited(Path("conf.yaml"), {"optimizer.lr": 3e-3})
edited(Path("train.py"), {"learning_rate": 3e-3}, is_code=True)
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import ConfigError
from hotlap.knobs import json_text, python_text, shell_text, toml_text, yaml_text

_Setter = Callable[[str, str, Any], str]
_FORMATS: Final[Mapping[str, tuple[Callable[[str], dict[str, Any]], _Setter]]] = {
    ".yaml": (yaml_text.settings, yaml_text.with_setting),
    ".yml": (yaml_text.settings, yaml_text.with_setting),
    ".json": (json_text.settings, json_text.with_setting),
    ".jsonc": (json_text.settings, json_text.with_setting),
    ".toml": (toml_text.settings, toml_text.with_setting),
}
_SCRIPTS: Final[Mapping[str, _Setter]] = {
    ".py": python_text.with_constant,
    ".sh": shell_text.with_constant,
    ".bash": shell_text.with_constant,
}
SETTINGS_FILES: Final = tuple(_FORMATS)
SCRIPTS: Final = tuple(_SCRIPTS)


def read_text(path: Path) -> str:
    """Return the text of a file with its line ends as they are.

    Raises ConfigError where it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; command.files and command.constants name files of yours") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def settings_of(path: Path, text: str) -> dict[str, Any]:
    """Return the plain values of a file of settings by their dotted keys.

    Raises ConfigError where it is no YAML, JSON or TOML.
    """
    try:
        return _FORMATS[path.suffix.lower()][0](text)
    except KeyError:
        raise ConfigError(f"{path}: expected a file of settings ({', '.join(_FORMATS)})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def edited(path: Path, changes: Mapping[str, Any], *, is_code: bool = False) -> str:
    """Return the text of a file with settings, or with `is_code` constants, set to other values.

    What has its value already stays as it is written. Raises ConfigError, with file and key, where it cannot be done.
    """
    text = read_text(path)
    return edited_text(path, text, changes, is_code=is_code)


def edited_text(path: Path, text: str, changes: Mapping[str, Any], *, is_code: bool = False) -> str:
    """Return `edited` of a text that would stand in a file."""
    set_value = _setter(path, is_code=is_code)
    before = _values(path, text, is_code=is_code)
    for key, value in changes.items():
        if key in before and _is_same(before[key], value):
            continue
        try:
            text = set_value(text, key, value)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
    return text


def values_at(path: Path, keys: list[str], *, is_code: bool = False) -> dict[str, Any]:
    """Return the values that a file has at some keys, without those that it has not."""
    found = _values(path, read_text(path), is_code=is_code)
    return {key: found[key] for key in keys if key in found}


def _values(path: Path, text: str, *, is_code: bool) -> dict[str, Any]:
    if not is_code:
        return settings_of(path, text)
    constants = python_text.constants if path.suffix == ".py" else shell_text.constants
    try:
        return {name: constant.value for name, constant in constants(text).items()}
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _setter(path: Path, *, is_code: bool) -> _Setter:
    if is_code:
        if path.suffix.lower() not in _SCRIPTS:
            raise ConfigError(f"command.constants: {path}: expected a script ({', '.join(_SCRIPTS)})")
        return _SCRIPTS[path.suffix.lower()]
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"command.files: {path}: expected a file of settings ({', '.join(_FORMATS)})")
    return _FORMATS[path.suffix.lower()][1]


def _is_same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)
