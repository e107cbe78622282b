"""What the figures of a bench were made with besides its config: torch, and the files whose code its steps run.

before = made_with(config, plan, project)
changes(before, made_with(config, plan, project))          # ["train.py is not what it was"]
"""

import ast
import hashlib
import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from hotlap.bench.plan import BenchPlan
from hotlap.config.base import is_part
from hotlap.config.parts import WEIGHTS_KEY, custom_parts, source_names, source_of
from hotlap.config.pretrained import weights_hash
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.knobs.shell_words import as_path, placed_commands

_READ: Final = (".py", ".sh", ".bash", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".json")
"""Ends of files on a command line that are its code or its settings."""
_LARGEST_BYTES: Final = 2**20
"""What is larger is data."""


def made_with(config: RunConfig, plan: BenchPlan, directory: Path) -> dict[str, str]:
    """Return torch's version, and the start of the SHA-256 of each file by its path in the project's folder.

    The files are the project's own parts that the config or an axis names, the scripts and settings that a command
    names, and what these import of the project; pretrained weights stand under their setting's key.
    Raises ConfigError when a part or the weights are not there.
    """
    found = {}
    with suppress(importlib.metadata.PackageNotFoundError):
        found["torch"] = importlib.metadata.version("torch")
    if (weights := source_names(config).get(WEIGHTS_KEY)) is not None:
        found[WEIGHTS_KEY] = weights_hash(weights)
    files = [*_part_files(config, plan, directory), *_command_files(config, directory)]
    for path in _with_imported(files, directory):
        name = path.relative_to(directory) if path.is_relative_to(directory) else path
        found[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what is not as it was before, in words; what was not there before does not count."""
    told = []
    for name, value in before.items():
        if name not in now:
            told.append(f"{name} is gone")
        elif now[name] != value:
            told.append(f"torch was {value}, is {now[name]}" if name == "torch" else f"{name} is not what it was")
    return told


def _part_files(config: RunConfig, plan: BenchPlan, directory: Path) -> Iterator[Path]:
    for part in custom_parts(config).values():
        yield source_of(directory, part)
    values = [value for axis in plan.axes for value in axis.values] if config.command is None else []
    for value in values:
        if isinstance(value, str) and is_part(value):
            with suppress(ConfigError):  # its cells say so
                yield source_of(directory, value)


def _command_files(config: RunConfig, directory: Path) -> Iterator[Path]:
    """Yield the files that the words of a command name, and the modules that it has python run."""
    for words, folder in placed_commands(config.command.run, directory) if config.command is not None else ():
        for before, word in zip([None, *words], words, strict=False):
            if before is not None and before.value == "-m":
                yield from _files_of(word.value, [folder])
            for text in (word.value, word.value.partition("=")[2]):
                path = as_path(text, folder) if text else None
                if path is not None and path.suffix in _READ and path.is_file() and _is_small(path):
                    yield path


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= _LARGEST_BYTES


def _with_imported(files: Sequence[Path], directory: Path) -> list[Path]:
    """Return files with what they import of the project, and so on; ordered, each once."""
    found, waiting = set[Path](), list(files)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path, [path.parent, directory]) if path.suffix == ".py" else []
    return sorted(found)


def _imported(path: Path, roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the files of the project that a Python file imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of the script is for who runs it
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name, roots)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(path.parents):
            places = [path.parents[node.level - 1]] if node.level else roots
            module = node.module or ""
            for name in (module, *(f"{module}.{alias.name}" for alias in node.names)):
                yield from _files_of(name.strip("."), places)


def _files_of(module: str, roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that a module of a folder stands in."""
    for root in roots if module else ():
        path = root.joinpath(*module.split("."))
        candidates = (path.with_suffix(".py"), path / "__init__.py", path / "__main__.py")
        yield from (candidate for candidate in candidates if candidate.is_file())
