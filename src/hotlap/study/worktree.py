"""Where the runs of changed code happen: a worktree of the snapshot with the change in it, and the data linked in.

with checked_out(store, commit, snapshot, edits, path) as workspace:
    ...  # start the command in workspace.directory
    problems = workspace.problems(store)
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotlap.config.edits import EditsConfig
from hotlap.core.errors import ConfigError
from hotlap.study.code_store import NOTES_FOLDER, REGULAR_MODES, CodeStore, Snapshot
from hotlap.study.manifest import digest

CODE_SUFFIXES: Final = (".py", ".pth", ".so", ".pyd", ".sh")
"""New files that could stand in for the project's own: an import or a command may find them first."""
LARGEST_FILE: Final = 2**22
"""Bytes of the largest file that a change may leave."""
_READ_ONLY: Final = stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A worktree that a command may be started in."""

    top: Path
    """The worktree: what the top of the user's repository is."""
    directory: Path
    """The project's folder in it."""
    project: Path
    """The user's own project, whose place it takes."""
    tree: str
    """What git says that it holds."""
    prefix: str
    edits: EditsConfig

    def problems(self, store: CodeStore) -> list[str]:
        """Say what a command did in it that it must not do: write what is protected, or bring code of its own."""
        if not self.directory.is_dir():
            return ["it removed the folder that it ran in"]
        found = []
        changed, new = store.touched(self.top, self.tree, self.linked)
        for name in (path.removeprefix(self.prefix) for path in changed):
            if self.edits.is_protected(name):
                found.append(f"{name} was changed while it ran, and edits.protect holds it")
            elif name.endswith(CODE_SUFFIXES):
                found.append(f"{name} was changed while it ran, so what was measured is not what was proposed")
        for name in (path.removeprefix(self.prefix) for path in new):
            if name.endswith(CODE_SUFFIXES):
                found.append(f"it wrote {name} while it ran, which other code may run in place of the project's own")
        return found

    @property
    def linked(self) -> list[str]:
        """The linked paths, as the worktree has them."""
        return [f"{self.prefix}{name}" for name in self.edits.link]

    def edit(self, store: CodeStore) -> str:
        """Return the tree with what somebody has edited in it.

        Raises ConfigError for files that are too large to be code: they are not stored; and where the folder is gone.
        """
        if not self.directory.is_dir():
            raise ConfigError("the folder that it was started in is gone")
        changed, new = store.touched(self.top, self.tree, self.linked)
        for path in (*changed, *new):
            place = self.top / path
            if place.is_file() and place.lstat().st_size > LARGEST_FILE:
                raise ConfigError(f"{path} has more than {LARGEST_FILE} bytes, which is no code")
        return store.tree_of(self.top, self.tree, self.linked)


@contextmanager
def checked_out(
    store: CodeStore, commit: tuple[str, str], snapshot: Snapshot, edits: EditsConfig, project: Path, path: Path
) -> Iterator[Workspace]:
    """Make a worktree of a commit (given with its tree), and take it away afterwards with all that was left in it."""
    name, tree = commit
    store.check_out(name, path)
    workspace = workspace_at(path, tree, snapshot, edits, project)
    try:
        link_all(edits, project, workspace.directory)
        yield workspace
    finally:
        store.remove(path)


def workspace_at(path: Path, tree: str, snapshot: Snapshot, edits: EditsConfig, project: Path) -> Workspace:
    """Return the workspace that lies in a folder."""
    return Workspace(
        top=path, directory=path / snapshot.prefix, project=project, tree=tree, prefix=snapshot.prefix, edits=edits
    )


def refusals(store: CodeStore, before: str, after: str, snapshot: Snapshot, edits: EditsConfig) -> list[str]:
    """Say which files a change touches that it may not touch, and why."""
    found = []
    for change in store.changed(before, after):
        name = change.path.removeprefix(snapshot.prefix)
        if not change.path.startswith(snapshot.prefix):
            found.append(f"{change.path}, which lies outside of the project's folder")
        elif edits.is_protected(name):
            found.append(f"{name}, which edits.protect holds")
        elif not edits.is_editable(name):
            found.append(f"{name}, which edits.files does not name")
        elif change.mode not in (*REGULAR_MODES, "000000"):
            found.append(f"{name}, which would be no ordinary file")
    return found


def linked_files(edits: EditsConfig, project: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that `edits.link` names, by its path in the project.

    Raises ConfigError for what is not there.
    """
    found: dict[str, str] = {}
    for name in edits.link:
        place = project / name.rstrip("/")
        if not place.exists():
            raise ConfigError(f"edits.link: {name} is not in {project}; name what the command reads and git ignores")
        paths = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        found |= {path.relative_to(project).as_posix(): digest(path) for path in paths}
    return found


def link_all(edits: EditsConfig, project: Path, directory: Path) -> None:
    """Link what `edits.link` names into a worktree; the folders that are made for it cannot be written in."""
    for name in edits.link:
        source, target = project / name.rstrip("/"), directory / name.rstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)


def _link(source: Path, target: Path) -> None:
    if not source.is_dir():
        if not target.exists():
            target.symlink_to(Path(os.path.realpath(source)))
        return
    target.mkdir(exist_ok=True)
    for entry in sorted(source.iterdir()):
        _link(entry, target / entry.name)
    target.chmod(_READ_ONLY)


def _files_of(word: str) -> tuple[str, ...]:
    """Return the files that a word of a command can mean: itself, or a module, as `python -m` names them."""
    module = word.replace(".", "/")
    return word, f"{module}.py", f"{module}/__main__.py", f"{module}/__init__.py"


def with_standing_protection(edits: EditsConfig, snapshot: Snapshot, store: CodeStore, evaluator: str) -> EditsConfig:
    """Return the edits with what no change may touch: git's own files, the config, and the evaluator's files."""
    names = {name.removeprefix(snapshot.prefix) for name in store.modes(snapshot.tree)}
    words = evaluator.replace("=", " ").replace('"', " ").replace("'", " ").split()
    named = [file for word in words for file in _files_of(word.removeprefix("./"))]
    used = [file for file in named if file in names]
    standing = ("hotlap.yaml", "SPEEDRUN.md", "SPEEDRUN.hotlap.md", "**/.gitignore", "**/.gitattributes", ".gitmodules")
    return edits.model_copy(update={"protect": (*edits.protect, *standing, f"{NOTES_FOLDER}/", *used)})
