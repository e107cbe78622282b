"""`hotlap report` writes one of three forms, and says where."""

import json
from pathlib import Path

import pytest
import synthetic_sweep
from synthetic_sweep import sweep_history, write_folders
from typer.testing import CliRunner

from hotlap.cli.main import app
from hotlap.core.errors import ConfigError
from hotlap.core.study_folder import ProjectFolder
from hotlap.report import page
from hotlap.study import subject

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def one_study(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    past = sweep_history()
    write_folders(project, past)
    found = synthetic_sweep.analysis(past)
    about = subject.Subject("toy-sweep", past, synthetic_sweep.PROTOCOL)
    monkeypatch.setattr(subject, "read_subject", lambda project, name: about)
    monkeypatch.setattr(subject, "analysis_of", lambda about: found)
    monkeypatch.setattr(page, "plotly_script", lambda: "const Plotly = {};")


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_writes_beside_the_config_and_says_where(project: ProjectFolder, form: str) -> None:
    result = RUNNER.invoke(app, ["report", "--format", form, "-p", str(project.project)])
    path = project.project / f"report-toy-sweep.{form}"
    assert result.exit_code == 0, result.output
    assert result.output.strip() == f"wrote {path}"
    assert "learning_rate" in path.read_text(encoding="utf-8")


def test_writes_where_it_is_told_to(project: ProjectFolder, tmp_path: Path) -> None:
    path = tmp_path / "here.json"
    RUNNER.invoke(app, ["report", "--format", "json", "-o", str(path), "-p", str(project.project)])
    document = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert document["schema"] == "hotlap/report/1" and document["analysis"]["importances"]["state"] == "few"


def test_what_cannot_be_analysed_yet_has_a_report_that_says_so(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(about: object) -> None:
        raise ConfigError("there is no finished run to analyse yet")

    monkeypatch.setattr(subject, "analysis_of", refuse)
    result = RUNNER.invoke(app, ["report", "--format", "md", "-p", str(project.project)])
    assert result.exit_code == 0, result.output
    assert "there is no finished run to analyse yet" in (project.project / "report-toy-sweep.md").read_text()


def test_an_unknown_form_is_refused(project: ProjectFolder) -> None:
    result = RUNNER.invoke(app, ["report", "--format", "pdf", "-p", str(project.project)])
    assert result.exit_code == 2


def test_the_form_is_taken_from_the_name_of_the_file(project: ProjectFolder, tmp_path: Path) -> None:
    path = tmp_path / "here.md"
    result = RUNNER.invoke(app, ["report", "-o", str(path), "-p", str(project.project)])
    assert result.exit_code == 0, result.output
    assert path.read_text().startswith("<!-- written by hotlap report -->\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "html", "-o", "here.md"], "the name says md, --format says html"),
        (["-o", "here.txt"], "the name does not tell the form"),
        (["-o", "."], "the name does not tell the form"),
    ],
)
def test_a_name_and_a_form_that_do_not_fit_are_refused(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(project.project)
    result = RUNNER.invoke(app, ["report", *arguments])
    assert isinstance(result.exception, ConfigError) and told in str(result.exception)
    assert not list(project.project.glob("here*"))


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_a_report_is_written_anew_but_nothing_else_is_lost(project: ProjectFolder, form: str) -> None:
    path = project.project / f"own.{form}"
    arguments = ["report", "-o", str(path), "-p", str(project.project)]
    for _ in range(2):
        assert RUNNER.invoke(app, arguments).exit_code == 0
    foreign = f"<!doctype html> {{}}\n# Mine, about hotlap/report/1\n{path.read_text()}"
    path.write_text(foreign)
    result = RUNNER.invoke(app, arguments)
    assert isinstance(result.exception, ConfigError) and "was not written by hotlap report" in str(result.exception)
    assert path.read_text() == foreign
