"""The code of a study: what it began with, what its candidates make of it, and where their runs happen.

study.code = open_code(project, folder, config)
seen = study.code.examine(history, parent, patch)      # is it allowed, does it apply, and what exactly does it change
with study.code.workspace(history, candidate, "r0007") as workspace: ...
study.code.record(history)                             # kept changes become commits on hotlap/<study>
"""

import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from hotlap.config.edits import EditsConfig
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.files import write_atomic
from hotlap.core.records import History, Proposal
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.study.code_store import CodeStore, GitError, Snapshot
from hotlap.study.worktree import (
    Workspace,
    checked_out,
    linked_files,
    refusals,
    with_standing_protection,
    workspace_at,
)

LARGEST_PATCH: Final = 2**20
"""Characters of the largest patch; what is larger is data, not a change of code."""
UNVERIFIED: Final = "unverified: the figures are what the changed code printed, and no command.evaluator checks them"
_MARK: Final = "Hotlap-Proposal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is to be said of a patch."""

    code: str
    """The exact change, as git writes it; the patch as it was given where it does not apply."""
    tree: str = ""
    problem: str = ""
    """Why it is refused; empty when it is not."""


@final
class StudyCode:
    """The code of one study."""

    def __init__(
        self,
        project: ProjectFolder,
        folder: StudyFolder,
        edits: EditsConfig,
        snapshot: Snapshot,
        store: CodeStore | None = None,
    ) -> None:
        self.store = store or CodeStore(project)
        self.snapshot = snapshot
        self.edits = edits
        self._project = project
        self._folder = folder
        self._trees: dict[tuple[str, ...], str] = {(): snapshot.tree}

    @property
    def branch(self) -> str:
        """The branch of kept changes."""
        return branch_of(self._folder.name)

    def linked(self) -> dict[Path, str]:
        """Return what the linked files held when the study began: SHA-256 by path."""
        stored = (self._folder.code() or {}).get("linked") or {}
        return {self._project.project / name: content for name, content in stored.items()}

    def tree_of(self, history: History, candidate: int) -> str:
        """Return the tree of a candidate."""
        changes = history.code_of(candidate)
        for end in range(1, len(changes) + 1):
            if changes[:end] not in self._trees:
                self._trees[changes[:end]] = self.store.applied(self._trees[changes[: end - 1]], changes[end - 1])
        return self._trees[changes]

    def examine(self, history: History, parent: int, patch: str) -> Examined:
        """Look at a patch of a candidate's code; nothing is run."""
        if len(patch) > LARGEST_PATCH:
            return Examined(code=patch[:LARGEST_PATCH], problem=f"it is larger than {LARGEST_PATCH} characters")
        before = self.tree_of(history, parent)
        try:
            after = self.store.applied(before, patch)
        except GitError as error:
            if not self.snapshot.prefix:
                return Examined(code=patch, problem=f"it does not apply: {error}")
            try:
                after = self.store.applied(before, moved_below(patch, self.snapshot.prefix))
            except GitError:
                return Examined(code=patch, problem=f"it does not apply: {error}")
        return self.compare(before, after)

    def compare(self, before: str, after: str) -> Examined:
        """Look at the change from one tree to another."""
        code = self.store.diff(before, after)
        if not code:
            return Examined(code="", tree=after, problem="it changes no file")
        touched = refusals(self.store, before, after, self.snapshot, self.edits)
        if len(code) > LARGEST_PATCH:
            touched.append(f"more than {LARGEST_PATCH} characters")
        if (text := _mended(code)) != code:
            code = text
            touched.append("text that is not UTF-8")
        return Examined(code=code, tree=after, problem=f"it changes {'; '.join(touched)}" if touched else "")

    def problem_with(self, history: History, proposal: Proposal) -> str:
        """Say why the code of a proposal is refused; empty when it is not, or when it changes none."""
        return self.examine(history, proposal.parent, proposal.code).problem if proposal.code else ""

    @contextmanager
    def workspace(self, history: History, candidate: int, name: str) -> Iterator[Workspace]:
        """Make a worktree with a candidate's code in `.hotlap/worktrees/NAME`, and take it away afterwards."""
        tree = self.tree_of(history, candidate)
        title = history.proposal(candidate).title if candidate else "the baseline"
        commit = self.store.commit(tree, [self.snapshot.commit], title)
        path = self._project.worktrees_path / name
        with checked_out(self.store, (commit, tree), self.snapshot, self.edits, self._project.project, path) as made:
            yield made

    def left_workspace(self, history: History, candidate: int, name: str) -> Workspace | None:
        """Return the worktree of a run whose driver was killed; None where it is gone."""
        path = self._project.worktrees_path / name
        if not path.is_dir():
            return None
        tree = self.tree_of(history, candidate)
        return workspace_at(path, tree, self.snapshot, self.edits, self._project.project)

    def clear(self, names: Iterable[str]) -> None:
        """Take worktrees away that a killed driver left behind: those of ended runs, and of the study's agent."""
        agents = self._project.worktrees_path.glob(f"{glob.escape(agent_prefix(self._folder.name))}*")
        for path in (*(self._project.worktrees_path / name for name in names), *agents):
            if path.exists():
                self.store.remove(path)

    def save_patch(self, proposal: Proposal) -> None:
        """Keep the patch of a proposal as a file, whatever becomes of it."""
        self._folder.patches_path.mkdir(parents=True, exist_ok=True)
        write_atomic(self._folder.patches_path / f"{proposal.number:04}.patch", _mended(proposal.code))

    def record(self, history: History) -> None:
        """Bring the branch of kept changes up to date: one commit for each, and none for what was taken back."""
        wanted = [proposal for proposal in history.changes_of(history.incumbent) if proposal.code]
        found = self.store.branch(self.branch)
        head, tree, kept = self.snapshot.commit, self.snapshot.tree, 0
        for commit, proposal in zip(found[1:], wanted, strict=False):
            if not _is_commit_of(self.store.message_of(commit), proposal.number):
                break
            head, kept = commit, kept + 1
        for proposal in wanted[kept:]:
            tree = self.tree_of(history, proposal.number)
            head = self.store.commit(tree, [head], _message(history, proposal, self._folder.name))
        if not found or found[-1] != head:
            self.store.set_branch(self.branch, head)


