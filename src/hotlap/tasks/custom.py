"""Import the parts that a project brings itself: `module:function` from the project's folder.

The folder stands on `sys.path` only while a part is imported, and last: no file of the project can take the place of
a module of Python's or of a package.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any

from hotlap.config.parts import source_of
from hotlap.core.errors import ConfigError

_PROJECT = "__hotlap_project__"


def load_part(directory: Path, part: str) -> Callable[..., Any]:
    """Return the function that `module:function` names.

    Raises ConfigError when the file or the function is missing, or when the module cannot be imported.
    """
    directory = directory.resolve()
    source = source_of(directory, part)
    module_name, _, name = part.partition(":")
    _forget_other_projects(directory)
    try:
        with _importing_from(directory):
            module = import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"{part}: {source} cannot be imported: {error}") from error
    if not module.__file__ or Path(module.__file__).resolve() != source.resolve():
        where = module.__file__ or "Python itself"
        raise ConfigError(f"{part}: the name {module_name} belongs to {where}; rename {source}")
    found = getattr(module, name, None)
    if not callable(found):
        close = get_close_matches(name, [key for key, value in vars(module).items() if callable(value)], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{part}: {source} has no function {name}{hint}")
    function: Callable[..., Any] = found
    return function


@contextmanager
def _importing_from(directory: Path) -> Iterator[None]:
    """Make the modules of a folder importable, and remember which were imported from it."""
    before, entry = set(sys.modules), str(directory)
    invalidate_caches()
    sys.path.append(entry)
    try:
        yield
    finally:
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index(entry)]
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            file = getattr(module, "__file__", None)
            if not isinstance(module, ModuleType) or file is None or "site-packages" in file:
                continue
            if Path(file).is_relative_to(directory):
                setattr(module, _PROJECT, directory)


def _forget_other_projects(directory: Path) -> None:
    """Drop what was imported from another project's folder: its modules may have the same names."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and vars(module).get(_PROJECT, directory) != directory:
            del sys.modules[name]
