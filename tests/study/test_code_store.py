"""Snapshots and patches in a repository of hotlap's own; the user's is only read."""

import subprocess
from pathlib import Path

import pytest
from own_project import fingerprint, git

from hotlap.core.errors import NotSupportedError
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.code import moved_below
from hotlap.study.code_store import CodeStore, GitError, run_git


def files_of(store: CodeStore, tree: str) -> dict[str, str | None]:
    return {name: store.text_of(tree, name) for name in store.modes(tree)}


def test_a_snapshot_is_the_working_tree_byte_for_byte(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    odd = {"a b.txt": "x\r\ny\n", "d/ü.py": "1\n", ".gitattributes": "* text=auto eol=lf\n*.txt filter=lfs\n"}
    for name, text in {**odd, ".gitignore": "data/\nout\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "untracked").write_text("new")
    (tmp_path / "d" / "ü.py").write_text("2\n")
    (tmp_path / ".gitignore").unlink()
    (tmp_path / ".git" / "info" / "exclude").write_text("data/\nout\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big").write_text("no")
    (tmp_path / "SPEEDRUN.md").write_text("<!-- written by hotlap; notes go in with: hotlap runs note -->\n")
    project = ProjectFolder(tmp_path)
    before = fingerprint(project)
    store = CodeStore(project).create()
    snapshot = store.snapshot()
    expected: dict[str, str | None] = {**odd, "d/ü.py": "2\n", "untracked": "new"}
    assert files_of(store, snapshot.tree) == expected
    assert snapshot.head == git(tmp_path, "rev-parse", "HEAD").strip()
    assert fingerprint(project) == before
    worktree = project.worktrees_path / "r0001"
    store.check_out(snapshot.commit, worktree)
    assert (worktree / "a b.txt").read_bytes() == b"x\r\ny\n"
    (worktree / "d" / "ü.py").write_text("3\n")
    (worktree / "data").mkdir()
    (worktree / "data" / "new").write_text("left out")
    changed = store.changed(snapshot.tree, store.tree_of(worktree, snapshot.tree, ["data/"]))
    assert [change.path for change in changed] == ["d/ü.py"]
    store.remove(worktree)
    assert not worktree.exists()


def test_a_folder_without_git_has_a_snapshot_too(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1\n")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / "x.bin").write_text("1\n")
    store = CodeStore(ProjectFolder(tmp_path)).create()
    snapshot = store.snapshot()
    assert sorted(store.modes(snapshot.tree)) == [".gitignore", "train.py"]
    assert (snapshot.head, snapshot.prefix) == ("", "")


def test_a_project_below_its_repository_is_found_in_the_whole(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "train.py").write_text("1\n")
    (tmp_path / "library.py").write_text("1\n")
    store = CodeStore(ProjectFolder(tmp_path / "experiments")).create()
    snapshot = store.snapshot()
    assert snapshot.prefix == "experiments/"
    assert sorted(store.modes(snapshot.tree)) == ["experiments/train.py", "library.py"]
    patch = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-1\n+2\n"
    with pytest.raises(GitError):
        store.applied(snapshot.tree, patch)
    after = store.applied(snapshot.tree, moved_below(patch, snapshot.prefix))
    assert store.text_of(after, "experiments/train.py") == "2\n"


@pytest.mark.parametrize(
    "patch",
    [
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,9 +1,7 @@\n-1\n+one\n 2\n 3\n",
        "--- x\n+++ x\n@@ -1,3 +1,3 @@\n-1\n+one\n 2\n 3\n",
    ],
)
def test_patches_that_were_written_by_hand_apply(tmp_path: Path, patch: str) -> None:
    (tmp_path / "x").write_text("1\n2\n3\n")
    store = CodeStore(ProjectFolder(tmp_path)).create()
    tree = store.snapshot().tree
    assert store.text_of(store.applied(tree, patch), "x") == "one\n2\n3\n"
    assert store.without(store.applied(tree, patch), store.diff(tree, store.applied(tree, patch))) == tree


def test_settings_of_the_user_do_not_reach_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[diff]\n\tnoprefix = true\n\texternal = false\n[core]\n\tautocrlf = input\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    project = tmp_path / "project"
    project.mkdir()
    (project / "x").write_bytes(b"1\r\n")
    store = CodeStore(ProjectFolder(project)).create()
    tree = store.snapshot().tree
    assert store.text_of(tree, "x") == "1\r\n"
    assert "a/x" in store.diff(tree, store.replaced(tree, {"x": "2\n"}))


def test_without_git_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(NotSupportedError, match="git is not installed"):
        CodeStore(ProjectFolder(tmp_path)).create()


def test_a_folder_that_is_gone_is_not_told_as_git_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"the folder .*nowhere is gone"):
        run_git(["status"], at=tmp_path / "nowhere")


def test_a_worktree_whose_making_was_broken_off_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    store = CodeStore(ProjectFolder(tmp_path)).create()
    commit, folder = store.snapshot().commit, tmp_path / ".hotlap" / "worktrees" / "r0001"
    store.check_out(commit, folder)
    (entry,) = (store.path / "worktrees").iterdir()
    (entry / "locked").write_text("initializing\n")  # as a git that was killed leaves it
    store.remove(folder)
    assert not entry.exists()
    assert not folder.exists()
    store.check_out(commit, folder)
    assert (folder / "a.py").read_text() == "x = 1\n"
