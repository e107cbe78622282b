"""Kept code goes into the user's files and repository when the user asks for it, and not before."""

from pathlib import Path

import pytest
from own_project import FASTER, all_decided, drive, fingerprint, git, make_project, patch_of

from hotlap.core.errors import StudyError
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.apply import plan_application
from hotlap.study.sources import NoPolicy, Sources

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet_machine")]


def studied(folder: Path) -> ProjectFolder:
    """Return a project whose study has kept one change of code, with something staged and something untracked."""
    project = make_project(folder / "project")
    patches = folder / "patches"
    patches.mkdir()
    (patches / "a.patch").write_text(patch_of(project, *FASTER))
    (project.project / "notes.txt").write_text("mine\n")
    (project.project / "staged.txt").write_text("mine, too\n")
    git(project.project, "add", "staged.txt")
    before = fingerprint(project)
    drive(project, lambda study: Sources(study, NoPolicy(), print, patches), all_decided(1))
    assert fingerprint(project) == before
    return project


def test_apply_writes_files_and_branch_and_leaves_index_and_branch_alone(tmp_path: Path) -> None:
    project = studied(tmp_path)
    root, config = project.project, project.project / "hotlap.yaml"
    status, head = git(root, "status", "--short", "--branch"), git(root, "rev-parse", "HEAD")
    before = fingerprint(project)
    plan = plan_application(project, config, "ladder")
    assert "+STEP_SECONDS = 0.01" in plan.diff("hotlap.yaml")
    assert fingerprint(project) == before
    assert plan.code is not None
    plan.code.write()
    assert "STEP_SECONDS = 0.01" in (root / "model.py").read_text()
    assert git(root, "rev-parse", "HEAD") == head
    assert git(root, "status", "--short", "--branch").replace(" M model.py\n", "") == status
    subjects = git(root, "log", "--format=%s", "hotlap/own").splitlines()
    assert subjects == ["a", f"The working tree at {head.strip()}", "first"]
    assert "STEP_SECONDS = 0.01" in git(root, "show", "hotlap/own:model.py")
    assert git(root, "fsck", "--strict") is not None
    again = plan_application(project, config, "1")
    assert again.is_done
    assert again.code is not None
    tip = git(root, "rev-parse", "hotlap/own")
    again.code.write()
    assert git(root, "rev-parse", "hotlap/own") == tip


def test_files_that_have_moved_on_are_told(tmp_path: Path) -> None:
    project = studied(tmp_path)
    (project.project / "model.py").write_text("STEP_SECONDS = 7\n")
    before = fingerprint(project)
    with pytest.raises(StudyError, match=r"do not fit the files in .* as they are now: .*model.py"):
        plan_application(project, project.project / "hotlap.yaml", "ladder")
    assert fingerprint(project) == before
