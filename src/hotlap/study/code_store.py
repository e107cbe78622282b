"""`.hotlap/code.git`: the project's code as a study found it, and every change of it, in a git repository of its own.

    store = CodeStore(project)
    snapshot = store.snapshot()
    tree = store.applied(snapshot.tree, patch)
    store.check_out(store.commit(tree, [snapshot.commit], "a change"), worktree)

The user's own repository is only read: its index, its branches and its files stay as they are, byte for byte.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from hotlap.core.errors import NotSupportedError, StorageError, StudyError
from hotlap.core.files import remove_tree, write_atomic
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.journal import JOURNAL_NAME, MARKER

GIT_SECONDS: Final = 600.0
LARGEST_UNTRACKED: Final = 2**25
"""Bytes of a file that git does not know above which it is taken for data or weights, and left out of snapshots."""
NOTES_FOLDER: Final = ".hotlap-agent"
"""Folder in a worktree through which an agent is told its task and answers; it is no part of any change."""
REGULAR_MODES: Final = ("100644", "100755")
"""What git calls ordinary files; links and nested repositories have others."""
_IDENTITY: Final = {"NAME": "hotlap", "EMAIL": "hotlap@localhost"}
_EXCLUDED: Final = f"__pycache__/\n*.pyc\n.hotlap/\n{NOTES_FOLDER}/\n"
_AS_IT_IS: Final = "* -text -filter -ident -working-tree-encoding !diff !eol !export-subst\n"
"""Attributes that win over a project's own: what is stored is what lies in the folder, byte for byte."""
_WAYS_TO_APPLY: Final = ((), ("--3way",), ("--recount",), ("-p0",), ("-C1", "--recount"))
"""How patches are tried that were written by hand: for the code before, with wrong counts, without a/ and b/, moved."""


