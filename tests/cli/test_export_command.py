"""`hotlap export RUN FOLDER` calls the launcher and prints its sentence."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hotlap.cli.main import app
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import export

RUNNER = CliRunner()


def test_the_run_is_found_by_its_name(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fake(folder: RunFolder, target: Path, step: int | None) -> str:
        asked.append((folder.run_id, target, step))
        return "written"

    monkeypatch.setattr(export, "export_run", fake)
    run = RunFolder.create(project.runs_path)
    run.write("result", {"outcome": "reached", "reason": "", "step": 1, "metrics": {}})
    for words in (["r1", "out"], ["@last", "out", "--step", "20"]):
        result = RUNNER.invoke(app, ["export", *words, "-p", str(project.project)])
        assert (result.exit_code, result.output) == (0, "written\n"), result.output
    assert asked == [("r0001", Path("out"), None), ("r0001", Path("out"), 20)]


def test_a_folder_that_is_no_project_is_told(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["export", "r1", "out", "-p", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "there is no .hotlap in" in str(result.exception)
