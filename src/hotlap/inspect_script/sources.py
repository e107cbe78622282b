"""Which files of the user's a command reads: scripts, what these import, shell scripts, files of settings.

Nothing is run: files are found by the words of the command and by the import statements of the scripts.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Final

from hotlap.knobs.containers import Container, containers_of
from hotlap.knobs.edits import SETTINGS_FILES
from hotlap.knobs.shell_words import Word, as_path, placed_commands, words_of

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")
_MOST_MODULES: Final = 20
_LARGEST_FILE: Final = 400_000
"""Bytes above which a file holds data rather than settings."""
_NOT_SETTINGS: Final = ("package.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "package-lock.json")


@dataclass(slots=True)
class Sources:
    """What a command reads."""

    words: list[Word] = field(default_factory=list)
    """The words of the simple command that trains."""
    folder: Path = Path()
    """Where it runs."""
    script: Path | None = None
    """The Python script that is run."""
    modules: list[Path] = field(default_factory=list)
    """Modules of the project that the script imports, near ones first."""
    shell_scripts: list[Path] = field(default_factory=list)
    settings: list[Path] = field(default_factory=list)
    """YAML, JSON and TOML files that the command is given."""
    default_files: list[tuple[str, str]] = field(default_factory=list)
    """Files of settings that an option names where the command does not, with that option."""
    is_container: bool = False
    is_inside_shell: bool = False
    """Whether it is a shell script that runs the Python script, so that no words can be added to its command."""

    @property
    def assignments(self) -> list[Word]:
        """The variables that the command that trains begins with: `LR=0.1 python …`."""
        return list(takewhile(lambda word: _ASSIGNMENT.match(word.value), self.words))

    @property
    def own_words(self) -> list[Word]:
        """The words that the script is given: without those of what launches it, such as torchrun."""
        if self.script is None or self.is_container:
            return self.words
        place = next((n for n, word in enumerate(self.words) if word.value.endswith(self.script.name)), None)
        if place is None:
            place = next((n + 1 for n, word in enumerate(self.words[:-1]) if word.value == "-m"), 0)
        return self.words[place:]


def sources_of(run: str, directory: Path) -> Sources:
    """Return what a command reads; the last of several commands that runs a script is the one that trains."""
    found = Sources()
    for words, folder in placed_commands(run, directory):
        container = containers_of(words, folder)
        if container is not None:
            found.words, found.is_container, found.folder = list(words), True, folder
            found.settings += [path for path in _mounted_settings(container) if path not in found.settings]
            continue
        script = _script(words, folder)
        if script is not None or not found.words:
            found.words, found.folder = list(words), folder
        found.script = script or found.script
        found.shell_scripts += [path for path in _paths(words, folder, (".sh", ".bash")) if path.is_file()]
        found.settings += [path for path in _settings(words, folder) if path not in found.settings]
    for path in found.shell_scripts:
        inner = words_of(readable(path))
        inner_script = None if found.script else _script(inner, directory)
        if inner_script is not None:
            found.script, found.is_inside_shell = inner_script, True
        found.settings += [path for path in _settings(inner, directory) if path not in found.settings]
    if found.script is not None:
        found.modules = _imported(found.script, found.folder if found.words else directory)
    return found


def readable(path: Path) -> str:
    """Return the text of a file; empty where it is none, or larger than settings are."""
    try:
        return path.read_bytes().decode("utf-8") if path.stat().st_size <= _LARGEST_FILE else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _script(words: Sequence[Word], directory: Path) -> Path | None:
    """Return the Python file that a simple command runs: a word that is one, or the module behind `-m`."""
    for before, word in zip([None, *words], words, strict=False):
        if before is not None and before.value == "-m":
            path = directory.joinpath(*word.value.split("."))
            for candidate in (path.with_suffix(".py"), path / "__main__.py"):
                if candidate.is_file():
                    return candidate
        path_of_word = as_path(word.value, directory)
        if path_of_word is not None and path_of_word.suffix == ".py" and path_of_word.is_file():
            return path_of_word
    return None


def _paths(words: Sequence[Word], directory: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    for word in words:
        _, _, rest = word.value.partition("=")
        for text in (word.value, rest):
            path = as_path(text, directory) if text else None
            if path is not None and path.suffix.lower() in suffixes:
                yield path


def _settings(words: Sequence[Word], directory: Path) -> Iterator[Path]:
    for path in _paths(words, directory, SETTINGS_FILES):
        if path.is_file() and path.name not in _NOT_SETTINGS and path.stat().st_size <= _LARGEST_FILE:
            yield path


def _mounted_settings(container: Container) -> Iterator[Path]:
    """Yield files of this machine that a word names inside a container."""
    for word in container.words:
        _, mark, rest = word.value.partition("=")
        for text in (word.value, rest if mark else ""):
            if not text.lower().endswith(SETTINGS_FILES):
                continue
            for host, inside, _ in container.mounts:
                tail = _tail(text, inside)
                path = host if tail == "" else host / tail if tail else None
                if path is not None and path.is_file() and container.is_named_by(text, path, container.path_of(path)):
                    yield path
            path = as_path(text, container.directory)
            if path is not None and path.is_file() and container.path_of(path) is None:
                yield path


def _tail(text: str, inside: str) -> str | None:
    """Return what a path inside a container says below a mounted folder; None where it lies elsewhere."""
    if text == inside:
        return ""
    if text.startswith(f"{inside}/"):
        return text[len(inside) + 1 :]
    if text.startswith("/"):
        return None
    name = inside.rpartition("/")[2]
    return text[len(name) + 1 :] if text.startswith(f"{name}/") else text


def _imported(script: Path, directory: Path) -> list[Path]:
    """Return the modules of the project that a script imports, and those that these import."""
    found: list[Path] = []
    waiting = [script]
    while waiting and len(found) < _MOST_MODULES:
        current = waiting.pop(0)
        for path in _imports(current, (script.parent, directory)):
            if path not in (script, *found):
                found.append(path)
                waiting.append(path)
    return found


def _imports(path: Path, roots: Sequence[Path]) -> Iterator[Path]:
    try:
        tree = ast.parse(readable(path).removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        names: list[str] = []
        folders = list(roots)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folders = [path.parents[node.level - 1]] if node.level else folders
            start = f"{node.module}." if node.module else ""
            names = [*([node.module] if node.module else []), *(f"{start}{alias.name}" for alias in node.names)]
        for name in names:
            for folder in folders:
                candidate = folder.joinpath(*name.split("."))
                if (file := candidate.with_name(f"{candidate.name}.py")).is_file():
                    yield file
                    break
