"""Every error that hotlap raises on purpose, and the exit code each one ends with.

HotlapError                 1    (never raised itself)
├── ConfigError             2    a config, target or option that cannot be used
├── DataError               2    a corpus that is missing, empty or unreadable
├── StudyError              2    a study that cannot go on as asked
├── DivergedError           4    a loss or gradient that is not finite (raised inside the worker)
├── RunFailedError          5    the training process failed
├── NotSupportedError       7    not possible on this machine
│   └── MissingExtraError   7    an optional package is not installed
└── StorageError          125    a folder that cannot be written, a full disk
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import ClassVar


class HotlapError(Exception):
    """Base of the tree; `str(error)` is the whole message for the user."""

    exit_code: ClassVar[int] = 1


class ConfigError(HotlapError):
    """A config, target or option that cannot be used."""

    exit_code: ClassVar[int] = 2


class DataError(HotlapError):
    """A corpus, or a file of runs to import, that is missing, empty or unreadable."""

    exit_code: ClassVar[int] = 2


class StudyError(HotlapError):
    """A study that cannot go on as asked."""

    exit_code: ClassVar[int] = 2


class DivergedError(HotlapError):
    """A loss or gradient norm that is not finite."""

    exit_code: ClassVar[int] = 4


class RunFailedError(HotlapError):
    """The training process ended without a result."""

    exit_code: ClassVar[int] = 5


class NotSupportedError(HotlapError):
    """Something this machine cannot do."""

    exit_code: ClassVar[int] = 7


class MissingExtraError(NotSupportedError):
    """An optional package that is not installed."""


class StorageError(HotlapError):
    """A folder that cannot be written or a disk that is full."""

    exit_code: ClassVar[int] = 125


def import_optional(name: str, extra: str) -> ModuleType:
    """Import an optional package where it is used.

    Raises MissingExtraError with the install command when it is absent.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise MissingExtraError(f"{package} is not installed; run: pip install 'hotlap[{extra}]'") from error


def unknown_name(kind: str, name: str, known: Mapping[str, object] | list[str]) -> ConfigError:
    """Build the error for a name that is not in a table, with the nearest known one."""
    close = get_close_matches(name, list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}.")
