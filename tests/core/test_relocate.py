"""Absolute paths of a project, pointed into a worktree."""

from pathlib import Path

import pytest

from hotlap.core.relocate import relocate, within


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    project, worktree = tmp_path / "project", tmp_path / "project" / ".hotlap" / "worktrees" / "r0001"
    (worktree / "src").mkdir(parents=True)
    (worktree / "train.py").touch()
    return project, worktree


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("python {p}/train.py --lr 1", "python {w}/train.py --lr 1"),
        ("PYTHONPATH={p}/src:/usr/lib python -m train", "PYTHONPATH={w}/src:/usr/lib python -m train"),
        ('cd "{p}" && python train.py', 'cd "{w}" && python train.py'),
        ("cd {p}; ls", "cd {w}; ls"),
        ("-v {p}/src:/app/src", "-v {w}/src:/app/src"),
        ("python {p}2/train.py", "python {p}2/train.py"),
        ("python {p}-old/train.py", "python {p}-old/train.py"),
        ("python /mnt{p}/train.py", "python /mnt{p}/train.py"),
        ("python {w}/train.py", "python {w}/train.py"),
        ("python train.py", "python train.py"),
    ],
)
def test_paths_of_the_project_point_into_the_worktree(places: tuple[Path, Path], before: str, after: str) -> None:
    project, worktree = places
    names = {"p": project, "w": worktree}
    assert relocate(before.format(**names), project, worktree)[0] == after.format(**names)


def test_what_the_worktree_lacks_stays_and_is_told(places: tuple[Path, Path]) -> None:
    project, worktree = places
    text, moves = relocate(f"{project}/.venv/bin/python {project}/train.py", project, worktree)
    assert text == f"{project}/.venv/bin/python {worktree}/train.py"
    assert [move.is_done for move in moves] == [False, True]
    assert "edits.link would bring it there" in str(moves[0])
    assert str(moves[1]) == f"{project}/train.py -> {worktree}/train.py"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{p}/data/a.txt", "data/a.txt"),
        ("words: {p}/a.txt, pairs: {p}/b c.jsonl", "words: a.txt, pairs: b c.jsonl"),
        ("{p}2/a.txt", "{p}2/a.txt"),
        ("/mnt{p}/a.txt", "/mnt{p}/a.txt"),
        ("docstrings of Python 3.11", "docstrings of Python 3.11"),
    ],
)
def test_people_are_told_paths_from_the_project_on(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "project")
    for place in ("project", "link"):
        assert within(before.format(p=tmp_path / place), tmp_path / "link") == after.format(p=tmp_path / place)
