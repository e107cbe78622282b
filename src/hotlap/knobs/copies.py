"""Edited copies of the user's files, and a command that reads them in place of the originals.

written = write_copies(copies, project, scratch)
shell, env = with_copies(shell, env, written, project)

A copy of a script, or of a file that speaks of files beside it, has links to all of its neighbours beside it, so that
imports and relative paths lead where they led before. Folders are mirrored below `scratch`.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hotlap.core.errors import ConfigError
from hotlap.knobs.containers import Container, containers_of
from hotlap.knobs.placeholders import quoted
from hotlap.knobs.shell_words import Word, as_path, placed_commands, replaced

_NOT_LINKED: Final = frozenset({".git", ".hotlap", "__pycache__"})
_FILE_NAMES: Final = re.compile(r"[\w./-]+\.\w+")
_SHELLS: Final = (".sh", ".bash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A file of the user's with other values in it."""

    original: Path
    text: str
    is_code: bool
    name: str
    """The path as the config has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A copy on the disk."""

    original: Path
    path: Path
    name: str
    has_neighbours: bool
    """Whether what lies beside the original is linked beside it."""


@dataclass(slots=True)
class _Overlay:
    """Which copies a command has been given so far."""

    directory: Path
    copies: Mapping[Path, Written]
    scratch: Path
    env: dict[str, str]
    used: set[Path] = field(default_factory=set)
    linked: set[Path] = field(default_factory=set)
    """Folders of the user's that are mirrored with all that lies in them."""


def write_copies(copies: Sequence[Copy], directory: Path, scratch: Path) -> list[Written]:
    """Write the copies below a folder, with links to their neighbours where these may be needed.

    Raises OSError where they cannot be written.
    """
    written = []
    for copy in copies:
        path = mirrored(copy.original, directory, scratch)
        _write(path, copy.text.encode(), copy.original, scratch)
        needs = copy.is_code or _speaks_of_neighbours(copy)
        written.append(Written(original=copy.original, path=path, name=copy.name, has_neighbours=needs))
    for one in written:
        if one.has_neighbours:
            for folder in _folders(one.original, directory):
                _link_all(folder, mirrored(folder, directory, scratch))
    return written


def mirrored(path: Path, directory: Path, scratch: Path) -> Path:
    """Return where a path of the project, or one from outside, is mirrored."""
    try:
        return scratch / "files" / path.relative_to(directory)
    except ValueError:
        return scratch / "outside" / path.relative_to(path.anchor)


def with_copies(
    shell: str, env: Mapping[str, str], written: Sequence[Written], directory: Path
) -> tuple[str, dict[str, str]]:
    """Return a command, and the variables for it, that read the copies.

    Raises ConfigError for a copy that would not be read, since neither the command nor a variable names its original.
    """
    if not written:
        return shell, dict(env)
    scratch = _scratch(written[0], directory)
    overlay = _Overlay(directory, {copy.original: copy for copy in written}, scratch, dict(env))
    for copy in written:
        overlay.linked |= set(_folders(copy.original, directory)) if copy.has_neighbours else set()
    shell = _rewritten(shell, overlay)
    for name, value in {**os.environ, **env}.items():
        path = as_path(value, directory) if "/" in value or "." in value else None
        if path is not None and path in overlay.copies and env.get(name) == overlay.env.get(name):
            overlay.env[name] = str(overlay.copies[path].path)
            overlay.used.add(path)
    for path, copy in overlay.copies.items():
        if path not in overlay.used:
            raise ConfigError(
                f"{copy.name} has knobs in it, but neither command.run nor a variable names the file, so its edited "
                f"copy would not be read; pass {copy.name} to the command (as an argument, or in command.env)"
            )
    return shell, overlay.env


def _scratch(copy: Written, directory: Path) -> Path:
    depth = len(mirrored(copy.original, directory, Path("s")).parts) - 1
    return copy.path.parents[depth - 1]


def _rewritten(shell: str, overlay: _Overlay) -> str:
    """Return a shell text whose words are those of the copies."""
    changes: dict[Word, str] = {}
    for words, folder in placed_commands(shell, overlay.directory):
        container = containers_of(words, folder)
        if container is None:
            _exchange(words, folder, overlay, changes)
        else:
            _mount(container, overlay, changes)
    return replaced(shell, changes)


def _exchange(words: Sequence[Word], folder: Path, overlay: _Overlay, changes: dict[Word, str]) -> None:
    """Give a command on this machine, run in a folder, the copies of what it names."""
    for before, word in zip([None, *words], words, strict=False):
        if before is not None and before.value == "-m":
            _use_module(word.value, folder, overlay)
            continue
        for start, text in _paths_in(word.value):
            path = as_path(text, folder)
            new = None if path is None else _taken(path, overlay)
            if new is not None:
                changes[word] = quoted(start + str(new))
                break


