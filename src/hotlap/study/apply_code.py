"""Carry kept changes of code into the user's own files, and their commits into the user's repository.

code = plan_code(project, "my-study", history, numbers)     # nothing is written
code.write()
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotlap.config.load import config_from_values
from hotlap.core.errors import StudyError
from hotlap.core.records import History
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.code import StudyCode, branch_of, stored_code
from hotlap.study.code_store import Changed, GitError, is_repository, plain_environment, run_git, user_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeApplication:
    """What becomes of the user's files and repository."""

    top: Path
    """The top of the user's working tree; paths in the patch start there."""
    patch: str
    """What is still missing of the kept changes; empty where the files have them already."""
    files: tuple[str, ...]
    branch: str
    """Branch of the user's repository that gets the commits; empty without a repository."""
    store: Path
    head: str
    """The commit that the study's snapshot was taken at."""

    def write(self) -> None:
        """Change the files, then bring the branch over; raises StudyError where that fails."""
        if self.patch:
            _apply(self.top, self.patch, check=False)
        if self.branch:
            _bring_branch(self.top, self.store, self.branch, self.head)


def plan_code(project: ProjectFolder, study: str, history: History, numbers: Sequence[int]) -> CodeApplication | None:
    """Return what applying proposals makes of the code, None where none of them changes any.

    Raises StudyError when their patches do not fit the files as they are now.
    """
    proposals = [history.proposal(number) for number in numbers if history.proposal(number).code]
    if not proposals:
        return None
    folder = project.study(study)
    values = (folder.protocol() or {}).get("config") or {}
    code = stored_code(project, folder, config_from_values(values))
    if code is None or not code.store.has(code.snapshot.commit):
        raise StudyError(
            f"the code of the study {study!r} is gone from {project.code_path}; its patches are in "
            f"{folder.patches_path}"
        )
    top = _top(project.project.resolve(), code)
    is_chain = len(numbers) > 1 or proposals[0].parent == 0
    patch = _joined(code, history, numbers[-1]) if is_chain else proposals[0].code
    if _fits(top, patch, reverse=True):
        patch = ""
    elif not _fits(top, patch):
        _apply(top, patch, check=True)  # says where it does not fit
    files = tuple(change.path for change in _changes(code, history, numbers)) if patch else ()
    branch = branch_of(study) if is_repository(top) else ""
    return CodeApplication(
        top=top, patch=patch, files=files, branch=branch, store=code.store.path, head=code.snapshot.head
    )


def _joined(code: StudyCode, history: History, candidate: int) -> str:
    """Return the change from the snapshot to a candidate as one patch."""
    return code.store.diff(code.snapshot.tree, code.tree_of(history, candidate))


def _changes(code: StudyCode, history: History, numbers: Sequence[int]) -> list[Changed]:
    before = code.tree_of(history, history.proposal(numbers[0]).parent)
    return code.store.changed(before, code.tree_of(history, numbers[-1]))


def _top(project: Path, code: StudyCode) -> Path:
    """Return the folder that the snapshot's paths start from."""
    top = project
    for _ in Path(code.snapshot.prefix).parts:
        top = top.parent
    return top


def _fits(top: Path, patch: str, *, reverse: bool = False) -> bool:
    try:
        run_git(_words(check=True, reverse=reverse), environment=plain_environment(), given=patch, at=top)
    except GitError:
        return False
    return True


def _apply(top: Path, patch: str, *, check: bool) -> None:
    try:
        run_git(_words(check=check), environment=plain_environment(), given=patch, at=top)
    except GitError as error:
        raise StudyError(
            f"the kept changes do not fit the files in {top} as they are now: {error}\nnothing was written; commit or "
            "stash what was changed there since the study began, then apply again"
        ) from error


def _words(*, check: bool, reverse: bool = False) -> list[str]:
    return ["apply", "--whitespace=nowarn", *(["--check"] if check else []), *(["--reverse"] if reverse else []), "-"]


def _bring_branch(top: Path, store: Path, branch: str, head: str) -> None:
    """Write the commits of kept changes into the user's repository, on top of the commit that the study began at."""
    commits = run_git(
        ["--git-dir", str(store), "rev-list", "--reverse", "--first-parent", f"refs/heads/{branch}"],
        environment=plain_environment(),
    ).split()
    user = user_environment()
    fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(store), f"refs/heads/{branch}"]
    run_git(fetch, environment=user, at=top)
    if _is_there(top, branch, commits[-1], user):
        return
    parent = head
    for number, commit in enumerate(commits):
        tree = _tree_of(top, commit, user)
        if number == 0 and parent and tree == _tree_of(top, parent, user):
            continue  # the working tree was clean: the snapshot is the user's own commit
        message = run_git(["show", "--no-patch", "--format=%B", commit], environment=user, at=top)
        onto = ["-p", parent] if parent else []
        parent = run_git(["commit-tree", tree, *onto], environment=user, given=message, at=top).strip()
    run_git(["update-ref", f"refs/heads/{branch}", parent], environment=user, at=top)


def _is_there(top: Path, branch: str, commit: str, environment: Mapping[str, str]) -> bool:
    """Say whether the user's branch holds all of it already; raises StudyError for one that is checked out."""
    try:
        if _tree_of(top, f"refs/heads/{branch}", environment) == _tree_of(top, commit, environment):
            return True
        current = run_git(["symbolic-ref", "-q", "HEAD"], environment=environment, at=top).strip()
    except GitError:
        return False  # no such branch yet, or no branch is checked out
    if current == f"refs/heads/{branch}":
        raise StudyError(
            f"the files have the kept changes, but {branch} is checked out and was not moved; "
            "switch to another branch, then apply again"
        )
    return False


def _tree_of(top: Path, commit: str, environment: Mapping[str, str]) -> str:
    return run_git(["rev-parse", f"{commit}^{{tree}}"], environment=environment, at=top).strip()
