"""Shared by all tests: a project folder, and an environment that does not depend on who runs them."""

from pathlib import Path

import pytest

from hotlap.core.study_folder import ProjectFolder


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the variables that change what commands print."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PAGER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """Return an empty project."""
    return ProjectFolder(tmp_path).create()