class GitError(StudyError):
    """A git command that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The project's working tree at one moment."""

    tree: str
    commit: str
    head: str = ""
    """The commit that the user's repository stood at; empty without one."""
    prefix: str = ""
    """Path of the project in the tree, `experiments/`; empty where it is the whole."""
    files: int = 0
    left_out: tuple[str, ...] = ()
    """Untracked files that are too large to be code."""

    def facts(self) -> dict[str, Any]:
        """Return what a study writes down of it."""
        return {"schema": "hotlap/code/1", **asdict(self)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Snapshot":
        """Return what a study wrote down."""
        values = {name: facts[name] for name in cls.__slots__}
        return cls(**{**values, "left_out": tuple(values["left_out"])})


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that differs between two trees."""

    path: str
    mode: str
    """Git's mode of the new file, `000000` where it is gone."""


@final
class CodeStore:
    """The repository of a project's changes."""

    def __init__(self, project: ProjectFolder, path: Path | None = None) -> None:
        self._project = project
        self.path = path or project.code_path
        """The repository: the project's own, or another one to try things in."""

    def create(self, other: "CodeStore | None" = None) -> "CodeStore":
        """Make the repository where there is none yet; one that knows the objects of `other`, if that is given.

        Raises NotSupportedError without git and StorageError when it cannot be written.
        """
        if self.path == self._project.code_path:
            self._project.create()
        if not (self.path / "HEAD").exists():
            run_git(["init", "-q", "--bare", str(self.path)], environment=plain_environment())
        try:
            (self.path / "info").mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write in {self.path}: {error.strerror or error}") from error
        if other is not None:
            write_atomic(self.path / "objects" / "info" / "alternates", f"{other.path.absolute() / 'objects'}\n")
        write_atomic(self.path / "info" / "attributes", _AS_IT_IS)
        write_atomic(self.path / "info" / "exclude", _EXCLUDED)
        for key, value in {"core.autocrlf": "false", "gc.auto": "0", "core.logAllRefUpdates": "false"}.items():
            self._git("config", key, value)
        return self

    def snapshot(self) -> Snapshot:
        """Store the working tree that the project lies in, untracked files included and ignored ones left out."""
        project = self._project.project.resolve()
        top, head = _repository_of(project)
        prefix = "" if top == project else f"{project.relative_to(top).as_posix()}/"
        names = [name for name in self._listed(top) if self._belongs(top, prefix, name)]
        known = set(_ask(top, "ls-files", "-z", "--cached").split("\0")) if is_repository(top) else set()
        left_out = {name for name in names if name not in known and _size_of(top / name) > LARGEST_UNTRACKED}
        names = [name for name in names if name not in left_out]
        with self._index() as index:
            place = {"GIT_INDEX_FILE": index, "GIT_WORK_TREE": str(top)}
            self._git("update-index", "--add", "--remove", "-z", "--stdin", given="\0".join(names), more=place, at=top)
            tree = self._git("write-tree", more=place).strip()
        commit = self.commit(tree, [], f"The working tree{f' at {head}' if head else ''}")
        return Snapshot(
            tree=tree, commit=commit, head=head, prefix=prefix, files=len(names), left_out=tuple(sorted(left_out))
        )

    def applied(self, tree: str, patch: str) -> str:
        """Return the tree that a patch makes of another; raises GitError where it does not apply."""
        first = ""
        for way in _WAYS_TO_APPLY:
            try:
                return self._applied(tree, patch, way)
            except GitError as error:
                first = first or str(error)
        raise GitError(first)

    def without(self, tree: str, patch: str) -> str | None:
        """Return the tree with a patch taken out again, None where later changes stand on it."""
        try:
            return self._applied(tree, patch, ("--reverse",))
        except GitError:
            return None

    def _applied(self, tree: str, patch: str, way: Sequence[str]) -> str:
        with self._index() as index:
            more = {"GIT_INDEX_FILE": index}
            self._git("read-tree", tree, more=more)
            self._git("apply", "--cached", "--whitespace=nowarn", *way, "-", given=patch, more=more)
            return self._git("write-tree", more=more).strip()

    def replaced(self, tree: str, contents: Mapping[str, str]) -> str:
        """Return a tree with other contents of some of its files, by path."""
        with self._index() as index:
            more = {"GIT_INDEX_FILE": index}
            self._git("read-tree", tree, more=more)
            modes = {name: mode for name, mode in self.modes(tree).items() if name in contents}
            for name, text in contents.items():
                blob = self._git("hash-object", "-w", "--stdin", given=text).strip()
                entry = f"{modes.get(name, REGULAR_MODES[0])} {blob}\t{name}\0"
                self._git("update-index", "-z", "--index-info", given=entry, more=more)
            return self._git("write-tree", more=more).strip()

    def commit(self, tree: str, parents: Sequence[str], message: str) -> str:
        """Return a new commit of a tree."""
        return self._git("commit-tree", tree, *(f"-p{parent}" for parent in parents), given=message).strip()

    def diff(self, before: str, after: str) -> str:
        """Return the exact patch between two trees; empty when they are the same."""
        return self._git("diff-tree", "-p", "--binary", "--full-index", "--no-renames", *_PLAIN_DIFF, before, after)

    def changed(self, before: str, after: str) -> list[Changed]:
        """Return the files that differ between two trees."""
        parts = self._git("diff-tree", "-r", "-z", "--raw", "--no-renames", before, after).split("\0")[:-1]
        return [Changed(path, facts.split()[1]) for facts, path in zip(parts[::2], parts[1::2], strict=True)]

    def modes(self, tree: str) -> dict[str, str]:
        """Return the files of a tree with their modes."""
        entries = self._git("ls-tree", "-r", "-z", "--full-tree", tree).split("\0")[:-1]
        return {entry.partition("\t")[2]: entry.split(" ", 1)[0] for entry in entries}

    def text_of(self, tree: str, path: str) -> str | None:
        """Return a file of a tree as text, None where there is none."""
        try:
            return self._git("cat-file", "blob", f"{tree}:{path}")
        except GitError:
            return None

    def has(self, name: str) -> bool:
        """Say whether an object or a branch is there."""
        try:
            self._git("cat-file", "-e", name)
        except GitError:
            return False
        return True

    def tree_of(self, folder: Path, base: str, leave_out: Iterable[str] = ()) -> str:
        """Return the tree that a worktree holds by now; what git ignores in it is left out, and so are some paths."""
        with self._index() as index:
            more = {"GIT_INDEX_FILE": index, "GIT_WORK_TREE": str(folder)}
            self._git("read-tree", base, more=more)
            self._git("-c", self._exclude(index, leave_out), "add", "--all", "--", ".", more=more, at=folder)
            return self._git("write-tree", more=more).strip()

    def touched(self, folder: Path, base: str, leave_out: Iterable[str] = ()) -> tuple[list[str], list[str]]:
        """Return the files of a tree that a worktree holds otherwise by now, and its new ones that git does not ignore.

        Nothing is stored: a run may have left large files.
        """
        with self._index() as index:
            more = {"GIT_INDEX_FILE": index, "GIT_WORK_TREE": str(folder)}
            self._git("read-tree", base, more=more)
            with suppress(GitError):  # what it says of files that differ is asked for by the next command
                self._git("update-index", "-q", "--really-refresh", more=more, at=folder)
            changed = self._git("diff-files", "-z", "--name-only", more=more, at=folder).split("\0")[:-1]
            excluded = self._exclude(index, leave_out)
            words = ("ls-files", "-z", "--others", "--exclude-standard")
            new = self._git("-c", excluded, *words, more=more, at=folder).split("\0")[:-1]
        return changed, new

    @staticmethod
    def _exclude(index: str, names: Iterable[str]) -> str:
        """Return the setting by which git leaves paths of a worktree out."""
        place = Path(index).with_name("excluded")
        place.write_text("".join(f"/{_escaped(name.rstrip('/'))}\n" for name in names), encoding="utf-8")
        return f"core.excludesFile={place}"

    def check_out(self, commit: str, folder: Path) -> None:
        """Make a worktree of a commit."""
        self.remove(folder)
        self._git("worktree", "add", "--quiet", "--detach", "--force", str(folder), commit)

    def remove(self, folder: Path) -> None:
        """Take a worktree away with all that was left in it, also one whose making was broken off."""
        remove_tree(folder)
        for entry in (self.path / "worktrees").glob("*/gitdir"):
            if Path(entry.read_text(encoding="utf-8").strip()).parent in (folder, folder.resolve()):
                entry.with_name("locked").unlink(missing_ok=True)  # git locks what it is still making
        self._git("worktree", "prune")

    def branch(self, name: str) -> list[str]:
        """Return the commits of a branch, oldest first; none where there is no such branch."""
        if not self.has(f"refs/heads/{name}"):
            return []
        return self._git("rev-list", "--reverse", "--first-parent", f"refs/heads/{name}").split()

    def message_of(self, commit: str) -> str:
        """Return the message of a commit."""
        return self._git("show", "--no-patch", "--format=%B", commit)

    def set_branch(self, name: str, commit: str) -> None:
        """Let a branch end at a commit."""
        self._git("update-ref", f"refs/heads/{name}", commit)

    def _listed(self, top: Path) -> Iterator[str]:
        """Yield the files of a working tree that git does not ignore, those of repositories inside it included."""
        if is_repository(top):
            listed = _ask(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        else:
            more = {"GIT_WORK_TREE": str(top), "GIT_INDEX_FILE": str(self.path / "no-index")}
            listed = self._git("ls-files", "-z", "--others", "--exclude-standard", more=more, at=top).split("\0")
        for name in dict.fromkeys(filter(None, listed)):
            inner = top / name
            if inner.is_dir() and not inner.is_symlink():
                if is_repository(inner):
                    yield from (f"{name.rstrip('/')}/{below}" for below in self._listed(inner))
                continue
            yield name

    def _belongs(self, top: Path, prefix: str, name: str) -> bool:
        """Say whether a file is the user's own: what hotlap writes beside the config is no code."""
        inside = name.removeprefix(prefix)
        if not name.startswith(prefix):
            return True
        if inside.startswith(".hotlap/"):
            return False
        journal = Path(JOURNAL_NAME)
        if inside not in (JOURNAL_NAME, f"{journal.stem}.hotlap{journal.suffix}"):
            return True
        return not (top / name).read_text(encoding="utf-8", errors="replace").startswith(MARKER)

    @contextmanager
    def _index(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=self.path, prefix="index-") as folder:
            yield str(Path(folder) / "index")

    def _git(self, *words: str, given: str = "", more: Mapping[str, str] | None = None, at: Path | None = None) -> str:
        environment = {**plain_environment(), "GIT_DIR": str(self.path), **(more or {})}
        return run_git(words, environment=environment, given=given, at=at or self.path)


_PLAIN_DIFF: Final = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")


def run_git(
    words: Sequence[str], *, environment: Mapping[str, str] | None = None, given: str = "", at: Path | None = None
) -> str:
    """Run git and return what it prints; text that is no UTF-8 comes and goes unchanged.

    Raises GitError with git's own message when it fails, NotSupportedError when it is not installed.
    """
    try:
        ended = subprocess.run(
            ["git", *words],
            input=given.encode("utf-8", "surrogateescape"),
            capture_output=True,
            cwd=at,
            env=dict(environment) if environment is not None else None,
            timeout=GIT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        if at is not None and not at.is_dir():
            raise GitError(f"git {words[0]}: the folder {at} is gone") from None
        raise NotSupportedError("git is not installed; changes of code need it (settings alone do not)") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git {words[0]}: {error}") from error
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip() or f"exit code {ended.returncode}"
        raise GitError(f"git {words[0]}: {said}")
    return ended.stdout.decode("utf-8", "surrogateescape")


def _escaped(name: str) -> str:
    """Return a name as a pattern of git's that fits it alone."""
    return "".join(f"\\{sign}" if sign in "\\*?[]#! " else sign for sign in name)


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def is_repository(folder: Path) -> bool:
    """Say whether a folder is the top of a git working tree."""
    return (folder / ".git").exists()


def _repository_of(project: Path) -> tuple[Path, str]:
    """Return the top of the working tree that a project is part of, and the commit it stands at.

    A project that git knows nothing of, or that a repository around it ignores, is a tree of its own.
    """
    try:
        top = Path(_ask(project, "rev-parse", "--show-toplevel").removesuffix("\n"))
    except GitError:
        return project, ""
    project_is_ignored = top != project and _succeeds(project, "check-ignore", "-q", str(project))
    if project_is_ignored or not project.is_relative_to(top):
        return project, ""
    try:
        return top, _ask(project, "rev-parse", "--verify", "-q", "HEAD").strip()
    except GitError:
        return top, ""


def _ask(folder: Path, *words: str) -> str:
    """Ask the user's own repository, by the user's own settings; nothing of it is written."""
    return run_git(words, environment={**user_environment(), "GIT_OPTIONAL_LOCKS": "0"}, at=folder)


def _succeeds(folder: Path, *words: str) -> bool:
    try:
        _ask(folder, *words)
    except GitError:
        return False
    return True


def user_environment() -> dict[str, str]:
    """Return an environment in which git goes by the user's settings, and commits are hotlap's own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**environment, **_who(), "LC_ALL": "C"}


def plain_environment() -> dict[str, str]:
    """Return an environment in which git reads no settings of the user's or the machine's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    environment |= {"LC_ALL": "C", "XDG_CONFIG_HOME": os.devnull, "GIT_CONFIG_COUNT": "0"}
    return {**environment, **_who()}


def _who() -> dict[str, str]:
    return {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _IDENTITY.items()}