def _paths_in(value: str) -> Iterator[tuple[str, str]]:
    """Yield what may be a path in a word: all of it, or what stands behind `=`; with what stands before."""
    yield "", value
    start, mark, rest = value.partition("=")
    if mark and rest:
        yield f"{start}=", rest


def _taken(path: Path, overlay: _Overlay) -> Path | None:
    """Return the copy to be read in place of a file; None where there is none."""
    copy = overlay.copies.get(path)
    if copy is not None:
        overlay.used.add(path)
    if path.suffix in _SHELLS and path.is_file():
        return _script_with_copies(path, overlay)
    if copy is not None:
        return copy.path
    if path.suffix == ".py" and path.parent in overlay.linked and path.is_file():
        new = mirrored(path, overlay.directory, overlay.scratch)
        _write(new, path.read_bytes(), path, overlay.scratch)  # beside a link's end Python would look for imports
        overlay.used |= {known for known in overlay.copies if known.suffix == ".py"}  # what it imports
        return new
    return None


def _script_with_copies(path: Path, overlay: _Overlay) -> Path | None:
    """Return the copy of a shell script, which names the other copies; None where there is nothing to change in it."""
    copy = overlay.copies.get(path)
    try:
        text = (copy.path if copy else path).read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    new_text = _rewritten(text, overlay)
    if new_text == text:
        return copy.path if copy else None
    new = mirrored(path, overlay.directory, overlay.scratch)
    _write(new, new_text.encode(), path, overlay.scratch)
    return new


def _use_module(name: str, folder: Path, overlay: _Overlay) -> None:
    """Let `python -m` find a module of the project among the copies first."""
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    if path not in overlay.copies and (path.parent not in overlay.linked or not path.is_file()):
        return
    overlay.used |= {known for known in overlay.copies if known.suffix == ".py"}
    root = mirrored(folder, overlay.directory, overlay.scratch)
    before = overlay.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    overlay.env["PYTHONPATH"] = os.pathsep.join([str(root), str(folder), *([before] if before else [])])
    overlay.env["PYTHONSAFEPATH"] = "1"  # else the working folder comes first


def _mount(container: Container, overlay: _Overlay, changes: dict[Word, str]) -> None:
    """Give a command in a container the copies: mounted where it is told to look, or over the originals."""
    mounts: list[str] = []
    for number, (path, copy) in enumerate(overlay.copies.items()):
        inside = container.path_of(path)
        word, start = container.word_for(path, inside)
        source = container.source_for(path)
        target = f"/hotlap_files/{number}/{path.name}"
        names = [name for name, value in overlay.env.items() if container.is_named_by(value, path, inside)]
        if source is not None:
            changes[source] = quoted(f"{copy.path}:{source.value.partition(':')[2]}")
        elif (word is not None or names) and not copy.has_neighbours:
            mounts.append(f"{copy.path}:{target}:ro")
            overlay.env |= dict.fromkeys(names, target)
            if word is not None:
                changes[word] = quoted(start + target)
        elif inside is not None:
            mounts.append(f"{copy.path}:{inside}:ro")
        else:
            continue
        overlay.used.add(path)
    if mounts:
        run = container.run
        changes[run] = " ".join([run.value, *(f"-v {quoted(mount)}" for mount in mounts)])


def _write(path: Path, content: bytes, original: Path, scratch: Path) -> None:
    """Write a copy where nothing of the user's is: a link on the way to it becomes a folder of links."""
    for folder in reversed(path.parents):
        if scratch in folder.parents and folder.is_symlink():
            leads_to = folder.resolve()
            folder.unlink()
            _link_all(leads_to, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    shutil.copymode(original, path)


def _speaks_of_neighbours(copy: Copy) -> bool:
    """Say whether a file names others by paths relative to its own folder."""
    folder = copy.original.parent
    names = set(_FILE_NAMES.findall(copy.text)) - {copy.original.name}
    return any(not name.startswith("/") and (folder / name).is_file() for name in names)


def _folders(path: Path, directory: Path) -> list[Path]:
    """Return the folders from the project down to that of a file; from outside its own alone."""
    if directory not in path.parents:
        return [path.parent]
    inner = [folder for folder in path.parents if folder == directory or directory in folder.parents]
    return inner[::-1]


def _link_all(folder: Path, mirror: Path) -> None:
    mirror.mkdir(parents=True, exist_ok=True)
    for entry in sorted(folder.iterdir()):
        link = mirror / entry.name
        if entry.name not in _NOT_LINKED and not link.is_symlink() and not link.exists():
            link.symlink_to(entry)