def agent_prefix(study: str) -> str:
    """Return what the worktrees of a study's agent begin with; no run is called so."""
    return f"{study}@agent-"


def branch_of(study: str) -> str:
    """Return the branch that holds a study's kept changes."""
    return f"hotlap/{study}"


def open_code(project: ProjectFolder, folder: StudyFolder, config: RunConfig) -> StudyCode | None:
    """Return the code of a study, None where nothing may be edited; a new study takes its snapshot now.

    Raises StudyError when the snapshot of an old one is gone, ConfigError for linked files that are missing.
    """
    if config.edits is None:
        return None
    store = CodeStore(project).create()
    stored = folder.code()
    if stored is None:
        linked = linked_files(config.edits, project.project)
        snapshot = store.snapshot()
        store.set_branch(branch_of(folder.name), snapshot.commit)
        folder.write_code({**snapshot.facts(), "linked": linked})
    else:
        snapshot = Snapshot.from_facts(stored)
        if not store.has(snapshot.commit):
            raise StudyError(
                f"the code that the study {folder.name!r} began with is gone from {store.path}; restore that folder, "
                "or start a study with another name (-s name=...)"
            )
    return StudyCode(project, folder, protected_edits(config, snapshot, store), snapshot)


def protected_edits(config: RunConfig, snapshot: Snapshot, store: CodeStore) -> EditsConfig:
    """Return what a config lets proposals change, less what no proposal may change."""
    assert config.edits is not None, "somebody checked that there are edits"
    evaluator = (config.command.evaluator if config.command else None) or ""
    return with_standing_protection(config.edits, snapshot, store, evaluator)


def stored_code(project: ProjectFolder, folder: StudyFolder, config: RunConfig) -> StudyCode | None:
    """Return the code of a study that has begun, for reading only; None where it changes none."""
    stored = folder.code()
    if config.edits is None or stored is None:
        return None
    return StudyCode(project, folder, config.edits, Snapshot.from_facts(stored))


def needed_code(code: StudyCode | None) -> StudyCode:
    """Return the code of a study; raises ConfigError where its config lets nobody change code."""
    if code is None:
        raise ConfigError("a patch changes code, and the config does not say which; add edits: {files: [train.py]}")
    return code


def moved_below(patch: str, prefix: str) -> str:
    """Return a patch whose paths are meant from the project's folder as one from the top of the repository."""
    names = re.compile(
        r"^(--- |\+\+\+ |rename from |rename to |copy from |copy to )(?!/dev/null)(a/|b/)?", re.MULTILINE
    )
    moved = names.sub(lambda match: f"{match[1]}{match[2] or ''}{prefix}", patch)
    return re.sub(r"^diff --git a/(.*) b/(.*)$", rf"diff --git a/{prefix}\1 b/{prefix}\2", moved, flags=re.MULTILINE)


def _is_commit_of(message: str, number: int) -> bool:
    return re.search(rf"^{_MARK}: {number}$", message, re.MULTILINE) is not None


def _message(history: History, proposal: Proposal, study: str) -> str:
    decision = history.verdict(proposal.number)
    reason = decision.reason if decision else "not decided"
    return (
        f"{_one_line(proposal.title)}\n\n{proposal.hypothesis}\n\nKept: {reason}\n\n"
        f"Hotlap-Study: {study}\n{_MARK}: {proposal.number}\n"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "A change of the code"


def _mended(text: str) -> str:
    """Return text that can be written as UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
